"""Faces of a vendor in whole conversations: the real media server and agent; the vendor's machine is stood in for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from avatars.models import Agent, Avatar
from projects.models import Project, ProviderKey
from projects.services import save_provider_key
from sessions.models import LiveSession, SessionNotice
from tests.agent_runtime.face.vendor import Vendor, VendorFace, open_vendor
from tests.agent_runtime.talk import ANSWERS, STORY, TABLE, Desk, matches
from tests.visitor import Visitor

pytestmark = pytest.mark.slow
KEY = "vendor-key-123456"
GREETING = ("agent", "Hello, this is Ada.")
QUESTION, TALE = STORY
FACE_MISSED_SECONDS = 8.0  # who sees no face for so long is told


@pytest_asyncio.fixture
async def vendor() -> AsyncIterator[Vendor]:
    async with open_vendor() as vendor:
        yield vendor


async def agent_with_hosted_face(desk: Desk, vendor: Vendor, greeting: str = "Hello, this is Ada.") -> Agent:
    agent = await desk.make_agent(greeting=greeting)

    def give() -> None:
        project = Project.objects.get(pk=agent.project_id)
        key = save_provider_key(
            key=ProviderKey(project=project, provider="tavus", name=agent.slug, base_url=vendor.url), secret=KEY
        )
        agent.avatar = Avatar.objects.create(
            project=project, name="Anna", engine="tavus", options={"face_id": "r1"}, provider_key=key
        )
        agent.save()

    await desk.query(give)
    return agent


async def until_notice(desk: Desk, session: LiveSession, code: str, *, seconds: float = 15) -> None:
    await desk.until(code, SessionNotice.objects.filter(session=session, code=code).exists, seconds=seconds)


async def until_shown(visitor: Visitor, since: float = 0.0, *, seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not visitor.seen.since(since):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def in_mid_sentence(desk: Desk, session: LiveSession, visitor: Visitor, vendor: Vendor) -> VendorFace:
    """Ask for the long answer, and wait until the vendor's face is two seconds into it."""
    await desk.until_agent_is(session, "listening")
    await until_shown(visitor)
    await visitor.speak(desk.speech(QUESTION))
    face = vendor.faces[-1]
    await desk.until("two seconds of the answer", lambda: face.played > 2, seconds=30)
    return face


async def test_the_visitor_hears_and_sees_the_vendors_face(desk: Desk, vendor: Vendor) -> None:
    session = await desk.begin(await agent_with_hosted_face(desk, vendor))
    began = time.time()
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        await until_shown(visitor, seconds=60)
        came_in_time = time.time() - began < FACE_MISSED_SECONDS
        greeted = vendor.faces[0].played
        await visitor.speak(desk.speech(TABLE))
        said = await desk.until_said(session, 3)
        await desk.until("the turn", lambda: session.turns.exists())
    await desk.end(session)
    (turn,) = await desk.turns(session)
    await desk.until("the face's seconds", lambda: session.usage_records.filter(kind="avatar").exists())
    used = await desk.query(lambda: session.usage_records.get(kind="avatar"))
    assert matches(said, [GREETING, ("user", TABLE), ("agent", ANSWERS[TABLE])])
    assert vendor.faces[0].played > greeted + 0.5
    if came_in_time:  # on a machine that is too busy for it the greeting is spoken without a face, and that is told
        assert await desk.notices(session) == []
    assert turn.avatar_ms is not None
    assert (vendor.keys, vendor.asked[0]["face_id"]) == ([KEY], "r1")
    assert vendor.tokens[0]["video"]["room"] == session.room_name
    assert (used.provider, used.model, used.unit) == ("tavus", "r1", "avatar_seconds")
    assert 3 < used.quantity < 60
    assert vendor.ended == ["c1"]  # it costs no longer


