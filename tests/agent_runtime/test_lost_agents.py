"""Jobs that are killed or stand still in the middle of a conversation."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from functools import partial

import psutil
import pytest

from molts.errors import MoltsError
from sessions import lines, presence
from sessions.models import LiveSession
from tests.agent_runtime.stack import RedisServer, kill
from tests.agent_runtime.talk import ANSWERS, MEETING, PHONE, TABLE, Desk, dense, in_whole_turns, same_words
from tests.visitor import Visitor

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clock")]
GREETING = ("agent", "Hello, this is Ada.")


async def only_job(desk: Desk) -> psutil.Process:
    jobs: list[psutil.Process] = []

    def one_busy() -> bool:
        jobs[:] = desk.stack.busy_jobs()
        return len(jobs) == 1

    await desk.until("one busy job", one_busy)
    return jobs[0]


async def ask(desk: Desk, visitor: Visitor, session: LiveSession, sentence: str) -> None:
    """Say `sentence`, listen to the answer, and wait until both are written."""
    before = len(await desk.said(session))
    end = await visitor.speak(desk.speech(sentence))
    await visitor.wait_for_sound(end)
    await visitor.wait_until_quiet()
    await desk.until_said(session, before + 2)


@pytest.mark.soak
async def test_a_killed_job_is_replaced_by_one_that_knows_what_was_said(desk: Desk) -> None:
    session = await desk.begin(await desk.make_agent())
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        await ask(desk, visitor, session, TABLE)
        first = await only_job(desk)
        killed = time.monotonic()
        kill(first)
        await desk.until("the loss to be noticed", lambda: _has_notice(session, "agent_lost"), seconds=10)
        noticed = time.monotonic() - killed
        await desk.until("the agent to be back", lambda: _has_notice(session, "agent_back"), seconds=15)
        returned = time.monotonic() - killed
        await desk.until_agent_is(session, "listening")
        await ask(desk, visitor, session, MEETING)
        segments = await desk.segments(session)
        turns = await desk.turns(session)
    print(f"loss noticed after {noticed:.1f} s, agent back after {returned:.1f} s")
    said = in_whole_turns(segments)
    # Nothing is greeted twice, lost or told twice.
    assert said[0] == GREETING
    assert [role for role, _ in said] == ["agent", "user", "agent", "user", "agent"]
    assert same_words(said[1][1], TABLE)
    assert said[2] == ("agent", ANSWERS[TABLE])
    assert same_words(said[3][1], MEETING)
    assert said[4] == ("agent", ANSWERS[MEETING])
    assert dense(segments)
    assert [turn.index for turn in turns] == [1, 2]
    row = await desk.session(session)
    assert (row.state, row.claimed_generation) == ("active", row.dispatch_generation)


async def test_what_a_job_was_answering_when_it_was_killed_is_answered_by_the_next(desk: Desk) -> None:
    session = await desk.begin(await desk.make_agent())
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        await ask(desk, visitor, session, TABLE)
        end = await visitor.speak(desk.speech(MEETING))
        await visitor.wait_for_sound(end)
        kill(await only_job(desk))  # while it answers
        await desk.until("the agent to be back", lambda: _has_notice(session, "agent_back"), seconds=25)
        await desk.until("its answer", partial(_is_answered, session, ANSWERS[MEETING]), seconds=40)
        await visitor.wait_until_quiet()
        await ask(desk, visitor, session, PHONE)
        segments = await desk.segments(session)
    said = [(segment.role, segment.text) for segment in segments]
    assert dense(segments)
    assert said[0] == GREETING
    assert said.count(GREETING) == 1
    assert said[2] == ("agent", ANSWERS[TABLE])
    assert [role for role, _ in said[3:]] == ["user", "agent", "user", "agent"]
    assert said[4] == ("agent", ANSWERS[MEETING])
    assert said[-1] == ("agent", ANSWERS[PHONE])


@pytest.mark.soak
async def test_lines_taken_around_a_hand_over_are_answered_once(desk: Desk, redis_server: RedisServer) -> None:
    """Redis stands still for so long that the job is taken for lost: it is replaced while it goes on taking lines."""
    session = await desk.begin(await desk.make_agent())
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        await _freeze(redis_server, seconds=12)
        for question in (TABLE, PHONE):
            await _order(desk, session, question)
            await desk.until("its answer", partial(_is_answered, session, ANSWERS[question]), seconds=40)
        await desk.until_agent_is(session, "listening", seconds=30)
        await only_job(desk)
        segments = await desk.segments(session)
    assert dense(segments)
    whole = [(segment.role, segment.text) for segment in segments if not segment.interrupted]
    for question in (TABLE, PHONE):
        assert whole.count(("user", question)) == 1
        assert whole.count(("agent", ANSWERS[question])) == 1
    assert whole.count(GREETING) <= 1


async def _freeze(server: RedisServer, *, seconds: float) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def _order(desk: Desk, session: LiveSession, text: str) -> None:
    """Put a line in as the page does: again until it is accepted."""
    for _ in range(100):
        try:
            await desk.query(
                lambda: lines.say(session=LiveSession.objects.get(pk=session.pk), text=text, speaker="user")
            )
            return
        except MoltsError:
            await asyncio.sleep(0.1)
    raise AssertionError("never accepted")


def _is_answered(session: LiveSession, answer: str) -> bool:
    return session.segments.filter(role="agent", text=answer, interrupted=False).exists()


@pytest.mark.soak
async def test_a_job_that_stood_still_goes_on_by_itself_or_through_another(desk: Desk) -> None:
    session = await desk.begin(await desk.make_agent())
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        await ask(desk, visitor, session, TABLE)
        stopped = await only_job(desk)
        kill(stopped, signal.SIGSTOP)
        try:
            await asyncio.sleep(6)
        finally:
            kill(stopped, signal.SIGCONT)
        await desk.until(
            "an agent that beats", lambda: presence.presence(session.pk).agent_generation is not None, seconds=10
        )
        # Two agents would talk over each other: the one that was replaced leaves.
        await only_job(desk)
        await desk.until_agent_is(session, "listening")
        await asyncio.sleep(1)
        await ask(desk, visitor, session, MEETING)
        segments = await desk.segments(session)
    said = [(segment.role, segment.text) for segment in segments]
    assert dense(segments)
    assert said.count(GREETING) == 1
    assert said[-1] == ("agent", ANSWERS[MEETING])
    assert [role for role, _ in said] == ["agent", "user", "agent", "user", "agent"]


def _has_notice(session: LiveSession, code: str) -> bool:
    return session.notices.filter(code=code).exists()
