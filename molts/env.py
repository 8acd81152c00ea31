"""Typed reading of the environment. Settings are the only reader; a bad value stops the start and names itself.

Order of precedence for a plain value: the environment, then `<data dir>/run/up.env` (written by a running `up`, so
that `doctor` or a shell in another terminal talks to the running copy), then the default. Secrets also come from the
file named by `NAME_FILE`, then from `<data dir>/secrets/<name>`, which is created on first use.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets as random_secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}
HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*")


class Env:
    """Reads settings by name. `values` wins over `fallback`."""

    def __init__(self, values: Mapping[str, str], fallback: Mapping[str, str] | None = None) -> None:
        self._values = values
        self._fallback = fallback or {}

    def text(self, name: str, default: str = "") -> str:
        """The value of NAME, or of the file that NAME_FILE points at."""
        if name in self._values:
            return self._values[name].strip()
        file_name = self._values.get(f"{name}_FILE")
        if file_name:
            try:
                return Path(file_name).read_text(encoding="utf-8").strip()
            except OSError as error:
                raise bad(f"{name}_FILE", file_name, f"a readable file ({error.strerror})") from error
        return self._fallback.get(name, default).strip()

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name, "1" if default else "0").lower()
        if value in TRUE:
            return True
        if value in FALSE:
            return False
        raise bad(name, value, "yes or no")

    def number(self, name: str, default: int, *, minimum: int = 0, maximum: int | None = None) -> int:
        value = self.text(name, str(default))
        expected = f"a whole number of at least {minimum}" + (f" and at most {maximum}" if maximum is not None else "")
        try:
            number = int(value)
        except ValueError as error:
            raise bad(name, value, expected) from error
        if number < minimum or (maximum is not None and number > maximum):
            raise bad(name, value, expected)
        return number

    def even(self, name: str, default: int, *, minimum: int = 64, maximum: int) -> int:
        """An even whole number, as video wants for its sides."""
        number = self.number(name, default, minimum=minimum, maximum=maximum)
        if number % 2:
            raise bad(name, str(number), f"an even number of at least {minimum} and at most {maximum}")
        return number

    def window(self, name: str) -> float | None:
        """Seconds between 1 and 30; "full" is 30, and "auto" None."""
        value = self.text(name, "auto").lower()
        if value == "auto":
            return None
        try:
            seconds = 30.0 if value == "full" else float(value)
        except ValueError:
            seconds = 0.0
        if not 1 <= seconds <= 30:
            raise bad(name, value, "auto, full, or seconds between 1 and 30")
        return seconds

    def words(self, name: str, default: str = "") -> list[str]:
        """A comma-separated list."""
        return [word.strip() for word in self.text(name, default).split(",") if word.strip()]

    def url(self, name: str, default: str, *, schemes: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value and (urlsplit(value).scheme not in schemes or not _has_place(value)):
            raise bad(
                name, _without_password(value), f"a URL that starts with {' or '.join(s + '://' for s in schemes)}"
            )
        return value.rstrip("/") if value else value

    def choice(self, name: str, default: str, *, choices: tuple[str, ...]) -> str:
        """One of `choices`, in whatever case it was written."""
        value = self.text(name, default)
        for choice in choices:
            if value.lower() == choice.lower():
                return choice
        raise bad(name, value, f"one of {', '.join(choices)}")

    def addresses(self, name: str) -> dict[str, str]:
        """NAME=ADDRESS pairs, separated by commas; an address is `unix:/path` or `host:port`."""
        found = {}
        for word in self.words(name):
            key, _, address = word.partition("=")
            if not re.fullmatch(r"[a-z0-9_]+", key) or not re.fullmatch(r"unix:/.+|[^\s/]+:[1-9][0-9]{0,4}", address):
                raise bad(name, word, "pairs such as synctalk=unix:/path/to/socket or ditto=gpu-box:7411")
            found[key] = address
        return found

    def rate(self, name: str, default: str) -> str:
        """A count per second, minute, hour or day, as REST framework's throttles read it: `30/min`."""
        value = self.text(name, default)
        if not re.fullmatch(r"[1-9]\d{0,8}/(s|sec|m|min|h|hour|d|day)", value):
            raise bad(name, value, "a rate such as 30/min or 1000/day")
        return value

    def networks(self, name: str) -> list[str]:
        """Networks as addresses with a prefix length, separated by commas."""
        for word in self.words(name):
            try:
                ipaddress.ip_network(word, strict=False)
            except ValueError as error:
                raise bad(name, word, "networks such as 192.168.1.0/24, separated by commas") from error
        return self.words(name)

    def origins(self, name: str) -> list[str]:
        """Origins (scheme and host), separated by commas."""
        for word in self.words(name):
            if not re.fullmatch(r"https?://[^/\s]+", word):
                raise bad(name, word, "origins such as https://example.org, separated by commas")
        return self.words(name)

    def servers(self, name: str) -> list[str]:
        """Addresses of servers as HOST:PORT, separated by commas; an IPv6 address is in brackets."""
        for word in self.words(name):
            host, _, port = word.rpartition(":")
            if not _is_host(host) or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
                raise bad(
                    name, word, "addresses such as stun.example.org:3478 or [2001:db8::7]:3478, separated by commas"
                )
        return self.words(name)

    def host(self, name: str, default: str) -> str:
        """An IP address or a host name."""
        value = self.text(name, default)
        if not _is_address(value) and not HOST_NAME.fullmatch(value):
            raise bad(name, value, "an IP address or a host name")
        return value

    def address(self, name: str) -> str:
        """One IP address that can be told to others, or nothing."""
        value = self.text(name)
        if not value:
            return value
        expected = "an IP address of this machine or of the router before it, such as 203.0.113.7"
        try:
            address = ipaddress.ip_address(value)
        except ValueError as error:
            raise bad(name, value, expected) from error
        if address.is_unspecified or address.is_multicast:
            raise bad(name, value, expected)
        return value

    def secret(self, name: str, *, folder: Path, make: Callable[[], str], at_least: int = 1) -> str:
        """A secret from the environment or a file; otherwise from `folder`, where it is made once (mode 0600)."""
        value = self.text(name)
        if not value:
            value = read_or_make_secret(folder / name.lower(), make)
        if len(value) < at_least:
            raise bad(name, "(hidden)", f"at least {at_least} characters")
        return value


