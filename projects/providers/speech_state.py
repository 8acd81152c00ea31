"""What the speech server says of itself, for `doctor`, metrics and the admin."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

from projects.providers.speech_protocol import socket_path

MAX_BYTES = 1_000_000


class SpeechServerSilent(Exception):
    """It does not answer, or not with what it should."""


def read_state(url: str, *, secret: str = "", timeout: float = 2.0) -> dict[str, Any]:
    """The state of the server at `url` (`unix:///path`, `ws://host:port`).

    Raises SpeechServerSilent, after `timeout` seconds at the latest, however the server behaves.
    """
    connection = _connect(url, timeout)
    answers: queue.SimpleQueue[dict[str, Any] | Exception] = queue.SimpleQueue()
    opened: list[socket.socket] = []

    def ask() -> None:
        try:
            with contextlib.closing(connection):
                connection.connect()
                opened.append(connection.sock)
                answers.put(_ask(connection, secret))
        except Exception as error:
            answers.put(error)

    # In a thread: a socket's own timeout begins anew with every byte, and looking up a name has none.
    threading.Thread(target=ask, name="speech-state", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except queue.Empty:
        raise SpeechServerSilent(f"no answer in {timeout:g} s") from None
    finally:
        for each in opened:  # ends what the thread may still wait for
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
    if isinstance(answer, Exception):
        raise SpeechServerSilent(_reason(answer)) from answer
    return answer


def _ask(connection: http.client.HTTPConnection, secret: str) -> dict[str, Any]:
    connection.request("GET", "/healthz", headers={"Authorization": f"Bearer {secret}"} if secret else {})
    with connection.getresponse() as answer:
        if answer.status != http.HTTPStatus.OK:
            raise SpeechServerSilent(f"answers {answer.status}")
        return dict(json.loads(answer.read(MAX_BYTES)))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _connect(url: str, timeout: float) -> http.client.HTTPConnection:
    if path := socket_path(url):
        return _SocketConnection(path, timeout)
    place = urlsplit(url)
    kind = http.client.HTTPSConnection if place.scheme == "wss" else http.client.HTTPConnection
    return kind(place.hostname or "", place.port, timeout=timeout)


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a socket of this machine."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("speech", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
