"""Hosted faces against servers that answer as the vendors document it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit.agents import APIConnectOptions, utils
from pytest_django import Settings

from molts.errors import BadConfiguration, MoltsError
from molts.http import guarded_session
from projects.probes import probe_connection
from projects.providers import get_provider, providers_for
from projects.providers.base import Credentials, Kind, Options
from projects.providers.hosted.face import HostedFaceProvider
from projects.providers.shared.livekit_private import calls_through

KEY = "vendor-key-123456"
OPTIONS: dict[str, dict[str, Any]] = {
    "heygen": {"avatar_id": "anna", "video_quality": "high"},
    "tavus": {"face_id": "r1", "persona_id": "p1"},
    "simli": {"face_id": "f1", "max_minutes": 20},
    "anam": {"avatar_id": "a1"},
    "bey": {"avatar_id": "b1"},
    "did": {"agent_id": "d1"},
}
STARTS = {
    "heygen": ("POST /v1/sessions/token", "x-api-key", KEY),
    "tavus": ("POST /v2/conversations", "x-api-key", KEY),
    "simli": ("POST /compose/token", "x-simli-api-key", KEY),
    "anam": ("POST /v1/engine/session", "authorization", f"Bearer {KEY}"),
    "bey": ("POST /v1/sessions", "x-api-key", KEY),
    "did": ("POST /v2/agents/d1/sessions/join", "authorization", f"Basic {KEY}"),
}
"""The first call that carries the account's key."""
PROBES = {
    "heygen": "GET /v1/users/credits",
    "tavus": "GET /v2/faces",
    "simli": "GET /faces",
    "anam": "GET /v1/avatars",
    "bey": "GET /v1/auth/verify",
    "did": "GET /credits",
    "bithuman": "POST /v1/runtime-tokens/mint",
}


@dataclass
class Vendor:
    """All vendors in one server: it notes what it is asked and answers with what any of them reads."""

    url: str = ""
    status: int = 200
    calls: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.text()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.calls.append((f"{request.method} {request.path}", headers, json.loads(body) if body else None))
        if self.status != 200:
            return web.json_response({"message": f"no: {KEY}"}, status=self.status)
        session = {"session_id": "s1", "session_token": "t1", "ws_url": self.url.replace("http", "ws") + "/socket"}
        known = {"data": session, "conversation_id": "c1", "sessionToken": "t1", "sessionId": "s1", "id": "s1"}
        return web.json_response({**known, "session_token": "t1", "token": "short-lived", "valid": True, "code": 100})

    def headers_of(self, call: str) -> dict[str, str]:
        found: dict[str, dict[str, str]] = {name: headers for name, headers, _ in reversed(self.calls)}
        return found[call]

    def texts(self) -> str:
        return json.dumps([body for _, _, body in self.calls])


@pytest.fixture
async def vendor(settings: Settings) -> AsyncIterator[Vendor]:
    settings.MOLTS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    vendor = Vendor()
    app = web.Application()
    app.router.add_get("/socket", vendor.socket)
    app.router.add_route("*", "/{path:.*}", vendor.answer)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server(shutdown_timeout=0.1)
    vendor.url = f"http://127.0.0.1:{server.port}"
    yield vendor
    await server.close()


class Output:
    """Takes the place of the agent's audio output: what the plugin puts there is what matters."""

    tail: Any = None

    def replace_audio_tail(self, tail: Any) -> None:
        self.tail = tail


class Talk:
    """As much of an AgentSession as the plugins touch."""

    def __init__(self) -> None:
        self.output = Output()

    def on(self, name: str, handler: Any = None) -> Any:
        return handler if handler is not None else (lambda made: made)

    off = on


def options_of(provider: HostedFaceProvider, **given: Any) -> Options:
    return provider.parse_options(Kind.AVATAR, given or OPTIONS[provider.key])


def hosted(key: str) -> HostedFaceProvider:
    provider = get_provider(key)
    assert isinstance(provider, HostedFaceProvider)
    return provider


