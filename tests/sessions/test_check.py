"""The check of the visitor's side: its page, its throw-away room, its WebSocket."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from asgiref.sync import async_to_sync
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.utils.translation import override
from pytest_django import Settings

from molts.asgi import application
from molts.errors import Unavailable
from sessions import reconcile, rooms

TOKEN = "/check/token"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> list[str]:
    """Names of the rooms that were opened; there is no media server."""
    names: list[str] = []

    async def open_room(name: str) -> None:
        names.append(name)

    monkeypatch.setattr(rooms, "open_check_room", open_room)
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()
    return names


def test_the_page_opens_without_a_link_or_an_account(client: Client) -> None:
    page = client.get("/check")
    assert page.status_code == 200
    assert 'id="boot"' in page.content.decode()
    assert settings.LIVEKIT_PUBLIC_URL in page.content.decode()
    assert "no-store" in page["Cache-Control"]


def test_its_token_opens_one_empty_room_to_listen_and_no_more(client: Client, opened: list[str]) -> None:
    answer = client.post(TOKEN)
    assert answer.status_code == 201
    claims = jwt.decode(answer.json()["participant_token"], settings.LIVEKIT_API_SECRET, algorithms=["HS256"])
    assert claims["video"] == {
        "roomJoin": True,
        "room": opened[0],
        "canPublish": False,
        "canPublishData": False,
        "canSubscribe": True,
        "canUpdateOwnMetadata": False,
        "hidden": True,
    }
    assert claims["exp"] - claims["nbf"] <= 125
    assert opened[0].startswith(rooms.room_prefix())
    assert answer["Cache-Control"] == "no-store"


def test_another_site_gets_none(opened: list[str]) -> None:
    assert Client(enforce_csrf_checks=True).post(TOKEN).status_code == 403
    assert opened == []


def test_one_address_gets_so_many_a_minute(client: Client, opened: list[str]) -> None:
    answers = [client.post(TOKEN).status_code for _ in range(21)]
    assert answers == [201] * 20 + [429]
    refused = client.post(TOKEN)
    assert refused.json()["errors"][0]["code"] == "throttled"
    assert int(refused["Retry-After"]) > 0


def test_it_says_so_when_the_media_server_is_away(
    client: Client, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(name: str) -> None:
        raise Unavailable("The media server is out of reach.")

    monkeypatch.setattr(rooms, "open_check_room", away)
    answer = client.post(TOKEN)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (503, "unavailable")


def test_a_room_of_a_check_is_known_by_its_name_until_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    name = rooms.new_check_room_name()
    assert rooms.is_running_check(name)
    assert not rooms.is_running_check(rooms.new_room_name())
    for odd in ("check", "check.", "check.x.y", "check.-1.y", "other.99999999999.y"):
        assert not rooms.is_running_check(rooms.room_prefix() + odd)
    now = time.time()
    monkeypatch.setattr("sessions.rooms.time.time", lambda: now + rooms.CHECK_SECONDS + 1)
    assert not rooms.is_running_check(name)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("live_servers")
def test_the_reconciler_leaves_it_alone_and_closes_it_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    name = rooms.new_check_room_name()
    async_to_sync(rooms.open_check_room)(name)

    reconcile.reconcile_all()
    assert async_to_sync(rooms.list_room_names)(rooms.room_prefix()) == [name]

    monkeypatch.setattr(rooms, "is_running_check", lambda name: False)
    reconcile.reconcile_all()
    assert async_to_sync(rooms.list_room_names)(rooms.room_prefix()) == []


@pytest.mark.usefixtures("live_servers")
def test_a_visitor_is_told_where_to_send_the_voice() -> None:
    from sessions.tokens import check_token

    name = rooms.new_check_room_name()
    async_to_sync(rooms.open_check_room)(name)
    offer = async_to_sync(rooms.ask_offer)(check_token(room_name=name, identity="check"))
    assert {(each.protocol, each.address) for each in offer.candidates} == {("udp", "127.0.0.1")}
    assert offer.relays == ()
    with pytest.raises(Unavailable):
        async_to_sync(rooms.ask_offer)("no token")


@pytest.mark.asyncio
@pytest.mark.usefixtures("own_redis")
async def test_its_socket_says_one_word_and_closes() -> None:
    socket = WebsocketCommunicator(application, "/ws/check/", headers=[*headers("http://127.0.0.1:8000")])
    connected, _ = await socket.connect()
    assert connected
    assert await socket.receive_json_from() == {"type": "hello"}
    assert (await socket.receive_output())["type"] == "websocket.close"


@pytest.mark.asyncio
@pytest.mark.usefixtures("own_redis")
async def test_its_socket_opens_to_no_other_site() -> None:
    socket = WebsocketCommunicator(application, "/ws/check/", headers=[*headers("https://elsewhere.example")])
    connected, _ = await socket.connect()
    assert not connected


def headers(origin: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"127.0.0.1:8000"), (b"origin", origin.encode())]


@pytest.mark.parametrize(("language", "word"), [("de", "Mikrofon"), ("ar", "الميكروفون")])
def test_its_script_gets_its_words_in_the_visitors_language(client: Client, language: str, word: str) -> None:
    with override("en"):
        page: Any = client.get("/check", headers={"accept-language": language})
    assert page.context["catalog"]["Microphone"] == word
