"""The socket through the real web server: cuts, readers that stop reading, close codes as a browser sees them."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import uvicorn
from asgiref.sync import sync_to_async
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from avatars.models import Agent
from molts import beats
from molts.asgi import application
from molts.front_door import BoundedWebSocket, FrontDoor
from sessions import consumers, presence, services
from sessions.models import LiveSession
from tests.agent_runtime.stack import RedisServer, free_port, wait_for
from tests.sessions.factories import make_session, say
from tests.sessions.test_consumers import visitor_cookie

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_redis")]


@pytest.fixture
def web(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Port of uvicorn, in a thread of this process so that it shares the test's database and settings."""
    monkeypatch.setattr(consumers, "reconcile_session", lambda session_id: None)
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            port=port,
            http=FrontDoor,
            ws=BoundedWebSocket,
            ws_max_size=16_384,
            lifespan="off",
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for("uvicorn", lambda: server.started, seconds=10)
    yield port
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def talk(agent: Agent, own_redis: RedisServer) -> LiveSession:
    return make_talk(agent)


def make_talk(agent: Agent) -> LiveSession:
    """A running conversation whose agent is alive, so that its page hears of nothing but what is said."""
    session = make_session(agent)
    beats.client().set(presence.agent_key(session.pk), "1:agent-x", px=120_000)
    return session


def page(port: int, session: LiveSession, *, query: str = "", **changes: Any) -> connect:
    headers = {"Cookie": visitor_cookie(session)}
    origin = f"http://127.0.0.1:{port}"
    url = f"ws://127.0.0.1:{port}/ws/sessions/{session.pk}/{query}"
    return connect(url, **{"origin": origin, "additional_headers": headers, **changes})


async def receive(reader: ClientConnection) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(await asyncio.wait_for(reader.recv(), 5))
    return event


async def write(session: LiveSession, *texts: str) -> None:
    for text in texts:
        await sync_to_async(say)(session, "user", text)


async def test_it_resumes_after_a_cut_with_exactly_what_was_missed(web: int, talk: LiveSession) -> None:
    async with page(web, talk) as reader:
        assert (await receive(reader))["segments"] == []
        await write(talk, "one", "two")
        assert [(await receive(reader))["seq"] for _ in range(2)] == [1, 2]
        reader.transport.abort()  # as when the network goes
    await write(talk, *(f"missed {number}" for number in range(3, 9)))
    async with page(web, talk, query="?after=2") as reader:
        snapshot = await receive(reader)
        assert [line["seq"] for line in snapshot["segments"]] == [3, 4, 5, 6, 7, 8]
        await write(talk, "nine")
        assert (await receive(reader))["seq"] == 9


async def test_it_loses_no_line_to_cuts_while_others_write(web: int, talk: LiveSession) -> None:
    """Twelve cuts in the middle of sixty lines: every page ends with all of them, once, in order."""
    wanted = 60
    writing = threading.Thread(target=lambda: [say(talk, "user", f"line {number}") for number in range(wanted)])

    async def follow() -> list[int]:
        seen: list[int] = []
        cuts = 4
        deadline = time.monotonic() + 30
        while len(seen) < wanted and time.monotonic() < deadline:
            async with page(web, talk, query=f"?after={seen[-1] if seen else 0}") as reader:
                seen += [line["seq"] for line in (await receive(reader))["segments"]]
                until = len(seen) + 7
                while len(seen) < wanted and not (cuts and len(seen) >= until):
                    event = await receive(reader)
                    if event["type"] == "transcript.final":
                        seen.append(event["seq"])
                if len(seen) < wanted:
                    cuts -= 1
                    reader.transport.abort()
        return seen

    following = [asyncio.create_task(follow()) for _ in range(3)]
    await asyncio.sleep(0.2)
    writing.start()
    results = await asyncio.gather(*following)
    writing.join()
    assert results == [list(range(1, wanted + 1))] * 3