async def start(avatar: Any, monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Start the vendor's session as an agent's job does."""
    claims = SimpleNamespace(identity="agent-1")
    job = SimpleNamespace(
        local_participant_identity="agent-1", token_claims=lambda: claims, add_shutdown_callback=lambda _: None
    )
    module = __import__(type(avatar).__module__, fromlist=["get_job_context"])
    monkeypatch.setattr(module, "get_job_context", lambda required=True: job)
    room = SimpleNamespace(
        name="room-1",
        isconnected=lambda: False,
        on=lambda *_: None,
        off=lambda *_: None,
        local_participant=SimpleNamespace(identity="agent-1", register_rpc_method=lambda *_: None, _rpc_handlers={}),
    )
    talk = Talk()
    async with asyncio.timeout(10):
        await avatar.start(
            talk,
            room,
            livekit_url="wss://media.example.com",
            livekit_api_key="APIkey",
            livekit_api_secret="a secret of more than 32 characters",
        )
    return talk


@pytest.mark.parametrize("key", OPTIONS)
async def test_a_session_starts_with_the_account_key_and_lets_the_vendor_in_as_the_agents_face(
    key: str, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = hosted(key)
    async with utils.http_context.open():
        avatar = await provider.build_avatar(
            options=options_of(provider), credentials=Credentials(KEY, vendor.url), identity="face-1"
        )
        assert avatar.avatar_identity == "face-1"
        talk = await start(avatar, monkeypatch)

    call, header, value = STARTS[key]
    assert vendor.headers_of(call)[header] == value
    assert talk.output.tail is not None, "the voice still goes to the room, not to the vendor"
    tokens = [word for word in vendor.texts().replace('"', " ").split() if word.startswith("eyJ")]
    claims = jwt.decode(tokens[0], options={"verify_signature": False})
    assert claims["sub"] == "face-1"
    assert claims["video"]["room"] == "room-1"
    assert claims["attributes"] == {"lk.publish_on_behalf": "agent-1"}
    assert KEY not in vendor.texts()


@pytest.mark.parametrize("key", OPTIONS)
async def test_no_vendor_is_called_at_a_private_address(
    key: str, vendor: Vendor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugins call out by themselves; a configured address is judged for them like any other."""
    settings.MOLTS_ALLOWED_NETWORKS = []
    once = APIConnectOptions(max_retry=0)
    provider = hosted(key)
    async with guarded_session() as session:
        with calls_through(session):
            avatar = await provider.build_avatar(
                options=options_of(provider), credentials=Credentials(KEY, vendor.url), identity="face-1"
            )
            vars(getattr(avatar, "_api", avatar))["_conn_options"] = once  # else it tries for six seconds
            tail = None
            with contextlib.suppress(Exception):  # each plugin has an error of its own, and one only logs it
                tail = (await start(avatar, monkeypatch)).output.tail
    assert vendor.calls == []
    assert tail is None

    settings.MOLTS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    async with guarded_session() as session:
        with calls_through(session):
            avatar = await provider.build_avatar(
                options=options_of(provider), credentials=Credentials(KEY, vendor.url), identity="face-1"
            )
            talk = await start(avatar, monkeypatch)
            assert talk.output.tail is not None
    assert vendor.calls


@pytest.mark.parametrize(
    ("key", "call"), [("heygen", "POST /v1/sessions/stop"), ("tavus", "POST /v2/conversations/c1/end")]
)
async def test_a_face_that_is_given_up_costs_no_longer(
    key: str, call: str, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, credentials = hosted(key), Credentials(KEY, vendor.url)
    async with guarded_session() as session:
        with calls_through(session):
            avatar = await provider.build_avatar(
                options=options_of(provider), credentials=credentials, identity="face-1"
            )
            await start(avatar, monkeypatch)

        await provider.end_avatar(avatar, credentials=credentials)

    assert call in [name for name, _, _ in vendor.calls]


async def test_only_the_vendor_is_called_through_the_guarded_session() -> None:
    """LiveKit's own API uses the same place; the media server may be on a private address."""
    async with utils.http_context.open() as jobs, guarded_session() as session:
        with calls_through(session):
            assert utils.http_context.http_session() is session
        assert utils.http_context.http_session() is jobs


async def test_bithuman_is_given_a_token_for_an_hour_not_the_secret(vendor: Vendor) -> None:
    """The plugin writes what it is given into the room's participant list."""
    provider = hosted("bithuman")

    assert await provider.mint(Credentials(KEY, vendor.url)) == "short-lived"  # type: ignore[attr-defined]

    (call, headers, body) = vendor.calls[0]
    assert call == "POST /v1/runtime-tokens/mint"
    assert headers["api-secret"] == KEY
    assert body == {"scope": "livekit-cloud"}


@pytest.mark.parametrize("key", PROBES)
async def test_the_connection_test_makes_one_call_that_needs_no_options(key: str, vendor: Vendor) -> None:
    credentials = Credentials(KEY, vendor.url)
    (probe,) = await asyncio.to_thread(probe_connection, provider=hosted(key), credentials=credentials)

    assert probe.result.ok, probe.result.text
    assert [call for call, _, _ in vendor.calls] == [PROBES[key]]


@pytest.mark.parametrize("key", PROBES)
async def test_a_wrong_key_is_said_in_the_vendors_words_without_the_key(key: str, vendor: Vendor) -> None:
    vendor.status = 401
    credentials = Credentials(KEY, vendor.url)
    (probe,) = await asyncio.to_thread(probe_connection, provider=hosted(key), credentials=credentials)

    assert not probe.result.ok
    assert "401" in probe.result.text
    assert "no:" in probe.result.text
    assert KEY not in probe.result.text


@pytest.mark.parametrize("provider", providers_for(Kind.AVATAR), ids=lambda provider: provider.key)
async def test_what_is_missing_is_named(provider: HostedFaceProvider, settings: Settings) -> None:
    settings.LIVEKIT_PUBLIC_URL = "wss://media.example.com"
    unset = provider.parse_options(Kind.AVATAR, {})

    if provider.required:
        found = provider.check(Kind.AVATAR, options=unset, credentials=Credentials(KEY))
        assert not found.ready
        assert provider.required[0] in found.text
        with pytest.raises(MoltsError, match=r"is not set|not installed"):
            await provider.build_avatar(options=unset, credentials=Credentials(KEY), identity="face-1")
    with pytest.raises(BadConfiguration, match="avatr"):
        provider.parse_options(Kind.AVATAR, {"avatr": "x"})


@pytest.mark.parametrize("address", ["ws://127.0.0.1:7880", "ws://192.168.1.5:7880", "ws://localhost:7880"])
def test_a_media_server_that_no_vendor_can_reach_is_found_before_the_talk(settings: Settings, address: str) -> None:
    provider = hosted("tavus")
    settings.LIVEKIT_PUBLIC_URL = address

    found = provider.check(Kind.AVATAR, options=options_of(provider), credentials=Credentials(KEY))

    assert not found.ready
    assert "LIVEKIT_PUBLIC_URL" in found.fix
    settings.LIVEKIT_PUBLIC_URL = "wss://media.example.com"
    assert provider.check(Kind.AVATAR, options=options_of(provider), credentials=Credentials(KEY)).ready


def test_a_missing_plugin_is_found_and_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.LIVEKIT_PUBLIC_URL = "wss://media.example.com"
    provider = hosted("tavus")
    monkeypatch.setattr("projects.providers.hosted.face.find_spec", lambda _: None)

    found = provider.check(Kind.AVATAR, options=options_of(provider), credentials=Credentials(KEY))

    assert not found.ready
    assert "molts[hosted-faces]" in found.fix
