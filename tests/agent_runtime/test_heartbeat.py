from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pytest_django import Settings

from agent_runtime import heartbeat
from agent_runtime.db import DatabaseThread
from agent_runtime.heartbeat import Heartbeat
from avatars.models import Agent
from molts import beats
from sessions import presence, services
from sessions.models import LiveSession
from sessions.presence import AgentBeat
from tests.agent_runtime.stack import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_redis")]


@pytest.fixture(autouse=True)
def _quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats, "BEAT_SECONDS", 0.05)


@pytest.fixture
def session(agent: Agent) -> LiveSession:
    session = services._create_session(agent=agent, link=None, visitor_name="", source="link")
    LiveSession.objects.filter(pk=session.pk).update(dispatch_generation=2, claimed_generation=2)
    session.refresh_from_db()
    return session


class Job:
    """A job as far as its heartbeat is concerned."""

    def __init__(self, session: LiveSession, *, generation: int = 2, identity: str = "agent-two") -> None:
        self.session = session
        self.left = asyncio.Event()
        self.times_left = 0
        self.database = DatabaseThread()
        self.heart = Heartbeat(
            session_id=session.pk,
            generation=generation,
            identity=identity,
            database=self.database,
            on_superseded=self._leave,
        )

    def _leave(self) -> None:
        self.times_left += 1
        self.left.set()

    async def aclose(self) -> None:
        await self.heart.aclose()
        self.database.close()

    async def beat_seen(self) -> str | None:
        seen = await asyncio.to_thread(beats.client().get, presence.agent_key(self.session.pk))
        return None if seen is None else str(seen)


@pytest_asyncio.fixture
async def job(session: LiveSession) -> AsyncIterator[Job]:
    job = Job(session)
    try:
        yield job
    finally:
        await job.aclose()


async def test_it_beats_with_its_generation_and_name_until_closed(job: Job) -> None:
    await job.heart.first_beat()
    assert await job.beat_seen() == "2:agent-two"
    job.heart.start()
    client = beats.client()
    key = presence.agent_key(job.session.pk)
    client.pexpire(key, 100)
    await asyncio.to_thread(wait_for, "a renewed beat", lambda: client.pttl(key) > 3_500, seconds=20)
    assert presence.presence(job.session.pk).agent_generation == 2
    await job.heart.aclose()
    assert await job.beat_seen() is None
    assert not job.left.is_set()


async def test_it_says_for_how_long_nothing_was_said(job: Job) -> None:
    await job.heart.first_beat()
    assert (await asyncio.to_thread(presence.presence, job.session.pk)).quiet_seconds is None  # nobody knows yet
    job.heart._quiet_seconds = lambda: 12.5
    job.heart.start()
    quiet = presence.quiet_key(job.session.pk)
    await asyncio.to_thread(wait_for, "a figure", lambda: beats.client().get(quiet) == "12500", seconds=20)
    seen = await asyncio.to_thread(presence.presence, job.session.pk)
    assert (seen.agent_generation, seen.quiet_seconds) == (2, 12.5)
    await job.heart.aclose()
    assert (await asyncio.to_thread(presence.presence, job.session.pk)).quiet_seconds is None


