"""A job's sign of life, once a second, and an agent's fence against a newer job of the same session.

It beats from a thread: on a machine that is short of processor time the loop that carries the audio may come late, and
a late beat would call a second job, which makes the machine slower still. A loop that truly hangs is found out: it no
longer ticks, and the beats end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable

import redis

from agent_runtime.db import DatabaseThread
from molts import beats
from molts.errors import Unavailable
from sessions import presence
from sessions.models import LiveSession
from sessions.presence import AgentBeat

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 3.0
DATABASE_SECONDS = 5.0
HUNG_SECONDS = 10.0  # a loop that has not come round for so long talks to nobody

# In one step: between a look and a write of ours a newer job could beat for the first time.
RENEW = """
local other = redis.call('get', KEYS[1])
if other and tonumber(string.match(other, '^%d+')) > tonumber(ARGV[1]) then return 0 end
redis.call('set', KEYS[1], ARGV[2], 'px', ARGV[3])
redis.call('set', KEYS[2], ARGV[4], 'px', ARGV[3])
return 1
"""


class Pulse(ABC):
    """Beats until closed, from a thread, for as long as the loop in which it was started comes round."""

    def __init__(self, *, hung_seconds: float) -> None:
        self._hung_seconds = hung_seconds
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._ticked_at = time.monotonic()

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._ticked_at = time.monotonic()
        self._ticker = loop.create_task(self._tick(), name="heartbeat")
        self._thread = threading.Thread(target=self._run, args=(loop,), name="heartbeat", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """Stop beating and drop the key, so that the end is noticed at once."""
        self._closing.set()
        if self._ticker is not None:
            self._ticker.cancel()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.to_thread(self._close)
        except (redis.RedisError, Unavailable, TimeoutError, OSError):
            logger.info("heartbeat not withdrawn")

    @abstractmethod
    def _beat(self, gap: float) -> Callable[[], object] | None:
        """Called in the thread, `gap` seconds after the beat before. Whatever it returns is called in the loop, and
        there are no more beats."""

    @abstractmethod
    def _withdraw(self) -> None:
        """Called in a thread after the last beat: drop what says that the job lives."""

    async def _tick(self) -> None:
        while True:
            self._ticked_at = time.monotonic()
            await asyncio.sleep(beats.BEAT_SECONDS / 2)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        beaten_at = time.monotonic()
        while True:
            # A loop that hangs: whoever waits for this job must learn it.
            hung = time.monotonic() - self._ticked_at > self._hung_seconds
            try:
                if not hung:
                    last_word = self._beat(time.monotonic() - beaten_at)
                    if last_word is not None:
                        loop.call_soon_threadsafe(last_word)
                        return
                    beaten_at = time.monotonic()
            except (redis.RedisError, Unavailable, OSError, TimeoutError):
                logger.warning("heartbeat not sent")
            if self._closing.wait(beats.BEAT_SECONDS):
                return

    def _close(self) -> None:
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)
        self._withdraw()


class Heartbeat(Pulse):
    """The agent's. `on_superseded` is called once, in the loop, when a newer job has the session, or it is over.

    The first beat comes before the job claims the session: whoever sees the claim also sees that somebody is alive.
    """

    def __init__(
        self,
        *,
        session_id: uuid.UUID,
        generation: int,
        identity: str,
        database: DatabaseThread,
        on_superseded: Callable[[], object],
        quiet_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`quiet_seconds` says for how long nothing has been said; it is called in another thread."""
        super().__init__(hung_seconds=HUNG_SECONDS)
        self._quiet_seconds = quiet_seconds
        self._session_id = session_id
        self._key = presence.agent_key(session_id)
        self._beat_of_mine = AgentBeat(generation, identity)
        self._database = database
        self._on_superseded = on_superseded

    async def first_beat(self) -> None:
        """Beat once, unless a job of this or a newer dispatch beats: it may be the one that gets the session.

        Redis being away is no reason not to talk.
        """
        with contextlib.suppress(redis.RedisError, OSError):
            await asyncio.to_thread(self._first_beat)

    # -- in the thread -------------------------------------------------------------------------------------------------
    def _beat(self, gap: float) -> Callable[[], object] | None:
        # A gap means that this job stood still (stopped, swapped out, hung) and may have been replaced meanwhile.
        stalled = gap > presence.AGENT_LOST_AFTER_MS / 1000
        if (stalled and self._is_replaced()) or not self._renew():
            logger.info("another job has the session", extra={"session_id": str(self._session_id)})
            return self._on_superseded
        return None

    def _first_beat(self) -> None:
        client, mine = beats.client(), self._beat_of_mine
        if client.set(self._key, str(mine), px=presence.AGENT_LOST_AFTER_MS, nx=True):
            return
        other = client.get(self._key)
        if other is None or AgentBeat.parse(str(other)).generation < mine.generation:
            self._renew()

    def _renew(self) -> bool:
        """Renew the key; False when it shows a newer generation."""
        mine, expiry = self._beat_of_mine, presence.AGENT_LOST_AFTER_MS
        quiet_ms, quiet_key = round(self._quiet_seconds() * 1000), presence.quiet_key(self._session_id)
        renewed = beats.client().eval(RENEW, 2, self._key, quiet_key, mine.generation, str(mine), expiry, quiet_ms)
        return bool(renewed)

    def _withdraw(self) -> None:
        client = beats.client()
        if client.get(self._key) == str(self._beat_of_mine):
            client.delete(self._key)

    def _is_replaced(self) -> bool:
        replaced = self._database.submit(_replaced, self._session_id, self._beat_of_mine.generation)
        return replaced.result(DATABASE_SECONDS)


def _replaced(session_id: uuid.UUID, generation: int) -> bool:
    session = LiveSession.objects.filter(pk=session_id).only("state", "claimed_generation").first()
    return session is None or not session.is_live or session.claimed_generation > generation
