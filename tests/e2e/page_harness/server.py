"""An ASGI application in a thread that serves one room page and obeys the test."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID, uuid4

import uvicorn
from django.template.loader import render_to_string

from sessions import events
from sessions.choices import AgentStateName, EndReason, NoticeCode, NoticeLevel, Role, SessionState

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ROOT = Path(__file__).resolve().parents[3]
LINK = "lnk_harness"
DEADLINE = 10.0
GZIPPED = b"\x1f\x8b"


class RoomServer:
    """One link with at most one running session. Attributes may be changed between requests."""

    def __init__(self, *, media_url: str = "ws://127.0.0.1:9", token: Callable[[str], str] | None = None) -> None:
        self.media_url = media_url
        self.token = token or (lambda room: "no-token")
        self.link_state = "open"
        self.invited = False
        """A program has made the running session, and this browser has not entered it yet."""
        self.refusal: tuple[int, str] | None = None
        self.max_seconds: int | None = None
        self.stun_servers: list[str] = []
        self.headers: dict[str, str] = {}
        """Headers that an operator's proxy adds."""
        self.agent: dict[str, Any] = {
            "name": "Mira",
            "description": "Receptionist of Harbour House, a small hotel by the sea.",
            "language": "en",
            "portrait_url": "/static/src/portraits/mira.webp",
            "greeting": "Hello, this is Mira.",
        }
        self.catalog: dict[str, str] = {}
        self.session_id: UUID = uuid4()
        self.running = False
        self.state = SessionState.WAITING
        self.reason: EndReason | None = None
        self.agent_state = AgentStateName.INITIALIZING
        self.segments: list[events.SegmentData] = []
        self.started_at = datetime.now(UTC)
        self.said: list[str] = []
        self.after: list[int] = []
        self.names: list[str | None] = []
        self.erased = False
        self.accepting = True
        self.frozen = False
        """As a process that is stopped: every connection stands, and nothing is answered any more."""
        self.orders: list[tuple[str, str]] = []
        """(id, text) of the lines that came over HTTP."""
        self._sockets: set[asyncio.Queue[str | int]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/r/{LINK}"

    @property
    def room_name(self) -> str:
        return f"harness-{self.session_id.hex[:8]}"

    # -- Life ------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        config = uvicorn.Config(
            self, host="127.0.0.1", port=0, log_level="warning", lifespan="off", ws="websockets-sansio"
        )
        self._server = uvicorn.Server(config)
        ready: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        self.port = ready.result(timeout=DEADLINE)

    def _run(self, ready: Future[int]) -> None:
        server = self._server
        assert server is not None

        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            serving = asyncio.create_task(server.serve())
            while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            ready.set_result(server.servers[0].sockets[0].getsockname()[1])
            await serving

        asyncio.run(main())

    def stop(self) -> None:
        if self._loop is not None:
            self.cut(code=1001)
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(timeout=DEADLINE)

    # -- What a test says ------------------------------------------------------------------------------------------
    @property
    def offset_ms(self) -> int:
        return int((datetime.now(UTC) - self.started_at).total_seconds() * 1000)

    def push(self, event: events.SessionEvent) -> None:
        """Tells every open page `event`, stamped with the session's clock."""
        text = events.encode(event.model_copy(update={"offset_ms": event.offset_ms or self.offset_ms}))
        self._put(text)

    def become(self, state: str) -> None:
        self.agent_state = AgentStateName(state)
        if state != "initializing" and state != "lost":
            self.state = SessionState.ACTIVE
        self.push(events.AgentStateEvent(state=self.agent_state))

    def notice(self, level: str, code: str, text: str) -> None:
        self.push(events.NoticeEvent(level=NoticeLevel(level), code=NoticeCode(code), text=text))

    def partial(self, role: str, segment_id: str, text: str) -> None:
        self.push(events.TranscriptPartial(segment_id=segment_id, role=Role(role), text=text))

    def final(self, role: str, text: str, segment_id: str | None = None, **more: Any) -> events.SegmentData:
        """Keeps a line as the database would, and tells it."""
        seq = len(self.segments) + 1
        now = self.offset_ms
        times = {"start_ms": max(0, now - 900), "end_ms": now} | more
        segment = events.SegmentData(
            seq=seq, segment_id=segment_id or f"seg-{seq}", role=Role(role), text=text, **times
        )
        self.segments.append(segment)
        self.push(events.TranscriptFinal(**segment.model_dump()))
        return segment

    def end(self, reason: str) -> None:
        self.running = False
        self.state, self.reason = SessionState.ENDED, EndReason(reason)
        self.push(events.SessionStateEvent(state=self.state, reason=self.reason))
        self.cut(code=4410)

    def cut(self, code: int = 1012) -> None:
        """Closes every WebSocket."""
        self._put(code)

    def _put(self, item: str | int) -> None:
        assert self._loop is not None

        def deliver() -> None:
            for queue in self._sockets:
                queue.put_nowait(item)

        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(deliver)

    # -- HTTP ------------------------------------------------------------------------------------------------------
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._thaw()
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            status, kind, body = await self._answer(scope, receive)
            headers = [(b"content-type", kind.encode()), (b"content-security-policy", self._policy().encode())]
            headers += [(name.encode(), value.encode()) for name, value in self.headers.items()]
            if scope["path"].startswith("/static/"):
                headers.append((b"access-control-allow-origin", b"*"))  # as WhiteNoise does
            if body.startswith(GZIPPED):
                headers.append((b"content-encoding", b"gzip"))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _thaw(self) -> None:
        while self.frozen:  # noqa: ASYNC110 - a test sets it from another thread
            await asyncio.sleep(0.05)

    def _policy(self) -> str:
        media = self.media_url
        return (
            "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
            f"connect-src 'self' {media} {media.replace('ws', 'http', 1)}; base-uri 'none'"
        )

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, str, bytes]:
        method, path = scope["method"], scope["path"]
        if path.startswith("/static/"):
            return _static(path)
        if method == "GET" and path == f"/r/{LINK}":
            framed = dict(scope["headers"]).get(b"sec-fetch-dest") == b"iframe"
            return 200, "text/html; charset=utf-8", self._page(framed).encode()
        if method == "GET" and path.endswith("/transcript"):
            return 200, "text/plain; charset=utf-8", "\n".join(line.text for line in self.segments).encode()
        if dict(scope["headers"]).get(b"x-csrftoken") != b"harness-token":
            return _refuse(403, "csrf")
        body = json.loads(await _body(receive) or b"{}")
        return self._act(method, path, body)

    def _act(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, str, bytes]:
        base = f"/r/{LINK}/sessions/{self.session_id}/"
        if method == "POST" and path == f"/r/{LINK}/start":
            return self._start(body)
        if method == "POST" and path == f"{base}end":
            self.end("ended_by_user")
            return _json(200, {"state": "ended", "reason": "ended_by_user"})
        if method == "POST" and path == f"{base}say" and "text" in body:  # else the page has given up on it
            self.said.append(body["text"])
            self.orders.append((body["id"], body["text"]))
            return _json(202, {})
        if method == "DELETE" and path == base:
            self.erased = True
            self.segments.clear()
            return 204, "text/plain", b""
        return _refuse(404, "not_found")

    def _start(self, body: dict[str, Any]) -> tuple[int, str, bytes]:
        if self.refusal:
            return _refuse(*self.refusal)
        resumed = "resume" in body
        if resumed and not (self.running and body["resume"] == str(self.session_id)):
            return _refuse(410, "session_ended")
        self.invited = False
        if not resumed:
            self.begin()
            self.names.append(body.get("name"))
        answer = {
            "session": {"id": str(self.session_id), "state": self.state},
            "room_name": self.room_name,
            "server_url": self.media_url,
            "participant_token": self.token(self.room_name),
            "ws_path": f"/ws/sessions/{self.session_id}/",
        }
        return _json(200 if resumed else 201, answer)

    def begin(self) -> None:
        """A running session, as if this browser had started it before."""
        self.session_id = uuid4()
        self.running, self.reason = True, None
        self.state, self.agent_state = SessionState.WAITING, AgentStateName.INITIALIZING
        self.segments = []
        self.started_at = datetime.now(UTC)

    def _page(self, framed: bool) -> str:
        session = {"id": str(self.session_id), "ws_path": f"/ws/sessions/{self.session_id}/"} if self.running else None
        boot = {
            "link": LINK,
            "state": ("invited" if self.invited else "resume") if session else self.link_state,
            "agent": self.agent,
            "project": "Harbour House",
            "max_seconds": self.max_seconds,
            "start_url": f"/r/{LINK}/start",
            "session": session,
            "offline_recogniser": False,
            "stun_servers": self.stun_servers,
        }
        context = {"boot": boot, "catalog": self.catalog, "csrf_token": "harness-token", "framed": framed}
        return render_to_string("room/room.html", context)

    # -- WebSocket -------------------------------------------------------------------------------------------------
    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if not self.accepting:
            await send({"type": "websocket.close", "code": 1013})
            return
        await send({"type": "websocket.accept"})
        after = int(parse_qs(scope["query_string"].decode()).get("after", ["0"])[0])
        self.after.append(after)
        queue: asyncio.Queue[str | int] = asyncio.Queue()
        queue.put_nowait(events.encode(self._snapshot(after)))
        if not self.running and self.reason:
            queue.put_nowait(4410)
        self._sockets.add(queue)
        listener = asyncio.create_task(self._answer_pings(receive, queue))
        try:
            while not listener.done():
                getter = asyncio.create_task(queue.get())
                await asyncio.wait({getter, listener}, return_when=asyncio.FIRST_COMPLETED)
                if not getter.done():
                    getter.cancel()
                    break
                item = getter.result()
                await self._thaw()
                if isinstance(item, int):
                    await send({"type": "websocket.close", "code": item})
                    break
                await send({"type": "websocket.send", "text": item})
        finally:
            self._sockets.discard(queue)
            listener.cancel()

    async def _answer_pings(self, receive: Receive, queue: asyncio.Queue[str | int]) -> None:
        """Ends when the page has closed the socket."""
        while (await receive())["type"] != "websocket.disconnect":
            queue.put_nowait(events.encode(events.Pong(offset_ms=self.offset_ms)))

    def _snapshot(self, after: int) -> events.SnapshotEvent:
        session = events.SessionData(
            id=self.session_id,
            state=self.state,
            reason=self.reason,
            agent_name=self.agent["name"],
            agent_state=self.agent_state,
            started_at=self.started_at,
            ended_at=None,
            max_seconds=self.max_seconds,
        )
        newer = [segment for segment in self.segments if segment.seq > after]
        return events.SnapshotEvent(
            offset_ms=self.offset_ms, session=session, segments=newer, last_seq=len(self.segments)
        )


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


def _static(path: str) -> tuple[int, str, bytes]:
    """Compressed where the build has left a compressed copy, as the web server does."""
    file = (ROOT / path.lstrip("/")).resolve()
    if not file.is_relative_to(ROOT / "static") or not file.is_file():
        return 404, "text/plain", b""
    packed = file.with_name(f"{file.name}.gz")
    body = (packed if packed.is_file() else file).read_bytes()
    return 200, mimetypes.guess_type(file.name)[0] or "application/octet-stream", body


def _json(status: int, body: object) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(body).encode()


def _refuse(status: int, code: str) -> tuple[int, str, bytes]:
    return _json(status, {"type": "client_error", "errors": [{"code": code, "detail": code, "attr": None}]})
