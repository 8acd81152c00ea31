"""Free ports on one address, the same ones from start to start where possible.

A page that is open in a browser finds the media server again after a restart only when its port stays the same, so the
ports of the last start are tried first.
"""

from __future__ import annotations

import json
import random
import socket
from contextlib import closing
from pathlib import Path

# Below the range that Linux gives to outgoing connections: none of those can sit on our port when a part restarts.
LOWEST, HIGHEST = 20_000, 32_000
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class NoFreePort(Exception):
    """Nothing was free within the range."""


def is_free(host: str, port: int, kind: str = "tcp") -> bool:
    """Whether `host:port` can be bound right now. `kind` is "tcp" or "udp"."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, KINDS[kind])) as probe:
        if kind == "tcp":
            # A listener that has just ended leaves connections in TIME_WAIT; servers bind over those, so do we.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


class PortBook:
    """Names to ports, remembered in a file. Two names never get the same port."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = self._read()
        self._chosen: dict[str, int] = {}

    def choose(self, name: str, *, host: str = "127.0.0.1", kind: str = "tcp") -> int:
        last = self._last.get(name)
        candidates = [last] if last else []
        candidates += random.sample(range(LOWEST, HIGHEST), 200)
        for port in candidates:
            if port not in self._chosen.values() and is_free(host, port, kind):
                self._chosen[name] = port
                return port
        raise NoFreePort(f"no free {kind} port between {LOWEST} and {HIGHEST} on {host}")

    def save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.write_text(json.dumps(self._chosen))

    def _read(self) -> dict[str, int]:
        try:
            book = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return (
            {str(name): port for name, port in book.items() if isinstance(port, int)} if isinstance(book, dict) else {}
        )