async def test_it_drops_a_reader_that_stops_reading_and_serves_the_others(
    web: int, talk: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "SEND_SECONDS", 1)
    quick_beats(monkeypatch)
    stuck = await asyncio.to_thread(open_and_stop_reading, web, talk)
    memory = psutil.Process(os.getpid()).memory_info().rss
    others = await sync_to_async(make_talk)(talk.agent)
    text = "x" * 200_000
    async with page(web, others) as reader:
        await receive(reader)
        for number in range(1, 41):  # 8 MB: far more than the kernel keeps for a reader that takes nothing
            await write(talk, text)
            await write(others, "hello")
            assert (await receive(reader))["seq"] == number
        await gone(talk)
    stuck.close()
    assert psutil.Process(os.getpid()).memory_info().rss - memory < 60_000_000


async def test_it_lets_go_of_a_page_that_vanishes_while_it_is_sent_to(
    web: int, talk: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_beats(monkeypatch)
    async with page(web, talk) as reader:
        await receive(reader)
        await asyncio.sleep(0.3)
        assert (await sync_to_async(presence.presence)(talk.pk)).visitor
        writing = threading.Thread(target=lambda: [say(talk, "user", "x" * 100_000) for _ in range(10)])
        writing.start()
        reader.transport.abort()
        await asyncio.to_thread(writing.join)
    await gone(talk)


def quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(presence, "VISITOR_GONE_AFTER_MS", 500)


async def gone(session: LiveSession) -> None:
    """Returns when no socket stands for the visitor any more."""
    deadline = time.monotonic() + 10
    while (await sync_to_async(presence.presence)(session.pk)).visitor:
        assert time.monotonic() < deadline, "somebody still beats for the visitor"
        await asyncio.sleep(0.1)


def open_and_stop_reading(port: int, session: LiveSession) -> socket.socket:
    """A raw WebSocket with a small receive buffer that is opened and never read again."""
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        f"GET /ws/sessions/{session.pk}/ HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Origin: http://127.0.0.1:{port}",
        f"Cookie: {visitor_cookie(session)}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
    )
    reader.sendall("\r\n".join([*lines, "", ""]).encode())
    assert b"101" in reader.recv(64)
    return reader


async def close_code(reader: ClientConnection) -> int:
    await asyncio.wait_for(reader.wait_closed(), 5)
    assert reader.close_code is not None
    return reader.close_code


async def test_its_close_codes_reach_the_page(web: int, talk: LiveSession) -> None:
    async with page(web, talk, additional_headers={}) as reader:
        assert await close_code(reader) == 4401
    async with page(web, talk, query="?after=-1") as reader:
        assert await close_code(reader) == 4400
    gone = LiveSession(pk=uuid.uuid4())
    async with page(web, gone) as reader:
        assert await close_code(reader) == 4404
    async with page(web, talk) as reader:
        await receive(reader)
        await sync_to_async(services.end_session)(session_id=talk.pk, reason="ended_by_user")
        await sync_to_async(beats.client().delete)(presence.agent_key(talk.pk))  # the agent has left
        assert await close_code(reader) == 4410


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://127.0.0.1:1"])
async def test_it_refuses_the_handshake_of_other_pages(web: int, talk: LiveSession, origin: Any) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with page(web, talk, origin=origin):
            pass
    assert refused.value.response.status_code == 403


async def test_it_notices_within_ten_seconds_that_redis_lost_the_subscription(
    web: int, talk: LiveSession, own_redis: RedisServer
) -> None:
    """The channel layer's connection is cut by Redis: lines written meanwhile arrive from the database."""
    async with page(web, talk) as reader:
        await receive(reader)
        await asyncio.sleep(0.2)
        await sync_to_async(beats.client().client_kill_filter)(_type="pubsub")
        await write(talk, "one", "two", "three")
        begun = time.monotonic()
        seen: list[int] = []
        while len(seen) < 3:
            event = json.loads(await asyncio.wait_for(reader.recv(), 10))
            if event["type"] == "transcript.final":
                seen.append(event["seq"])
        assert seen == [1, 2, 3]
        assert time.monotonic() - begun < 10
