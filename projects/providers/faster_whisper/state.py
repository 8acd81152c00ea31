"""What the speech server says of itself, for `doctor`, metrics and the admin."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx2

from molts.http import EVERY_NETWORK, ResponseLimits, fetch
from projects.providers.faster_whisper.protocol import socket_path

MAX_BYTES = 1_000_000


class SpeechServerSilent(Exception):
    """It does not answer, or not with what it should."""


def read_state(url: str, *, secret: str = "", timeout: float = 2.0) -> dict[str, Any]:
    """The state of the server at `url` (`unix:///path`, `ws://host:port`).

    Raises SpeechServerSilent, after `timeout` seconds at the latest, however the server behaves.
    """
    limits = ResponseLimits(connect_seconds=timeout, read_seconds=timeout, total_seconds=timeout, max_bytes=MAX_BYTES)
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    path = socket_path(url)
    address = "http://speech/healthz" if path else _health_url(url)
    try:
        answer = fetch(address, headers=headers, limits=limits, allowed_networks=EVERY_NETWORK, unix_socket=path)
        if answer.status_code != HTTPStatus.OK:
            raise SpeechServerSilent(f"answers {answer.status_code}")
        return dict(answer.json())
    except httpx2.TimeoutException as error:
        raise SpeechServerSilent(f"no answer in {timeout:g} s") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TypeError) as error:
        raise SpeechServerSilent(str(error) or type(error).__name__) from error


def _health_url(url: str) -> str:
    place = urlsplit(url)
    return f"{'https' if place.scheme == 'wss' else 'http'}://{place.netloc.rpartition('@')[2]}/healthz"
