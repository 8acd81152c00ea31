"""The job's sign of life, once a second, and its fence against a newer job of the same session."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable

import redis

from agent_runtime.db import DatabaseThread
from sessions import presence
from sessions.models import LiveSession
from sessions.presence import AgentBeat

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 3.0


class Heartbeat:
    """Beats for one job until closed. `on_superseded` is called once when a newer job has the session, or it is over.

    The first beat comes before the job claims the session: whoever sees the claim also sees that somebody is alive.
    """

    def __init__(
        self,
        *,
        session_id: uuid.UUID,
        generation: int,
        identity: str,
        database: DatabaseThread,
        on_superseded: Callable[[], Awaitable[None]],
    ) -> None:
        self._session_id = session_id
        self._beat_of_mine = AgentBeat(generation, identity)
        self._database = database
        self._on_superseded = on_superseded
        self._redis = presence.async_client()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    async def first_beat(self) -> None:
        """Beat once, unless a job of this or a newer dispatch beats: it may be the one that gets the session.

        Redis being away is no reason not to talk.
        """
        key, mine = presence.agent_key(self._session_id), self._beat_of_mine
        with contextlib.suppress(redis.RedisError, OSError):
            if await self._redis.set(key, str(mine), px=presence.AGENT_LOST_AFTER_MS, nx=True):
                return
            other = await self._redis.get(key)
            if other is None or AgentBeat.parse(other).generation < mine.generation:
                await self._beat()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="heartbeat")

    async def aclose(self) -> None:
        """Stop beating and drop the key, so that the end is noticed at once."""
        self._closing = True  # a cancellation alone can get lost inside the Redis client
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=CLOSE_SECONDS)
        try:
            async with asyncio.timeout(2):
                key = presence.agent_key(self._session_id)
                if await self._redis.get(key) == str(self._beat_of_mine):
                    await self._redis.delete(key)
        except (redis.RedisError, TimeoutError, OSError):
            logger.info("heartbeat not withdrawn")
        finally:
            await self._redis.aclose()

    async def _run(self) -> None:
        last = time.monotonic()
        while not self._closing:
            # A gap means that this process stood still (stopped, swapped out) and may have been replaced meanwhile.
            stalled = time.monotonic() - last > presence.AGENT_LOST_AFTER_MS / 1000
            last = time.monotonic()
            try:
                if (stalled and await self._is_replaced()) or not await self._beat():
                    logger.info("another job has the session", extra={"session_id": str(self._session_id)})
                    await self._on_superseded()
                    return
            except (redis.RedisError, OSError):
                logger.warning("heartbeat not sent")
            await asyncio.sleep(presence.BEAT_SECONDS)

    async def _beat(self) -> bool:
        """Renew the key; False when it shows a newer generation."""
        key = presence.agent_key(self._session_id)
        other = await self._redis.get(key)
        if other is not None and AgentBeat.parse(other).generation > self._beat_of_mine.generation:
            return False
        await self._redis.set(key, str(self._beat_of_mine), px=presence.AGENT_LOST_AFTER_MS)
        return True

    async def _is_replaced(self) -> bool:
        return await self._database.run(_replaced, self._session_id, self._beat_of_mine.generation)


def _replaced(session_id: uuid.UUID, generation: int) -> bool:
    session = LiveSession.objects.filter(pk=session_id).only("state", "claimed_generation").first()
    return session is None or not session.is_live or session.claimed_generation > generation
