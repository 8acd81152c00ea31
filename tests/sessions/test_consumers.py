"""The conversation's socket, over a real Redis."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection
from django.test import Client

from avatars.models import Agent
from molts import beats
from molts.asgi import application
from sessions import consumers, presence, services
from sessions.models import LiveSession
from sessions.publish import publish
from sessions.tokens import cookie_name, sign_cookie
from tests.agent_runtime.stack import RedisServer
from tests.sessions.factories import make_session, say

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_redis")]
ORIGIN = "http://127.0.0.1:8000"


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[uuid.UUID]:
    """Sessions that a socket wanted to be reconciled."""
    seen: list[uuid.UUID] = []
    monkeypatch.setattr(consumers, "reconcile_session", seen.append)
    return seen


def visitor_cookie(session: LiveSession) -> str:
    return f"{cookie_name(session.pk)}={sign_cookie(session.pk)}"


@asynccontextmanager
async def socket(
    session_id: uuid.UUID, *, query: str = "", cookie: str = "", origin: str | None = ORIGIN
) -> AsyncIterator[WebsocketCommunicator]:
    headers = [(b"cookie", cookie.encode())] if cookie else []
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    communicator = WebsocketCommunicator(application, f"/ws/sessions/{session_id}/{query}", headers=headers)
    try:
        yield communicator
    finally:
        await communicator.disconnect()


async def receive(communicator: WebsocketCommunicator, count: int = 1) -> list[dict[str, Any]]:
    return [json.loads(await communicator.receive_from(timeout=5)) for _ in range(count)]


async def close_code(communicator: WebsocketCommunicator) -> int:
    message = await communicator.receive_output(timeout=5)
    while message["type"] != "websocket.close":
        message = await communicator.receive_output(timeout=5)
    return int(message["code"])


async def write(session: LiveSession, *texts: str) -> None:
    for text in texts:
        await sync_to_async(say)(session, "user", text)


@pytest.fixture
def talk(agent: Agent, own_redis: RedisServer) -> LiveSession:
    """A running conversation with three lines, its agent alive."""
    session = make_session(agent)
    beats.client().set(presence.agent_key(session.pk), "1", px=60_000)
    for text in ("one", "two", "three"):
        say(session, "user", text)
    return session


async def test_it_sends_a_snapshot_and_then_what_happens(talk: LiveSession, looked_at: list[uuid.UUID]) -> None:
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        assert (await page.connect())[0]
        (snapshot,) = await receive(page)
        assert snapshot["type"] == "snapshot"
        assert [line["text"] for line in snapshot["segments"]] == ["one", "two", "three"]
        assert (snapshot["last_seq"], snapshot["session"]["state"]) == (3, "active")
        await write(talk, "four")
        (final,) = await receive(page)
        assert (final["type"], final["seq"], final["text"]) == ("transcript.final", 4, "four")


async def test_it_answers_whoever_asks_whether_it_is_there(
    talk: LiveSession, looked_at: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "PONG_EVERY", 0.0)
    async with (
        socket(talk.pk, cookie=visitor_cookie(talk)) as page,
        socket(talk.pk, cookie=visitor_cookie(talk)) as other,
    ):
        for reader in (page, other):
            await reader.connect()
            await receive(reader)
        for ping in ('{"type":"ping"}', "?", "no JSON"):
            await page.send_to(text_data=ping)
            (pong,) = await receive(page)
            assert set(pong) == {"type", "at", "offset_ms"}
            assert pong["type"] == "pong"
        await write(talk, "four")
        assert [event["type"] for event in await receive(other)] == ["transcript.final"], "nobody else is told"


async def test_who_asks_all_the_time_is_answered_once_a_second(talk: LiveSession, looked_at: list[uuid.UUID]) -> None:
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        await page.connect()
        await receive(page)
        for _ in range(50):
            await page.send_to(text_data='{"type":"ping"}')
        await write(talk, "four")
        kinds = [event["type"] for event in await receive(page, 2)]
        assert sorted(kinds) == ["pong", "transcript.final"]


async def test_it_does_not_say_that_it_is_there_while_events_cannot_reach_it(
    talk: LiveSession, looked_at: list[uuid.UUID], own_redis: RedisServer
) -> None:
    """As when Redis stands still: the socket stands, but nothing that happens would come through it."""
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        await page.connect()
        await receive(page)
        with own_redis.frozen():
            await page.send_to(text_data='{"type":"ping"}')
            assert await page.receive_nothing(timeout=consumers.ASK_REDIS_SECONDS + 0.5)
        await asyncio.sleep(consumers.PONG_EVERY)
        await page.send_to(text_data='{"type":"ping"}')
        assert [event["type"] for event in await receive(page)] == ["pong"]


async def test_it_sends_only_what_is_newer_after_a_cut(talk: LiveSession, looked_at: list[uuid.UUID]) -> None:
    async with socket(talk.pk, query="?after=2", cookie=visitor_cookie(talk)) as page:
        await page.connect()
        (snapshot,) = await receive(page)
        assert [line["seq"] for line in snapshot["segments"]] == [3]


async def test_it_reads_what_the_channel_layer_dropped(
    talk: LiveSession, looked_at: list[uuid.UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        await page.connect()
        await receive(page)
        with monkeypatch.context() as patch:
            patch.setattr("sessions.services.publish_on_commit", lambda *_: None)
            await write(talk, "lost 4", "lost 5")
        await write(talk, "six")
        assert [event["text"] for event in await receive(page, 3)] == ["lost 4", "lost 5", "six"]


async def test_it_drops_what_it_has_sent_already(talk: LiveSession, looked_at: list[uuid.UUID]) -> None:
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        await page.connect()
        await receive(page)
        segment = await talk.segments.aget(seq=3)
        await sync_to_async(publish)(talk.pk, services.final_event(segment, offset=0))
        await write(talk, "four")
        assert (await receive(page))[0]["seq"] == 4


async def test_it_says_the_end_and_closes(talk: LiveSession, looked_at: list[uuid.UUID]) -> None:
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        await page.connect()
        await receive(page)
        await asyncio.sleep(0.3)  # its first look at the session is over
        await sync_to_async(services.end_session)(session_id=talk.pk, reason="ended_by_user")
        (event,) = await receive(page)
        assert (event["type"], event["state"], event["reason"]) == ("session.state", "ended", "ended_by_user")
        await sync_to_async(beats.client().delete)(presence.agent_key(talk.pk))  # the agent has left
        assert await close_code(page) == 4410


async def test_it_waits_for_what_the_agent_was_saying_at_the_end(talk: LiveSession, looked_at: list[uuid.UUID]) -> None:
    """The job writes its last words while it closes, and withdraws its beat when it has."""
    key = presence.agent_key(talk.pk)
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        await page.connect()
        await receive(page)
        await sync_to_async(beats.client().set)(key, "1:agent", px=20_000)
        await asyncio.sleep(0.3)
        await sync_to_async(services.end_session)(session_id=talk.pk, reason="ended_by_user")
        (event,) = await receive(page)
        assert event["type"] == "session.state"
        await asyncio.sleep(0.5)
        await write(talk, "We open at eight")
        (last,) = await receive(page)
        assert last["text"] == "We open at eight"
        await sync_to_async(beats.client().delete)(key)
        assert await close_code(page) == 4410


async def test_it_gives_the_whole_transcript_of_an_ended_session_and_closes(
    talk: LiveSession, looked_at: list[uuid.UUID]
) -> None:
    await sync_to_async(services.end_session)(session_id=talk.pk, reason="time_limit")
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        await page.connect()
        (snapshot,) = await receive(page)
        assert (snapshot["session"]["reason"], len(snapshot["segments"])) == ("time_limit", 3)
        assert await close_code(page) == 4410


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "٣", "9" * 12])
async def test_it_refuses_a_place_that_is_no_number(talk: LiveSession, after: str) -> None:
    async with socket(talk.pk, query=f"?after={after}", cookie=visitor_cookie(talk)) as page:
        await page.connect()
        assert await close_code(page) == 4400


async def test_it_opens_nothing_for_another_visitors_cookie(talk: LiveSession, agent: Agent) -> None:
    mine = await sync_to_async(make_session)(agent)
    stolen = f"{cookie_name(talk.pk)}={sign_cookie(mine.pk)}"
    for cookie in ("", visitor_cookie(mine), stolen, f"{cookie_name(talk.pk)}=forged"):
        async with socket(talk.pk, cookie=cookie) as page:
            await page.connect()
            assert await close_code(page) == 4401


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1.evil.example:8000"])
async def test_it_answers_no_page_of_another_origin(talk: LiveSession, origin: str | None) -> None:
    async with socket(talk.pk, cookie=visitor_cookie(talk), origin=origin) as page:
        connected, _ = await page.connect()
        assert not connected


@pytest.mark.parametrize(("who", "code"), [("vera", None), ("charlie", 4404), ("root", None)])
async def test_it_lets_members_follow_and_hides_from_strangers(
    talk: LiveSession,
    looked_at: list[uuid.UUID],
    request: pytest.FixtureRequest,
    who: str,
    code: int | None,
    sign_in: Callable[[User], Client],
) -> None:
    user = await sync_to_async(request.getfixturevalue)(who)
    client = await sync_to_async(sign_in)(user)
    cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    async with socket(talk.pk, cookie=cookie) as page:
        await page.connect()
        if code is None:
            assert (await receive(page))[0]["type"] == "snapshot"
        else:
            assert await close_code(page) == code


async def test_it_tells_nobody_whether_a_session_exists(talk: LiveSession) -> None:
    assert AnonymousUser().is_authenticated is False
    async with socket(uuid.uuid4()) as unknown, socket(talk.pk) as foreign:
        await unknown.connect()
        await foreign.connect()
        assert await close_code(unknown) == await close_code(foreign) == 4401


async def test_it_renews_the_visitors_sign_of_life_and_notices_a_silent_agent(
    talk: LiveSession, looked_at: list[uuid.UUID]
) -> None:
    await sync_to_async(beats.client().delete)(presence.agent_key(talk.pk))
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        await page.connect()
        await receive(page)
        await asyncio.sleep(0.5)
        assert (await sync_to_async(presence.presence)(talk.pk)).visitor
        assert looked_at == [talk.pk]


@contextmanager
def database_held() -> Iterator[None]:
    """The database is being written by a process that does not move."""
    name = str(connection.settings_dict["NAME"])
    with closing(sqlite3.connect(name, isolation_level=None, check_same_thread=False)) as frozen:
        frozen.execute("BEGIN IMMEDIATE")
        yield
        frozen.execute("ROLLBACK")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="one writer can hold up all others in SQLite alone")
async def test_it_says_that_the_agent_is_lost_when_nobody_can_write_it(
    talk: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "reconcile_session", lambda pk: services.mark_agent_lost(session_id=pk))
    alive = presence.agent_key(talk.pk)
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        await page.connect()
        await receive(page)
        with database_held():
            await sync_to_async(beats.client().delete)(alive)
            (told,) = await receive(page)
            assert (told["type"], told["state"]) == ("agent.state", "lost")
            assert told["offset_ms"] > 0
            await sync_to_async(beats.client().set)(alive, "1", px=60_000)
            (told,) = await receive(page)
            assert (told["type"], told["state"]) == ("agent.state", talk.agent_state)
        await receive(page, 2)  # what was held up is written and told in the end


async def test_it_leaves_a_session_with_a_living_agent_alone(talk: LiveSession, looked_at: list[uuid.UUID]) -> None:
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        await page.connect()
        await receive(page)
        await asyncio.sleep(1.3)
    assert looked_at == []
