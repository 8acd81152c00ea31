"""Waiting for what comes from somewhere, but only so long."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable
from typing import Any, Generic, TypeVar

from livekit.agents.utils import aio

T = TypeVar("T")


class Over(Exception):
    """There is nothing more to come."""


class Incoming(Generic[T]):
    """Reads a source in a task of its own, so that giving up to wait for its next item does not disturb it."""

    def __init__(self, source: AsyncIterable[T]) -> None:
        self._source = source
        self._items: deque[T] = deque()
        self._error: BaseException | None = None
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read(), name="incoming")

    async def ready(self, seconds: float | None) -> bool:
        """Whether there is something to take within `seconds`. `wake` ends the wait early."""
        if not self._has_something:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), seconds)
        return self._has_something

    def take(self) -> T:
        """The next item. Raises what the source raised, and Over when it has ended."""
        if self._items:
            return self._items.popleft()
        assert self._error is not None
        raise self._error

    def wake(self) -> None:
        self._news.set()

    async def aclose(self) -> None:
        await aio.cancel_and_wait(self._task)

    @property
    def _has_something(self) -> bool:
        return bool(self._items) or self._error is not None

    async def _read(self) -> None:
        try:
            async for item in self._source:
                self._items.append(item)
                self._news.set()
            self._error = Over()
        except Exception as error:
            self._error = error
        finally:
            self._news.set()
            close: Any = getattr(self._source, "aclose", None)
            if close is not None:
                with contextlib.suppress(Exception):
                    await close()
