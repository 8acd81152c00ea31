"""What the person set for this start, and what follows from it for addresses and files."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# What servers other than ours need from the environment: nothing secret.
PLAIN_NAMES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER")


@dataclass(frozen=True)
class GivenEnvironment:
    """What the person set: the environment, and .env below it."""

    values: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        value = self.values.get(name, "").strip()
        file_name = self.values.get(f"{name}_FILE", "").strip()
        if not value and file_name:
            value = Path(file_name).read_text(encoding="utf-8").strip()
        return value or default

    def has(self, name: str) -> bool:
        return bool(self.text(name))

    def words(self, name: str) -> list[str]:
        """A comma-separated list."""
        return [word.strip() for word in self.text(name).split(",") if word.strip()]

    def number(self, name: str, default: int) -> int:
        """The settings have checked the value already."""
        return int(self.text(name, str(default)))


@dataclass(frozen=True)
class Keys:
    """The media server's API key and its secret."""

    key: str
    secret: str


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def local_url(host: str, port: int) -> str:
    """How this machine reaches a server of ours that binds `host`."""
    if host in ("0.0.0.0", "localhost"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read; a reader never sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def plain_environment(given: GivenEnvironment) -> dict[str, str]:
    return {name: given.values[name] for name in PLAIN_NAMES if name in given.values}
