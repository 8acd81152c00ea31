"""Questions to a part whose answer shows that it lives. They never raise, and each has a deadline of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from molts.life import life_file

Alive = Callable[[int], Awaitable[bool]]
"""Whether the process with this id gives a sign of life now."""


class Touched:
    """Whether a process of ours touched its file (`molts.life`) since the question before.

    Who cannot reach `needs` may be waiting for it: then nobody knows, and it counts as alive.
    """

    def __init__(self, data_dir: Path, part: str, *, needs: Callable[[], Awaitable[bool]] | None = None) -> None:
        self._data_dir = data_dir
        self._part = part
        self._needs = needs
        self._seen: tuple[int, int] | None = None

    async def __call__(self, pid: int) -> bool:
        try:
            seen = (pid, life_file(self._data_dir, self._part, pid).stat().st_mtime_ns)
        except OSError:
            return False
        if seen != self._seen:
            self._seen = seen
            return True
        return self._needs is not None and not await self._needs()


def answering(question: Callable[[], Awaitable[bool]]) -> Alive:
    """A server lives when it answers, whatever its process id is."""

    async def alive(_: int) -> bool:
        return await question()

    return alive


async def http_answers(
    url: str, *, status: int, host: str = "", socket_path: str | None = None, seconds: float = 2.0
) -> bool:
    """Whether a GET of `url` (over the socket at `socket_path`, when given) answers with this status in time."""
    place = urlsplit(url)
    request = f"GET {place.path or '/'} HTTP/1.0\r\nHost: {host or place.netloc}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(seconds):
            if socket_path is not None:
                reader, writer = await asyncio.open_unix_connection(socket_path)
            else:
                reader, writer = await asyncio.open_connection(place.hostname, place.port)
            try:
                writer.write(request.encode())
                first = await reader.readline()
            finally:
                writer.close()
    except (OSError, ValueError):  # away, silent, or talking nonsense
        return False
    return first.split()[1:2] == [str(status).encode()]


async def redis_answers(host: str, port: int, password: str | None) -> bool:
    """Whether Redis there takes the password and answers PING, within two seconds."""
    login = f"*2\r\n$4\r\nAUTH\r\n${len(password)}\r\n{password}\r\n" if password else ""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"{login}*1\r\n$4\r\nPING\r\n".encode())
                answers = [await reader.readline() for _ in range(2 if password else 1)]
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return answers[-1] == b"+PONG\r\n"


async def speech_answers(url: str) -> bool:
    """Whether the speech server at `url` answers, with or without its model."""
    path = urlsplit(url).path if url.startswith("unix:") else None
    return await http_answers(f"{url if path is None else 'http://speech'}/healthz", status=200, socket_path=path)
