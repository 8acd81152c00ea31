"""Faces in whole conversations: the real media server, `manage.py run_agent` and an avatar worker with one slot."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from avatars.engines.base import Face, VideoFormat
from avatars.engines.cache import cache_folder, keep_in
from avatars.models import Agent, Avatar
from molts import beats
from molts.beats import WorkerKind
from projects.models import Project
from sessions import presence, services
from sessions.models import LiveSession, SessionNotice
from tests.agent_runtime.avatar.round_faces import Round
from tests.agent_runtime.stack import Stack, kill
from tests.agent_runtime.talk import ANSWERS, STORY, TABLE, Desk, agents_in, matches, type_text
from tests.visitor import Visitor

pytestmark = pytest.mark.slow
GREETING = ("agent", "Hello, this is Ada.")
QUESTION, TALE = STORY


@pytest.fixture(scope="session")
def avatars(stack: Stack) -> Stack:
    """An avatar worker, with the face of the tests prepared as on a machine that has been up for a while."""
    before = cache_folder("")
    keep_in(stack.folder / "faces")
    Round().prepare(Face("round"), VideoFormat())
    keep_in(before)
    stack.start_avatars(command=("-m", "tests.agent_runtime.avatar.round_faces"))
    return stack


@pytest_asyncio.fixture
async def faces(avatars: Stack, desk: Desk) -> Stack:
    """That avatar worker, when the face of the conversation before has left its slot."""
    await desk.until("a free slot", lambda: any(each.has_free_slot for each in beats.workers(WorkerKind.AVATAR)))
    return avatars


async def agent_with_face(desk: Desk, *, engine: str = "round", **fields: Any) -> Agent:
    agent = await desk.make_agent(**fields)

    def give() -> None:
        project = Project.objects.get(pk=agent.project_id)
        agent.avatar = Avatar.objects.create(project=project, name=engine, engine=engine)
        agent.save()

    await desk.query(give)
    return agent


def openness(luma: NDArray[np.uint8]) -> float:
    """How far the mouth of the round face is open: dark pixels where its mouth is."""
    return float(np.count_nonzero(luma[290:350, 200:320] < 60))


def watching(visitor: Visitor) -> Visitor:
    visitor.seen.measure = openness
    return visitor


async def ask(visitor: Visitor, question: str) -> float:
    """Type it, so that a busy machine mishears nothing; when that was."""
    await type_text(visitor, question)
    return time.time()


async def until_notice(desk: Desk, session: LiveSession, code: str, *, seconds: float = 30) -> None:
    await desk.until(code, SessionNotice.objects.filter(session=session, code=code).exists, seconds=seconds)


async def until_seen(visitor: Visitor, since: float, *, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not visitor.seen.since(since):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


# Before the worker is started.
async def test_without_a_worker_the_voice_speaks_and_says_so(desk: Desk) -> None:
    session = await desk.begin(await agent_with_face(desk))
    began = time.time()
    async with desk.visitor(session) as visitor:
        assert await visitor.wait_for_sound(0) - began < 30
        await visitor.wait_until_quiet()
        await visitor.speak(desk.speech(TABLE))
        said = await desk.until_said(session, 3)
        await until_notice(desk, session, "avatar_lost")
        assert not visitor.seen.at
    assert matches(said, [GREETING, ("user", TABLE), ("agent", ANSWERS[TABLE])])
    assert await desk.notices(session) == ["avatar_lost"]


@pytest.mark.soak
@pytest.mark.usefixtures("faces")
async def test_a_face_that_is_not_drawn_yet_is_called_once_and_comes_when_it_is(desk: Desk) -> None:
    session = await desk.begin(await agent_with_face(desk, engine="slow"))
    calls: set[str | None] = set()
    began = time.time()
    async with desk.visitor(session) as visitor:
        assert await visitor.wait_for_sound(0) - began < 30
        await until_notice(desk, session, "avatar_lost")
        assert not visitor.seen.at
        while not visitor.seen.at:
            calls.add(await desk.query(lambda: presence.wanted_avatar(session.pk)))
            assert time.time() - began < 100
            await asyncio.sleep(0.2)
        await until_notice(desk, session, "avatar_back")
        await ask(visitor, TABLE)
        said = await desk.until_said(session, 3)
        assert len(desk.stack.busy_jobs("avatar")) == 1
    assert len(calls) == 1
    assert matches(said, [GREETING, ("user", TABLE), ("agent", ANSWERS[TABLE])])
    assert await desk.notices(session) == ["avatar_lost", "avatar_back"]


@pytest.mark.usefixtures("faces")
async def test_face_and_voice_arrive_and_leave_together(desk: Desk) -> None:
    noted = len(desk.stack.log("media"))
    session = await desk.begin(await agent_with_face(desk))
    async with watching(desk.visitor(session)) as visitor:
        await visitor.wait_until_quiet()
        agent, avatar = sorted(agents_in(visitor.room), key=lambda each: each.identity)
        assert avatar.attributes["lk.publish_on_behalf"] == agent.identity
        quiet_since = time.time()
        while len(visitor.seen.since(quiet_since)) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        idle = [value for _, value in visitor.seen.since(quiet_since)]
        end = await visitor.speak(desk.speech(TABLE))
        heard = await visitor.wait_for_sound(end)
        said = await desk.until_said(session, 3)
        spoken = [value for _, value in visitor.seen.since(heard)]
        await desk.until("the turn", lambda: session.turns.exists())
        assert await desk.query(lambda: presence.wanted_avatar(session.pk)) == avatar.identity
    (turn,) = await desk.turns(session)
    assert matches(said, [GREETING, ("user", TABLE), ("agent", ANSWERS[TABLE])])
    assert max(spoken) > max(idle) + 50
    assert await desk.notices(session) == []
    assert turn.avatar_ms is not None
    parts = [turn.endpointing_ms, turn.stt_ms, turn.llm_ms, turn.tts_ms, turn.avatar_ms]
    assert turn.total_ms is not None
    assert abs(sum(part or 0 for part in parts) - turn.total_ms) <= 50
    await desk.end(session)
    await desk.until("the avatar gone", lambda: not desk.stack.busy_jobs("avatar"))
    ended = [line for line in desk.stack.log("media")[noted:].splitlines() if "job ended" in line]
    assert ["JS_SUCCESS" in line for line in ended] == [True, True]


@pytest.mark.soak
@pytest.mark.usefixtures("faces")
async def test_words_of_the_visitor_cut_voice_and_lips(desk: Desk) -> None:
    session = await desk.begin(await agent_with_face(desk, greeting=""))
    async with watching(desk.visitor(session)) as visitor:
        await desk.until_agent_is(session, "listening")
        await until_seen(visitor, 0)
        began = await visitor.wait_for_sound(await ask(visitor, QUESTION))
        await asyncio.sleep(max(0.0, began + 2.5 - time.time()))
        end = await visitor.speak(desk.speech(TABLE))
        await visitor.wait_for_sound(end)
        said = await desk.until_said(session, 4)
    segments = await desk.segments(session)
    assert [role for role, _ in said] == ["user", "agent", "user", "agent"]
    assert segments[1].interrupted
    assert TALE.startswith(segments[1].text)
    assert 4 <= len(segments[1].text.split()) <= 16
    assert said[3] == ("agent", ANSWERS[TABLE])


@pytest.mark.usefixtures("faces")
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.soak)])
async def test_a_face_lost_in_mid_sentence_costs_no_word_and_comes_back(desk: Desk, number: int) -> None:
    session = await desk.begin(await agent_with_face(desk, greeting=""))
    async with watching(desk.visitor(session)) as visitor:
        await desk.until_agent_is(session, "listening")
        await until_seen(visitor, 0)
        began = await visitor.wait_for_sound(await ask(visitor, QUESTION))
        await asyncio.sleep(max(0.0, began + 3 - time.time()))
        (job,) = desk.stack.busy_jobs("avatar")
        lost_at = time.time()
        kill(job, number)
        again = await visitor.wait_for_sound(lost_at + 0.5)
        await until_notice(desk, session, "avatar_lost")
        said = await desk.until_said(session, 2, seconds=30)
        await until_notice(desk, session, "avatar_back", seconds=40)
        back_at = time.time()
        await until_seen(visitor, back_at)
        await visitor.speak(desk.speech(TABLE))
        await desk.until_said(session, 4)
    segments = await desk.segments(session)
    assert again - lost_at < 10
    assert said[1] == ("agent", TALE)
    assert not segments[1].interrupted
    assert (await desk.said(session))[3] == ("agent", ANSWERS[TABLE])


@pytest.mark.soak
@pytest.mark.usefixtures("faces")
async def test_the_only_slot_goes_to_one_and_then_to_the_other(desk: Desk) -> None:
    agent = await agent_with_face(desk)
    first = await desk.begin(agent)
    async with desk.visitor(first) as one:
        await until_seen(one, 0)
        second = await desk.begin(agent)
        async with desk.visitor(second) as other:
            await other.wait_until_quiet()
            await until_notice(desk, second, "avatar_lost")
            assert not other.seen.at
            await desk.query(lambda: services.end_session(session_id=first.pk, reason="ended_by_user"))
            await until_notice(desk, second, "avatar_back", seconds=40)
            await until_seen(other, 0)
    assert await desk.notices(first) == []