def bad(name: str, value: str, expected: str) -> ImproperlyConfigured:
    shown = value if len(value) <= 80 else value[:77] + "..."
    return ImproperlyConfigured(f"{name}={shown!r} is not valid: expected {expected}.")


def read_or_make_secret(path: Path, make: Callable[[], str]) -> str:
    """Content of `path`; made with `make` when it does not exist. Safe when several processes start at once."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        make_folder(path.parent, fix="choose another place with MOLTS_DATA_DIR", mode=0o700)
    except OSError as error:
        raise unusable(path, error, "let our user read it, or choose another place with MOLTS_DATA_DIR") from error
    # Written whole under another name first: a process that starts beside us must never read half a secret.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{random_secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(make() + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first; its secret is the one
    finally:
        draft.unlink()
    return path.read_text(encoding="utf-8").strip()


def make_folder(path: Path, *, fix: str, mode: int = 0o777) -> None:
    """Makes the folder where it is missing. Raises ImproperlyConfigured with `mend` when it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise unusable(path, error, fix) from error


def unusable(path: Path, error: OSError, fix: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{path} cannot be used ({error.strerror}): {fix}.")


def read_env_file(path: Path) -> dict[str, str]:
    """`NAME=value` lines; comments and blank lines skipped; surrounding quotes removed. A missing file is empty."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    values = {}
    for line in lines:
        line = line.strip()
        if not line or line.startswith("#") or "=" not in line:
            continue
        name, _, value = line.removeprefix("export ").partition("=")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        values[name.strip()] = value
    return values


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_host(text: str) -> bool:
    """Whether a port may follow: a name, an IPv4 address, or an IPv6 address in brackets."""
    if text.startswith("[") and text.endswith("]"):
        return ":" in text and _is_address(text[1:-1])
    return HOST_NAME.fullmatch(text) is not None


def _has_place(value: str) -> bool:
    parts = urlsplit(value)
    return bool(parts.netloc or parts.path)


def _without_password(value: str) -> str:
    parts = urlsplit(value)
    if parts.password is None:
        return value
    return value.replace(f":{parts.password}@", ":***@")
