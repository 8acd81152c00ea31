"""What the speech server says of itself, for `doctor` and metrics."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

from projects.providers.speech_protocol import socket_path


class SpeechServerSilent(Exception):
    """It does not answer, or not with what it should."""


def read_state(url: str, *, secret: str = "", timeout: float = 2.0) -> dict[str, Any]:
    """The state of the server at `url` (`unix:///path`, `ws://host:port`). Raises SpeechServerSilent."""
    connection = _connect(url, timeout)
    try:
        connection.request("GET", "/healthz", headers={"Authorization": f"Bearer {secret}"} if secret else {})
        answer = connection.getresponse()
        body = answer.read(1_000_000)
        if answer.status != http.HTTPStatus.OK:
            raise SpeechServerSilent(f"answers {answer.status}")
        return dict(json.loads(body))
    except (OSError, ValueError, TypeError, http.client.HTTPException) as error:
        raise SpeechServerSilent(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
    finally:
        connection.close()


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