@pytest.mark.soak
async def test_a_vendor_that_refuses_costs_no_word(desk: Desk, vendor: Vendor) -> None:
    vendor.status = 401
    session = await desk.begin(await agent_with_hosted_face(desk, vendor))
    async with desk.visitor(session) as visitor:
        await visitor.wait_for_sound(0, timeout=60)
        await until_notice(desk, session, "avatar_lost", seconds=60)
        await visitor.wait_until_quiet()
        await visitor.speak(desk.speech(TABLE))
        said = await desk.until_said(session, 3)
        assert not visitor.seen.at
    assert matches(said, [GREETING, ("user", TABLE), ("agent", ANSWERS[TABLE])])
    assert await desk.notices(session) == ["avatar_lost"]


@pytest.mark.soak
async def test_a_vendor_that_does_not_answer_is_missed_in_time_and_comes_later_without_being_called_twice(
    desk: Desk, vendor: Vendor
) -> None:
    vendor.answers.clear()
    session = await desk.begin(await agent_with_hosted_face(desk, vendor))
    began = time.time()
    async with desk.visitor(session) as visitor:
        await visitor.wait_for_sound(0, timeout=60)  # it is not kept waiting: nobody has answered yet
        await until_notice(desk, session, "avatar_lost", seconds=60)
        await visitor.wait_until_quiet()
        await asyncio.sleep(max(0.0, began + 20 - time.time()))  # longer than a call used to take
        vendor.answers.set()
        await until_notice(desk, session, "avatar_back")
        await until_shown(visitor)
        await visitor.speak(desk.speech(TABLE))
        said = await desk.until_said(session, 3)
    assert matches(said, [GREETING, ("user", TABLE), ("agent", ANSWERS[TABLE])])
    assert await desk.notices(session) == ["avatar_lost", "avatar_back"]
    assert len(vendor.asked) == 1
    assert vendor.faces[0].played > 0.5


@pytest.mark.soak
async def test_a_session_that_the_vendor_ends_in_mid_sentence_costs_no_word_and_comes_back(
    desk: Desk, vendor: Vendor
) -> None:
    session = await desk.begin(await agent_with_hosted_face(desk, vendor, greeting=""))
    async with desk.visitor(session) as visitor:
        face = await in_mid_sentence(desk, session, visitor, vendor)
        vendor.status = 402  # no minutes left
        lost_at = time.time()
        await face.leave()
        await visitor.wait_for_sound(lost_at + 0.5, timeout=60)
        await until_notice(desk, session, "avatar_lost")
        said = await desk.until_said(session, 2, seconds=30)
        vendor.status = 200
        await until_notice(desk, session, "avatar_back", seconds=40)
        await until_shown(visitor, time.time())
        await visitor.speak(desk.speech(TABLE))
        await desk.until_said(session, 4)
        (spoken,) = {face.played > 0.5 for face in vendor.faces[1:]}
    segments = await desk.segments(session)
    assert said[1] == ("agent", TALE)
    assert not segments[1].interrupted
    assert (await desk.said(session))[3] == ("agent", ANSWERS[TABLE])
    assert spoken


@pytest.mark.soak
async def test_a_face_that_stays_and_falls_silent_is_found_out(desk: Desk, vendor: Vendor) -> None:
    session = await desk.begin(await agent_with_hosted_face(desk, vendor, greeting=""))
    async with desk.visitor(session) as visitor:
        face = await in_mid_sentence(desk, session, visitor, vendor)
        vendor.status = 402
        silent_at = time.time()
        face.go_silent()
        again = await visitor.wait_for_sound(silent_at + 0.8, timeout=60)
        await until_notice(desk, session, "avatar_lost")
        await desk.until("the tale", session.segments.filter(role="agent").exists, seconds=30)
        heard = len(visitor.heard.samples(again)) / 16_000
        await desk.until("the face put out", lambda: face.room.connection_state == 0)
    # On a busy machine the visitor's own sentence may be heard in two pieces.
    told = [segment for segment in await desk.segments(session) if segment.role == "agent"]
    assert [segment.text for segment in told] == [TALE]
    assert not told[0].interrupted
    assert heard > 3
