"""What the socket does when the channel layer loses events, and for whom it opens besides visitors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import Client

from avatars.models import Agent
from molts import beats
from molts.asgi import application
from projects.models import ApiKey
from projects.services import revoke_api_key
from sessions import consumers, presence, services
from sessions.models import LiveSession
from tests.agent_runtime.stack import RedisServer
from tests.sessions.factories import make_session, say
from tests.sessions.test_consumers import close_code, receive, socket, visitor_cookie

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_redis")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of a test is a tenth, and nobody asks the media server."""
    monkeypatch.setattr(beats, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(consumers, "reconcile_session", lambda session_id: None)


@pytest.fixture
def talk(agent: Agent, own_redis: RedisServer) -> LiveSession:
    session = make_session(agent)
    beats.client().set(presence.agent_key(session.pk), "1:agent-x", px=60_000)
    say(session, "user", "one")
    return session


@asynccontextmanager
async def program(session: LiveSession, key: str, cookie: str = "") -> AsyncIterator[WebsocketCommunicator]:
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"cookie", cookie.encode())]
    communicator = WebsocketCommunicator(application, f"/ws/sessions/{session.pk}/", headers=headers)
    try:
        await communicator.connect()
        yield communicator
    finally:
        await communicator.disconnect()


async def test_it_catches_up_when_the_last_lines_were_lost(talk: LiveSession, monkeypatch: pytest.MonkeyPatch) -> None:
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        await page.connect()
        await receive(page)
        with monkeypatch.context() as patch:
            patch.setattr(services, "publish_on_commit", lambda *_: None)
            for text in ("lost 2", "lost 3"):
                await sync_to_async(say)(talk, "agent", text)
        assert [event["text"] for event in await receive(page, 2)] == ["lost 2", "lost 3"]


async def test_it_notices_an_end_whose_event_was_lost(talk: LiveSession) -> None:
    async with socket(talk.pk, cookie=visitor_cookie(talk)) as page:
        await page.connect()
        await receive(page)
        await LiveSession.objects.filter(pk=talk.pk).aupdate(state="ended", reason="silence")
        (snapshot,) = await receive(page)
        assert (snapshot["type"], snapshot["session"]["reason"]) == ("snapshot", "silence")
        await sync_to_async(beats.client().delete)(presence.agent_key(talk.pk))  # the agent has left
        assert await close_code(page) == 4410


async def test_it_forgets_a_place_that_lies_ahead_of_the_transcript(talk: LiveSession) -> None:
    async with socket(talk.pk, query="?after=900", cookie=visitor_cookie(talk)) as page:
        await page.connect()
        assert (await receive(page))[0]["segments"] == []
        await sync_to_async(say)(talk, "user", "two")
        assert (await receive(page))[0]["seq"] == 2


async def test_it_opens_for_a_project_key_without_an_origin(talk: LiveSession, api_key: tuple[ApiKey, str]) -> None:
    async with program(talk, api_key[1]) as watcher:
        assert (await receive(watcher))[0]["type"] == "snapshot"


async def test_it_stays_closed_for_other_keys_whatever_cookie_they_bring(
    talk: LiveSession, other_api_key: tuple[ApiKey, str]
) -> None:
    for key, code in ((other_api_key[1], 4404), ("molts_made_up", 4401)):
        async with program(talk, key, cookie=visitor_cookie(talk)) as watcher:
            assert await close_code(watcher) == code


async def test_it_lets_go_of_a_key_that_is_revoked(talk: LiveSession, api_key: tuple[ApiKey, str]) -> None:
    async with program(talk, api_key[1]) as watcher:
        await receive(watcher)
        await sync_to_async(revoke_api_key)(key=api_key[0])
        assert await close_code(watcher) == 4401


async def test_it_lets_go_of_a_member_who_signs_out(
    talk: LiveSession, vera: User, sign_in: Callable[[User], Client]
) -> None:
    client = await sync_to_async(sign_in)(vera)
    cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    async with socket(talk.pk, cookie=cookie) as watcher:
        await watcher.connect()
        await receive(watcher)
        await sync_to_async(client.logout)()
        assert await close_code(watcher) == 4401


async def test_it_does_not_keep_a_conversation_alive_for_watchers(
    talk: LiveSession, api_key: tuple[ApiKey, str]
) -> None:
    async with program(talk, api_key[1]) as watcher:
        await receive(watcher)
        await asyncio.sleep(0.3)
        assert not (await sync_to_async(presence.presence)(talk.pk)).visitor


@pytest.mark.parametrize("path", ["/ws/", "/ws/sessions/not-a-uuid/", "/"])
async def test_it_refuses_other_paths_quietly(path: str) -> None:
    communicator = WebsocketCommunicator(application, path, headers=[(b"origin", b"http://127.0.0.1:8000")])
    connected, _ = await communicator.connect()
    assert not connected


@pytest.mark.parametrize(
    ("origin", "host", "opens"),
    [
        ("http://localhost:9123", "localhost:9123", True),
        ("http://LOCALHOST:9123", "localhost:9123", True),
        ("http://localhost:9124", "localhost:9123", False),
        ("https://localhost:9123", "localhost:9123", False),
        ("http://evil.example", "evil.example", False),
        ("http://localhost:port", "localhost:9123", False),
        ("http://sub.localhost:9123", "localhost:9123", False),
    ],
)
async def test_it_lets_in_pages_of_the_same_host_only(talk: LiveSession, origin: str, host: str, opens: bool) -> None:
    headers = [(b"origin", origin.encode()), (b"host", host.encode()), (b"cookie", visitor_cookie(talk).encode())]
    communicator = WebsocketCommunicator(application, f"/ws/sessions/{talk.pk}/", headers=headers)
    connected, _ = await communicator.connect()
    assert connected is opens
    await communicator.disconnect()
