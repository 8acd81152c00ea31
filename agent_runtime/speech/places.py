"""Where the speech server listens: sockets of this machine, and addresses of the network."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from molts.errors import BadConfiguration


@dataclass(frozen=True)
class ListeningPlaces:
    """Where to listen: sockets of this machine, and addresses of the network."""

    sockets: tuple[Path, ...] = ()
    addresses: tuple[tuple[str, int], ...] = ()

    @classmethod
    def parse(cls, words: Sequence[str]) -> ListeningPlaces:
        """From `unix:///path` and `host:port`. Raises BadConfiguration."""
        sockets, addresses = [], []
        for word in words:
            parts = urlsplit(word if "://" in word else f"tcp://{word}")
            try:
                port = parts.port
            except ValueError:
                port = None
            if parts.scheme == "unix" and parts.path:
                sockets.append(Path(parts.path))
            elif parts.scheme == "tcp" and parts.hostname and port is not None:
                addresses.append((parts.hostname, port))
            else:
                raise BadConfiguration(f"MOLTS_SPEECH_LISTEN: {word!r} is neither host:port nor unix:///path.")
        return cls(tuple(sockets), tuple(addresses))

    @property
    def beyond_this_machine(self) -> bool:
        return any(not _is_loopback(host) for host, _ in self.addresses)


def open_sockets(places: ListeningPlaces) -> list[socket.socket]:
    """Raises OSError, naming the place."""
    opened: list[socket.socket] = []
    for path in places.sockets:
        opened.append(_local_socket(path))
    for host, port in places.addresses:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        place = socket.socket(family, socket.SOCK_STREAM)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            place.bind((host, port))
        except OSError as error:
            raise OSError(error.errno, f"{host}:{port}: {error.strerror}") from error
        opened.append(place)
    return opened


def _local_socket(path: Path) -> socket.socket:
    """Only our own user may connect. What a killed server left at `path` makes room; anything else stays.

    Raises OSError, when another server listens there too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(f"{path}: there is a file that is no socket")
        if _is_served(path):
            raise OSError(errno.EADDRINUSE, f"{path}: another server listens there")
        path.unlink()
    place = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        place.bind(str(path))
    except OSError as error:
        raise OSError(error.errno, f"{path}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    return place


def _is_served(path: Path) -> bool:
    """Whether somebody listens at the socket; what a killed process left refuses."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # so many wait already
            return True
        except OSError:
            return False
        return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
