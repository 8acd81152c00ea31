"""The terminal of `manage.py up`: one readable line per event, with the name of the part."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TextIO

COLOURS = {"redis": 35, "media": 34, "web": 32, "jobs": 36, "clock": 90, "agent": 33, "models": 94, "check": 96}
BOLD, RED = 1, 31


class Console:
    """One readable line per event. Colours on a terminal only; a closed terminal stops nobody."""

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        self._stream = stream
        self._verbose = verbose
        self.is_terminal = stream.isatty()
        self._colours = self.is_terminal and not os.environ.get("NO_COLOR")
        self._unfinished = False

    def event(self, part: str, text: str, *, trouble: bool = False) -> None:
        self.line(self._headed(part, self._paint(RED, text) if trouble else text))

    def output(self, part: str, line: str) -> None:
        if self._verbose:
            self.line(f"{self._paint(COLOURS.get(part, BOLD), f'{part:>16} |')} {line}")

    def line(self, text: str) -> None:
        with suppress(OSError, ValueError):
            print(f"\r\033[K{text}" if self._unfinished else text, file=self._stream, flush=True)
            self._unfinished = False

    def progress(self, part: str, text: str) -> None:
        """A line that the next one takes the place of on a terminal, and a line like any other elsewhere."""
        if not self.is_terminal:
            self.event(part, text)
            return
        with suppress(OSError, ValueError):
            print(f"\r\033[K{self._headed(part, text)}", end="", file=self._stream, flush=True)
            self._unfinished = True

    def _headed(self, part: str, text: str) -> str:
        return f"{time.strftime('%H:%M:%S')} {self._paint(COLOURS.get(part, BOLD), f'{part:<7}')} {text}"

    def _paint(self, colour: int, text: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._colours else text
