"""The ORM from asyncio code: one thread of its own, connections of its own, calls in order.

One thread means that writes keep the order in which they were asked for and that the job's event loop, which carries
the audio, never waits for a lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, connections

P = ParamSpec("P")
R = TypeVar("R")

IDLE_SECONDS = 30.0


class DatabaseThread:
    """Runs synchronous functions that use the ORM."""

    def __init__(self, name: str = "database") -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._used_at = time.monotonic()

    async def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Result of `function`; its exceptions are raised here."""
        return await asyncio.wrap_future(self.submit(function, *args, **kwargs))

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """The same for a thread without a loop."""
        return self._executor.submit(self._call, partial(function, *args, **kwargs))

    def close(self) -> None:
        """Let what runs finish; start nothing more."""
        self._executor.submit(connections.close_all)
        self._executor.shutdown(wait=False, cancel_futures=False)

    def _call(self, function: Callable[[], R]) -> R:
        """Nothing ends a "request" here. A connection is kept while it is in use, for making one takes longer than most
        calls, and while an answer is being prepared that is time the visitor waits. It is dropped when it has been
        idle, since the server may have dropped it too, and after an error."""
        if time.monotonic() - self._used_at > IDLE_SECONDS:
            connections.close_all()
        try:
            return function()
        except DatabaseError:
            connections.close_all()
            raise
        finally:
            self._used_at = time.monotonic()
