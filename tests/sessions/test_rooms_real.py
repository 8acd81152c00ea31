"""Rooms, tokens and the reconciler against a real media server and a real Redis."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from asgiref.sync import sync_to_async
from livekit import api, rtc
from pytest_django import Settings

from avatars.models import Agent
from molts import beats
from molts.beats import WorkerInfo
from molts.errors import Unavailable
from projects.models import Project
from sessions import presence, reconcile, rooms, services
from sessions.choices import ParticipantKind
from sessions.models import LiveSession, Participant
from sessions.tokens import visitor_token
from tests.agent_runtime.stack import free_port
from tests.sessions.factories import make_session

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("live_servers")]


@pytest.fixture
async def guests() -> AsyncIterator[list[rtc.Room]]:
    """Rooms that are left again when the test is over."""
    joined: list[rtc.Room] = []
    yield joined
    for room in joined:
        await room.disconnect()


async def join(settings: Settings, guests: list[rtc.Room], token: str) -> rtc.Room:
    room = rtc.Room()
    await asyncio.wait_for(room.connect(settings.LIVEKIT_URL, token), 10)
    guests.append(room)
    return room


def token_of(settings: Settings, room_name: str, identity: str, *, agent: bool = False) -> str:
    token = api.AccessToken(settings.LIVEKIT_API_KEY, settings.LIVEKIT_API_SECRET)
    token = token.with_identity(identity).with_grants(api.VideoGrants(room_join=True, room=room_name))
    return (token.with_kind("agent") if agent else token).to_jwt()


async def identities(room_name: str) -> set[str] | None:
    found = await rooms.list_participants(room_name)
    return None if found is None else {participant.identity for participant in found}


async def until(room_name: str, wanted: set[str] | None) -> None:
    deadline = time.monotonic() + 8
    while (found := await identities(room_name)) != wanted:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)


async def make_open_session(agent: Agent, **fields: Any) -> LiveSession:
    session = await sync_to_async(make_session)(agent, room_name=rooms.new_room_name(), **fields)
    await rooms.open_room(session.room_name)
    return session


async def look_at(session: LiveSession) -> tuple[str, str]:
    await sync_to_async(reconcile.reconcile_session)(session.pk)
    await session.arefresh_from_db()
    return session.state, session.reason


# -- Old tokens -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["ended", "erased", "never opened"])
async def test_an_old_token_opens_no_room_that_is_closed(
    agent: Agent, settings: Settings, guests: list[rtc.Room], how: str
) -> None:
    session = await make_open_session(agent)
    token = visitor_token(room_name=session.room_name, identity=session.visitor_identity)
    match how:
        case "ended":
            await sync_to_async(services.end_session)(session_id=session.pk, reason="ended_by_user")
        case "erased":
            await sync_to_async(services.erase_session)(session_id=session.pk)
        case _:
            await rooms.close_room(session.room_name)
    await until(session.room_name, None)
    with pytest.raises(rtc.ConnectError):
        await join(settings, guests, token)
    assert await identities(session.room_name) is None


async def test_the_same_token_opens_the_room_while_the_conversation_lasts(
    agent: Agent, settings: Settings, guests: list[rtc.Room]
) -> None:
    session = await make_open_session(agent)
    token = visitor_token(room_name=session.room_name, identity=session.visitor_identity)
    for _ in range(2):  # and again, after a reload
        room = await join(settings, guests, token)
        await until(session.room_name, {session.visitor_identity})
        await room.disconnect()


# -- Tokens -----------------------------------------------------------------------------------------------------------
def test_it_grants_one_room_and_no_more(settings: Settings) -> None:
    token = visitor_token(room_name="t.room", identity="visitor-1", name="Zoë")
    claims = jwt.decode(token, settings.LIVEKIT_API_SECRET, algorithms=["HS256"])
    assert claims["exp"] - claims["nbf"] <= 121
    assert {name for name in claims if name not in ("iss", "nbf", "exp", "sub", "name")} == {"video"}
    assert claims["video"] == {
        "roomJoin": True,
        "room": "t.room",
        "canPublish": True,
        "canSubscribe": True,
        "canPublishData": True,
        "canPublishSources": ["microphone", "camera"],
        "canUpdateOwnMetadata": False,
    }


# -- Starting and ending ----------------------------------------------------------------------------------------------
async def test_it_opens_a_room_that_only_this_session_has(agent: Agent, settings: Settings) -> None:
    one = await sync_to_async(services.start_session)(agent=agent)
    two = await sync_to_async(services.start_session)(agent=agent)
    assert await identities(one.room_name) == set()
    assert one.room_name != two.room_name
    assert one.room_name.startswith(f"{settings.MOLTS_INSTANCE}.")


async def test_it_puts_everybody_out_when_it_ends(agent: Agent, settings: Settings, guests: list[rtc.Room]) -> None:
    session = await sync_to_async(services.start_session)(agent=agent)
    token = visitor_token(room_name=session.room_name, identity=session.visitor_identity)
    visitor = await join(settings, guests, token)
    gone = asyncio.Event()
    visitor.on("disconnected", lambda *_: gone.set())
    assert await sync_to_async(services.end_session)(session_id=session.pk, reason="ended_by_user")
    await asyncio.wait_for(gone.wait(), 5)
    assert await identities(session.room_name) is None


def test_it_leaves_nothing_half_begun_when_the_media_server_is_away(agent: Agent, settings: Settings) -> None:
    settings.LIVEKIT_URL = f"ws://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable):
        services.start_session(agent=agent)
    session = LiveSession.objects.get()
    assert (session.state, session.reason, session.room_closed_at) == ("failed", "error", None)


# -- The reconciler ---------------------------------------------------------------------------------------------------
async def test_it_keeps_a_visitor_who_is_in_the_room_without_a_page(
    agent: Agent, settings: Settings, guests: list[rtc.Room]
) -> None:
    session = await make_open_session(agent, source="api")
    visitor = await join(
        settings, guests, visitor_token(room_name=session.room_name, identity=session.visitor_identity)
    )
    assert await look_at(session) == ("active", "")
    assert session.visitor_joined_at is not None
    await visitor.disconnect()
    await until(session.room_name, set())
    assert await look_at(session) == ("active", "")  # a moment to connect anew
    await asyncio.sleep(reconcile.MISSED_SECONDS + 0.2)
    assert await look_at(session) == ("ended", "visitor_left")


async def test_it_forgets_a_short_absence(agent: Agent, settings: Settings, guests: list[rtc.Room]) -> None:
    session = await make_open_session(agent, source="api")
    token = visitor_token(room_name=session.room_name, identity=session.visitor_identity)
    for _ in range(2):
        visitor = await join(settings, guests, token)
        assert await look_at(session) == ("active", "")
        await visitor.disconnect()
        await until(session.room_name, set())
        assert await look_at(session) == ("active", "")
        await asyncio.sleep(reconcile.MISSED_SECONDS / 2 + 0.2)


async def test_it_puts_strangers_out(agent: Agent, settings: Settings, guests: list[rtc.Room]) -> None:
    session = await make_open_session(agent)
    for identity in (session.visitor_identity, "stranger"):
        await join(settings, guests, token_of(settings, session.room_name, identity))
    await look_at(session)
    await until(session.room_name, {session.visitor_identity})


async def test_it_keeps_the_agent_that_beats_and_its_face_and_removes_others(
    agent: Agent, settings: Settings, guests: list[rtc.Room]
) -> None:
    session = await make_open_session(agent)
    await Participant.objects.acreate(session=session, identity="agent-new", kind=ParticipantKind.AGENT)
    await sync_to_async(beats.client().set)(presence.agent_key(session.pk), "1:agent-new", px=10_000)
    for identity in ("agent-old", "agent-new"):
        await join(settings, guests, token_of(settings, session.room_name, identity, agent=True))
    face = api.AccessToken(settings.LIVEKIT_API_KEY, settings.LIVEKIT_API_SECRET).with_identity("face")
    face = face.with_kind("agent").with_attributes({"lk.publish_on_behalf": "agent-new"})
    await join(
        settings,
        guests,
        face.with_grants(api.VideoGrants(room_join=True, room=session.room_name)).to_jwt(),
    )
    await join(settings, guests, token_of(settings, session.room_name, session.visitor_identity))
    await look_at(session)
    await until(session.room_name, {"agent-new", "face", session.visitor_identity})


async def test_it_leaves_the_room_to_a_new_agent_while_the_old_one_is_lost(
    agent: Agent, settings: Settings, guests: list[rtc.Room]
) -> None:
    session = await make_open_session(agent, agent_state="lost", dispatch_generation=2, claimed_generation=2)
    await sync_to_async(beats.client().set)(presence.agent_key(session.pk), "2:agent-new", px=10_000)
    await join(settings, guests, token_of(settings, session.room_name, "agent-new", agent=True))
    await join(settings, guests, token_of(settings, session.room_name, session.visitor_identity))
    await look_at(session)
    await session.arefresh_from_db()
    assert session.agent_state == "lost"  # it says itself when it is ready
    assert "agent-new" in (await identities(session.room_name) or ())


async def test_it_closes_rooms_nobody_wants_and_only_its_own(agent: Agent, settings: Settings) -> None:
    mine = await make_open_session(agent)
    left, foreign = rooms.new_room_name(), f"{settings.MOLTS_INSTANCE}-2.{secrets.token_urlsafe(8)}"
    for name in (left, foreign):
        await rooms.open_room(name)
    await sync_to_async(beats.client().set)(presence.visitor_key(mine.pk), "1", px=10_000)
    await sync_to_async(reconcile.reconcile_all)()
    assert await identities(left) is None
    assert await identities(foreign) == set()
    assert await identities(mine.room_name) == set()
    await rooms.close_room(foreign)


async def test_closing_a_room_that_is_gone_waits_for_nobody() -> None:
    async with asyncio.timeout(2):  # asked about its agents, the media server answers after three seconds
        await rooms.close_room(rooms.new_room_name())


async def test_it_closes_the_room_of_a_session_that_ended_unseen(agent: Agent) -> None:
    session = await make_open_session(agent, state="ended", reason="silence")
    await sync_to_async(reconcile.reconcile_all)()
    await session.arefresh_from_db()
    assert session.room_closed_at is not None
    assert await identities(session.room_name) is None
    assert await sync_to_async(presence.clock_beats)()


async def test_it_calls_an_agent_into_the_room_with_nothing_but_the_session_id(
    agent: Agent, settings: Settings
) -> None:
    session = await sync_to_async(services.start_session)(agent=agent)
    async with rooms._server() as server:
        dispatches = await server.agent_dispatch.list_dispatch(session.room_name)
    ours = [one for one in dispatches if one.agent_name == settings.MOLTS_AGENT_NAME]
    assert [one.metadata for one in ours] == [str(session.pk)]


async def test_it_waits_for_a_job_that_is_starting_as_long_as_its_worker_lives(agent: Agent) -> None:
    session = await make_open_session(agent, state="waiting", age_seconds=10)
    await sync_to_async(beats.client().set)(presence.visitor_key(session.pk), "1", px=10_000)
    for name in ("taker", "other"):
        await sync_to_async(beats.beat_worker)(WorkerInfo(name, "host", 1, 4, 0))
    await sync_to_async(presence.note_taken)(session.pk, "taker")
    await look_at(session)
    assert session.dispatch_generation == 1
    await sync_to_async(beats.forget_worker)("taker")
    await look_at(session)
    assert session.dispatch_generation == 2
    assert not await sync_to_async(presence.is_taken)(session.pk)


async def test_it_opens_the_room_again_that_closed_while_nobody_was_in_it(agent: Agent) -> None:
    session = await make_open_session(agent, state="waiting", age_seconds=10)
    await rooms.close_room(session.room_name)
    await sync_to_async(beats.client().set)(presence.visitor_key(session.pk), "1", px=10_000)
    await sync_to_async(beats.beat_worker)(WorkerInfo("worker", "host", 1, 4, 0))
    await look_at(session)
    assert await identities(session.room_name) == set()


# -- Secrets ----------------------------------------------------------------------------------------------------------
async def test_it_tells_the_media_server_no_secret(project: Project, agent: Agent, settings: Settings) -> None:
    agent.instructions = "canary-instructions"
    await agent.asave()
    session = await sync_to_async(services.start_session)(agent=agent)
    async with rooms._server() as server:
        found = await server.room.list_rooms(api.ListRoomsRequest(names=[session.room_name]))
        dispatches = await server.agent_dispatch.list_dispatch(session.room_name)
    told = json.dumps([str(room) for room in found.rooms] + [str(dispatch) for dispatch in dispatches])
    assert "canary" not in told
    assert settings.LIVEKIT_API_SECRET not in told
