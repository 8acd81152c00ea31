"""Files for what children print: rotated, and with every known secret blacked out before anything is written."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from molts.redact import Redactor

LONGEST_LINE = 64 * 1024


class LineSplitter:
    """Bytes in pieces to whole lines. A line without an end is given out in parts, so memory stays bounded."""

    def __init__(self) -> None:
        self._rest = b""

    def push(self, data: bytes) -> list[str]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            # Cut at the last blank, so that no secret is torn in two and slips through.
            cut = self._rest.rfind(b" ") + 1 or len(self._rest)
            lines.append(self._rest[:cut])
            self._rest = self._rest[cut:]
        return [line.decode("utf-8", "replace").rstrip("\r") for line in lines]

    def end(self) -> list[str]:
        rest, self._rest = self._rest, b""
        return [rest.decode("utf-8", "replace")] if rest else []


class PartLog:
    """`<folder>/<part>.log`, at most `keep` older files of at most `limit` bytes each beside it."""

    def __init__(
        self, folder: Path, part: str, redact: Redactor, *, limit: int = 5 * 1024 * 1024, keep: int = 3
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / f"{part}.log"
        self.last_lines: deque[str] = deque(maxlen=50)
        self._redact = redact
        self._limit = limit
        self._keep = keep
        self._open()

    def write(self, line: str) -> str:
        """Writes one line; returns it as it was written. A full disk loses the line, never the part."""
        shown = self._redact(line)
        self.last_lines.append(shown)
        try:
            self._write(shown.encode("utf-8", "replace") + b"\n")
        except OSError:
            return shown
        return shown

    def close(self) -> None:
        os.close(self._file)

    def _write(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self._limit:
            self._rotate()
        os.write(self._file, data)
        self._size += len(data)

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        os.close(self._file)
        for number in range(self._keep - 1, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            if older.exists():
                older.replace(self.path.with_name(f"{self.path.name}.{number + 1}"))
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        self._open()
