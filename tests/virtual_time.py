"""An event loop whose time is told by what is due in it: what takes seconds takes no time, on any machine."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Iterable
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """When nothing is left to do, it is at once the time at which something is due.

    It has no use for threads and other programs: whoever waits for them finds that hours have passed.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now

    def be_late(self, seconds: float) -> None:
        """As if the loop had been held up for so long."""
        self.now += seconds


class _Selector(selectors.DefaultSelector):
    """Waits by moving the loop's time on."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[Any, int]]:
        if timeout is None:
            return super().select(None)
        found: Iterable[tuple[Any, int]] = super().select(0)
        if not found:
            self._loop.now += timeout
        return list(found)
