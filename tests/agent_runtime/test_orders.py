"""Orders on their way to the agent: kept until one has dealt with them, carried out once. Real Redis and database."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from livekit import rtc
from pytest_django import Settings

from agent_runtime import orders as orders_module
from agent_runtime.db import DatabaseThread
from agent_runtime.orders import Orders
from agent_runtime.recorder import SessionRecorder
from avatars.models import Agent
from molts import beats
from molts.errors import Unavailable
from sessions import lines, orders, presence, services
from sessions.models import LiveSession, Segment
from sessions.presence import AgentBeat
from sessions.spec import build_spec
from tests.agent_runtime.stack import RedisServer
from tests.sessions.factories import say

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_redis")]
AGENT = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT


class Speech:
    """A SpeechHandle: said when a test says so."""

    def __init__(self, number: int) -> None:
        self.id = f"speech_{number}"
        self.interrupted = False
        self._callbacks: list[Callable[[Any], None]] = []

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def end(self, *, interrupted: bool = False) -> None:
        self.interrupted = interrupted
        for callback in self._callbacks:
            callback(self)


@dataclass
class Job:
    """A job as far as orders are concerned; what it says is said when a test says so."""

    session: LiveSession
    generation: int = 1
    done: list[tuple[str, str]] = field(default_factory=list)
    speeches: list[Speech] = field(default_factory=list)
    left: int = 0
    fails_at: str = ""

    def __post_init__(self) -> None:
        LiveSession.objects.filter(pk=self.session.pk).update(dispatch_generation=self.generation)
        self.session.refresh_from_db()
        self.database = DatabaseThread()
        spec = build_spec(self.session)
        self.recorder = SessionRecorder(spec=spec, database=self.database)
        self.room: Any = SimpleNamespace(remote_participants={})
        agent_session: Any = SimpleNamespace(say=self._say, generate_reply=self._reply)
        self.orders = Orders(
            spec=spec,
            session=agent_session,
            recorder=self.recorder,
            database=self.database,
            known=set(),
            on_ready=lambda: None,
            answer=self._answer,
            leave=self._leave,
        )
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._running = asyncio.create_task(self.orders.run(self.room))

    async def stop(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        self.database.close()

    async def until_done(self, count: int, *, seconds: float = 20) -> list[tuple[str, str]]:
        async with asyncio.timeout(seconds):
            while len(self.done) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return self.done

    def _say(self, text: str) -> Speech:
        if text == self.fails_at:
            raise RuntimeError("the session is closing")
        return self._speech("agent", text)

    def _answer(self, text: str, segment_id: str) -> Any:
        if text == self.fails_at:
            raise ValueError("whatever")
        return self._speech("user", text)

    def _reply(self, *, user_input: str) -> Speech:
        return self._speech("open", user_input)

    def _speech(self, kind: str, text: str) -> Speech:
        self.done.append((kind, text))
        self.speeches.append(Speech(len(self.speeches)))
        return self.speeches[-1]

    def _leave(self) -> None:
        self.left += 1


@pytest.fixture
def session(agent: Agent) -> LiveSession:
    session = services._create_session(agent=agent, link=None, visitor_name="", source="link")
    LiveSession.objects.filter(pk=session.pk).update(state="active", agent_state="listening", claimed_generation=1)
    session.refresh_from_db()
    return session


@pytest_asyncio.fixture
async def jobs(session: LiveSession) -> AsyncIterator[Callable[[int], Any]]:
    made: list[Job] = []

    async def make(generation: int = 1) -> Job:
        made.append(await asyncio.to_thread(Job, session, generation))
        return made[-1]

    yield make
    for job in made:
        await job.stop()


async def give(session: LiveSession, *texts: str, speaker: str = "user") -> list[str]:
    return [str(await asyncio.to_thread(lines.say, session=session, text=text, speaker=speaker)) for text in texts]


async def beat(session: LiveSession, generation: int) -> None:
    value = str(AgentBeat(generation, f"agent-{generation}"))
    await asyncio.to_thread(beats.client().set, presence.agent_key(session.pk), value, px=60_000)


# -- one job -----------------------------------------------------------------------------------------------------------
async def test_what_was_ordered_before_it_listened_is_carried_out_in_order(session: LiveSession, jobs: Any) -> None:
    await give(session, "first")
    await give(session, "second", speaker="agent")
    job = await jobs()
    job.start()
    await job.until_done(2)
    await give(session, "third")
    assert await job.until_done(3) == [("user", "first"), ("agent", "second"), ("user", "third")]


@pytest.mark.parametrize("speaker", ["user", "agent"])
async def test_an_error_in_one_order_does_not_end_the_listening(session: LiveSession, jobs: Any, speaker: str) -> None:
    job = await jobs()
    job.fails_at = "bad"
    job.start()
    await give(session, "bad", "good", speaker=speaker)
    assert await job.until_done(1) == [(speaker, "good")]


async def test_one_that_redis_says_twice_is_carried_out_once(session: LiveSession, jobs: Any) -> None:
    order = orders.Order("one", "user", "once")
    job = await jobs()
    job.start()
    for _ in range(2):
        await asyncio.to_thread(orders.give_order, session.pk, order)
    await give(session, "next")
    assert await job.until_done(2) == [("user", "once"), ("user", "next")]


async def test_a_line_cut_off_before_anything_was_heard_is_said_again(session: LiveSession, jobs: Any) -> None:
    job = await jobs()
    job.start()
    await give(session, "we close", speaker="agent")
    await job.until_done(1)
    job.speeches[0].end(interrupted=True)
    assert await job.until_done(2) == [("agent", "we close")] * 2
    job.recorder.forget_speech(job.speeches[1].id)  # its first word was heard
    job.speeches[1].end(interrupted=True)
    await give(session, "next")
    assert await job.until_done(3) == [("agent", "we close")] * 2 + [("user", "next")]


async def test_a_line_that_can_never_be_said_is_not_tried_for_ever(session: LiveSession, jobs: Any) -> None:
    job = await jobs()
    job.start()
    await give(session, "we close", speaker="agent")
    for tried in range(orders_module.MOST_TRIES):
        await job.until_done(tried + 1)
        job.speeches[-1].end(interrupted=True)
    await give(session, "next")
    await job.until_done(orders_module.MOST_TRIES + 1)
    assert [text for _, text in job.done].count("we close") == orders_module.MOST_TRIES


# -- one after another -------------------------------------------------------------------------------------------------
async def test_what_a_closing_job_took_and_did_not_come_to_is_done_by_the_next(session: LiveSession, jobs: Any) -> None:
    closing = await jobs()
    closing.fails_at = "said late"
    closing.start()
    said, _ = await give(session, "said", "said late", speaker="agent")
    (typed,) = await give(session, "typed")
    await closing.until_done(2)
    await closing.stop()
    # Of these two it wrote the lines before it left; the third was never answered, the second never said.
    await asyncio.to_thread(_record, session, "agent", said)
    await asyncio.to_thread(_record, session, "user", typed)

    replacement = await jobs(2)
    replacement.start()
    await replacement.until_done(2)
    await give(session, "next")
    assert await replacement.until_done(3) == [("open", "words of " + typed), ("agent", "said late"), ("user", "next")]


def _record(session: LiveSession, role: str, segment_id: str) -> None:
    services.record_segment(
        session_id=session.pk, segment_id=segment_id, role=role, text=f"words of {segment_id}", start_ms=0, end_ms=1
    )


async def test_what_was_answered_is_not_answered_again(session: LiveSession, jobs: Any) -> None:
    for role, text in (("agent", "Hello."), ("user", "how much"), ("agent", "Ten.")):
        await asyncio.to_thread(say, session, role, text)
    job = await jobs(2)
    job.start()
    await give(session, "next")
    assert await job.until_done(1) == [("user", "next")]


async def test_spoken_lines_that_are_open_are_answered_together(session: LiveSession, jobs: Any) -> None:
    for role, text in (("agent", "Hello."), ("user", "how much"), ("user", "for two")):
        await asyncio.to_thread(say, session, role, text)
    job = await jobs(2)
    job.start()
    assert await job.until_done(1) == [("open", "how much\nfor two")]


@pytest.mark.parametrize(
    ("said", "open_line"),
    [
        ([("user", "how much"), ("agent", "Te…")], "how much"),  # cut off by the end of the job that gave it
        ([("user", "how much"), ("agent", "Te…"), ("user", "for two")], "for two"),  # by the visitor
        ([("agent", "He…")], ""),
    ],
)
async def test_an_answer_that_the_visitor_did_not_cut_short_is_given_again(
    session: LiveSession, jobs: Any, said: list[tuple[str, str]], open_line: str
) -> None:
    for role, text in said:
        await asyncio.to_thread(say, session, role, text)
    await asyncio.to_thread(Segment.objects.filter(text__endswith="…").update, interrupted=True)
    job = await jobs(2)
    job.start()
    await give(session, "next")
    wanted = [("open", open_line)] if open_line else []
    assert await job.until_done(len(wanted) + 1) == [*wanted, ("user", "next")]


@pytest.mark.parametrize("interrupted", [False, True])
async def test_what_is_said_beside_the_answers_leaves_a_line_open(
    session: LiveSession, jobs: Any, interrupted: bool
) -> None:
    """A line that a program ordered, and "One moment" of the local voice: the visitor has no answer yet."""
    for role, text in (("user", "thanks"), ("agent", "Not at all."), ("user", "how much")):
        await asyncio.to_thread(say, session, role, text)
    for beside, name in (("We close at six.", str(uuid.uuid4())), ("One moment, please.", lines.aside_id())):
        await asyncio.to_thread(
            partial(services.record_segment, session_id=session.pk, segment_id=name, role="agent", text=beside),
            start_ms=5_000,
            end_ms=6_000,
            interrupted=interrupted,
        )
    job = await jobs(2)
    job.start()
    assert await job.until_done(1) == [("open", "how much")]


async def test_an_answer_stands_although_something_was_said_beside_it(session: LiveSession, jobs: Any) -> None:
    for role, text in (("user", "how much"), ("agent", "Ten.")):
        await asyncio.to_thread(say, session, role, text)
    await asyncio.to_thread(
        partial(services.record_segment, session_id=session.pk, segment_id=str(uuid.uuid4()), role="agent"),
        text="We close at six.",
        start_ms=5_000,
        end_ms=6_000,
    )
    job = await jobs(2)
    job.start()
    await give(session, "next")
    assert await job.until_done(1) == [("user", "next")]


async def test_an_open_line_is_answered_although_the_visitor_speaks_into_the_answer_before_it_begins(
    session: LiveSession, jobs: Any
) -> None:
    await asyncio.to_thread(say, session, "user", "how much")
    job = await jobs(2)
    job.start()
    await job.until_done(1)
    job.speeches[0].end(interrupted=True)
    assert await job.until_done(2) == [("open", "how much")] * 2
    job.speeches[1].end()
    await give(session, "next")
    assert await job.until_done(3) == [("open", "how much")] * 2 + [("user", "next")]


async def test_a_visitors_first_line_is_answered_when_nobody_ever_spoke(session: LiveSession, jobs: Any) -> None:
    await asyncio.to_thread(say, session, "user", "anybody there")
    job = await jobs(2)
    job.start()
    assert await job.until_done(1) == [("open", "anybody there")]


async def test_it_waits_for_the_job_before_it_to_leave(session: LiveSession, jobs: Any) -> None:
    """Its last rows are in the database then, and nobody answers what it is answering."""
    await asyncio.to_thread(say, session, "user", "how much")
    job = await jobs(2)
    old = SimpleNamespace(kind=AGENT, attributes={})
    face = SimpleNamespace(kind=AGENT, attributes={"lk.publish_on_behalf": "agent-2"})
    job.room.remote_participants.update(old=old, face=face)
    job.start()
    await asyncio.sleep(0.3)
    assert job.done == []
    await asyncio.to_thread(say, session, "agent", "Ten.")
    del job.room.remote_participants["old"]
    await give(session, "next")
    assert await job.until_done(1) == [("user", "next")]


async def test_a_dead_job_that_still_stands_in_the_room_is_not_waited_for_long(
    session: LiveSession, jobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders_module, "LEAVE_SECONDS", 0.2)
    await asyncio.to_thread(say, session, "user", "how much")
    job = await jobs(2)
    job.room.remote_participants["dead"] = SimpleNamespace(kind=AGENT, attributes={})
    job.start()
    assert await job.until_done(1) == [("open", "how much")]


async def test_a_job_that_was_replaced_takes_nothing_and_leaves(session: LiveSession, jobs: Any) -> None:
    old = await jobs()
    old.start()
    await beat(session, 2)
    await give(session, "for the new one")
    async with asyncio.timeout(10):
        while not old.left:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert old.done == []
    new = await jobs(2)
    new.start()
    assert await new.until_done(1) == [("user", "for the new one")]
    assert (old.left, old.done) == (1, [])


# -- a Redis that stands still -----------------------------------------------------------------------------------------
@pytest.fixture
def frozen(own_redis: RedisServer) -> Iterator[Callable[[], None]]:
    """Makes Redis stand still; calling what it returns lets it go on."""

    def freeze() -> None:
        os.kill(own_redis.pid, signal.SIGSTOP)

    yield freeze
    os.kill(own_redis.pid, signal.SIGCONT)


@pytest.mark.slow
async def test_what_is_refused_while_redis_stands_still_is_not_done_later(
    session: LiveSession, jobs: Any, own_redis: RedisServer, frozen: Callable[[], None], settings: Settings
) -> None:
    job = await jobs()
    job.start()
    await give(session, "before")
    await job.until_done(1)
    frozen()
    refused = 0
    while refused < 3:
        try:
            await give(session, f"refused {refused}")
        except Unavailable:
            refused += 1
    # A call that is answered late: it was given while Redis stood still, and it goes on before the caller gives up.
    os.kill(own_redis.pid, signal.SIGCONT)
    await give(session, "after", "and again")
    assert await job.until_done(3) == [("user", "before"), ("user", "after"), ("user", "and again")]
    assert job.left == 0


async def test_one_that_comes_to_redis_too_late_is_not_taken(
    session: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood still between the two calls; whoever gave the order is told that it failed."""
    monkeypatch.setattr(orders, "ACCEPT_MS", -1)
    with pytest.raises(Unavailable):
        await give(session, "late")
    assert await asyncio.to_thread(beats.client().xlen, orders.orders_key(session.pk)) == 0
