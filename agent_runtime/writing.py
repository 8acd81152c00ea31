"""Writes rows in the order in which they were asked for, and goes on trying while the database is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, DataError, IntegrityError

from agent_runtime.db import DatabaseThread

logger = logging.getLogger(__name__)

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
FLUSH_SECONDS = 20.0


class RowWriter:
    """A queue before one database thread. `start`, then `write` without waiting, then `aclose`."""

    def __init__(self, database: DatabaseThread) -> None:
        self._database = database
        self._queue: asyncio.Queue[Callable[[], Any] | None] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._writer = asyncio.create_task(self._write_all(), name="recorder")

    @property
    def is_open(self) -> bool:
        return self._writer is not None

    def write(self, call: Callable[[], Any]) -> None:
        self._queue.put_nowait(call)

    async def flush(self, *, seconds: float) -> None:
        """Wait until what was asked for so far is written, but not longer."""
        if self._writer is None:
            return
        loop, written = asyncio.get_running_loop(), asyncio.Event()
        self.write(lambda: loop.call_soon_threadsafe(written.set))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await written.wait()

    async def aclose(self) -> None:
        """Write everything that was asked for, within a deadline. The second call finds nothing left to do."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        await self._queue.put(None)
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await writer
        except TimeoutError:
            # Waiting is what was cut off, and with it the writer.
            logger.error("recorder could not write everything", extra={"left": self._queue.qsize()})

    async def _write_all(self) -> None:
        while (call := await self._queue.get()) is not None:
            await self._write_one(call)

    async def _write_one(self, call: Callable[[], Any]) -> None:
        """Try until the database takes it. A row that is refused for what it is cannot get better and is logged."""
        attempt = 0
        while True:
            try:
                await self._database.run(call)
                return
            except IntegrityError:
                # The session's row went meanwhile (erased by its visitor, or a check that cleaned up).
                logger.info("not recorded: its conversation is gone")
                return
            except DataError:
                logger.exception("could not record")  # refused for what it is: it cannot get better
                return
            except DatabaseError:
                pause = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                attempt += 1
                logger.warning("database away, trying again", extra={"pause": pause, "waiting": self._queue.qsize()})
                await asyncio.sleep(pause)
            except ObjectDoesNotExist:
                return  # the visitor erased the conversation: there is nothing to keep any more
            except Exception:
                logger.exception("could not record")
                return