async def test_it_ends_in_time_although_redis_does_not_answer(session: LiveSession, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        job = Job(session)
        job.heart.start()
        began = time.monotonic()
        await job.aclose()
        assert time.monotonic() - began < heartbeat.CLOSE_SECONDS + 1


async def test_it_goes_on_beating_while_the_loop_is_late(job: Job) -> None:
    job.heart.start()
    await asyncio.to_thread(wait_for, "a beat", lambda: beats.client().get(job.heart._key), seconds=20)
    beats.client().delete(job.heart._key)
    time.sleep(0.5)  # noqa: ASYNC251 - the whole loop stands, as on a machine that is short of processor time
    assert beats.client().get(job.heart._key) == "2:agent-two"


async def test_a_loop_that_hangs_beats_no_more_until_it_comes_round(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job.heart, "_hung_seconds", 0.1)
    job.heart.start()
    time.sleep(0.3)  # noqa: ASYNC251
    beats.client().delete(job.heart._key)
    time.sleep(0.3)  # noqa: ASYNC251
    assert beats.client().get(job.heart._key) is None
    await asyncio.to_thread(wait_for, "a beat", lambda: beats.client().get(job.heart._key), seconds=20)
    assert not job.left.is_set()


async def test_it_leaves_once_when_a_newer_job_beats(job: Job) -> None:
    job.heart.start()
    await asyncio.sleep(0.1)
    newer = str(AgentBeat(3, "agent-three"))
    beats.client().set(presence.agent_key(job.session.pk), newer, px=4000)
    async with asyncio.timeout(5):
        await job.left.wait()
    await asyncio.sleep(0.2)
    assert job.times_left == 1
    assert await job.beat_seen() == newer  # not overwritten
    await job.heart.aclose()
    assert await job.beat_seen() == newer  # and not withdrawn


async def test_it_takes_over_from_an_older_job(job: Job) -> None:
    beats.client().set(presence.agent_key(job.session.pk), str(AgentBeat(1, "agent-one")), px=4000)
    await job.heart.first_beat()
    assert await job.beat_seen() == "2:agent-two"


async def test_it_leaves_the_beat_of_a_rival_for_the_same_call_alone(job: Job) -> None:
    """One call may bring two jobs; the one that does not get the session must not silence the other."""
    rival = str(AgentBeat(2, "agent-rival"))
    beats.client().set(presence.agent_key(job.session.pk), rival, px=4000)
    await job.heart.first_beat()
    assert await job.beat_seen() == rival
    await job.heart.aclose()
    assert await job.beat_seen() == rival


@pytest.mark.parametrize("change", [{"claimed_generation": 3}, {"state": "ended"}])
async def test_it_leaves_after_standing_still_when_it_was_replaced_meanwhile(
    job: Job, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replacement need not be beating yet: after a gap the database is asked."""
    await job.database.run(lambda: LiveSession.objects.filter(pk=job.session.pk).update(**change))
    monkeypatch.setattr(presence, "AGENT_LOST_AFTER_MS", 200)
    monkeypatch.setattr(job.heart, "_hung_seconds", 0.1)
    job.heart.start()
    await asyncio.sleep(0.02)
    _stand_still(0.5)
    async with asyncio.timeout(5):
        await job.left.wait()


async def test_it_goes_on_after_standing_still_when_nobody_took_its_place(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.heart.start()
    await asyncio.sleep(0.02)
    monkeypatch.setattr(presence, "AGENT_LOST_AFTER_MS", 200)
    monkeypatch.setattr(job.heart, "_hung_seconds", 0.1)
    _stand_still(0.5)
    monkeypatch.setattr(presence, "AGENT_LOST_AFTER_MS", 4000)
    await asyncio.sleep(0.2)
    assert not job.left.is_set()
    assert await job.beat_seen() == "2:agent-two"


async def test_it_outlives_redis_being_away(session: LiveSession, settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    job = Job(session)
    await job.heart.first_beat()
    job.heart.start()
    await asyncio.sleep(0.3)
    assert not job.left.is_set()
    assert job.heart._thread is not None
    assert job.heart._thread.is_alive()
    async with asyncio.timeout(3):
        await job.aclose()


def _stand_still(seconds: float) -> None:
    """Block the whole event loop, as a stopped process does."""
    time.sleep(seconds)


def test_only_the_job_that_ended_is_forgotten(session: LiveSession) -> None:
    key = presence.agent_key(session.pk)
    beats.client().set(key, str(AgentBeat(2, "agent-two")), px=4000)
    presence.forget_agent(session.pk, "agent-one")
    assert beats.client().get(key) == "2:agent-two"
    presence.forget_agent(session.pk, "agent-two")
    assert beats.client().get(key) is None
    presence.forget_agent(session.pk, "agent-two")  # again: nothing to do
