"""A vendor on loopback that speaks OpenAI's protocol and breaks in every way that servers were seen to break."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Self, TypeVar

from aiohttp import web

from tests.agent_runtime.stack import free_port

T = TypeVar("T")
KEY = "sk-canary-1234567890abcdef"
ANSWER = "The train leaves at nine."
HEARD = "when does the train leave"
FOREVER = 3600.0

DEAD, REFUSED, LIMITED, BROKEN, PAGE = "dead", "refused", "limited", "broken", "page"
EMPTY, DONE, BLANKS, THINK, THINK_CUT_UP, TOOL = "empty", "done", "blanks", "think", "think cut up", "tool"
HANGS, HANGS_AFTER_HEADERS, HANGS_MIDWAY, CUT, SLOW = "hangs", "hangs after headers", "hangs midway", "cut", "slow"
PAUSES = "pauses"
AT_ONCE = (DEAD, REFUSED, LIMITED, BROKEN, PAGE, EMPTY, DONE, BLANKS, THINK, THINK_CUT_UP, TOOL)
"""Ways in which a model fails at once and without a word."""
HEARD_SECONDS = 1.0  # until what was sent before a cut is being heard; cut at once, another voice would say it all
SOUNDLESS = (DEAD, REFUSED, LIMITED, BROKEN, PAGE, EMPTY)
"""The same of a voice or a recogniser."""

_STREAMS: dict[str, Sequence[dict[str, Any]]] = {
    BLANKS: [{"content": " "}, {"content": "\n\n"}, {"content": ""}],
    THINK: [{"content": "<think>The visitor asks for a train.</think>"}],
    THINK_CUT_UP: [{"content": piece} for piece in ("<th", "ink", ">A tr", "ain.</th", "ink>", "\n")],
    TOOL: [
        {
            "tool_calls": [
                {"index": 0, "id": "t1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
            ]
        }
    ],
}


class BrokenVendor:
    """`mood` is one of the above, or "well". It is started and stopped with the loop it is used in."""

    def __init__(self) -> None:
        self.mood = "well"
        self.slow_seconds = 12.0
        self.answer: Sequence[str] = [f"{word} " for word in ANSWER.split()]
        self.thoughts: Sequence[str] = ()  # sent before the answer, in a field of their own
        self.audio = b""
        self.recordings: dict[str, bytes] = {}  # by what is said, where it is not `audio`
        self.breaks_at = ""  # from what has this in it on a voice breaks midway; "": from the first
        self.spoken: list[str] = []
        self.port = free_port()
        self.asked: list[list[dict[str, Any]]] = []
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/audio/speech", self._speak)
        app.router.add_post("/v1/audio/transcriptions", self._hear)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def be(self, mood: str) -> None:
        """Break in this way from now on; "dead" is a port where nobody listens."""
        self.mood = mood
        if mood == DEAD:
            await self.stop()
        elif self._runner is None:
            await self.start()

    async def _misbehave(self, request: web.Request, kind: str) -> web.StreamResponse | None:
        match self.mood:
            case "refused":
                return _error(401, f"Incorrect API key provided: {KEY}. You can find yours in your account.")
            case "limited":
                return _error(429, "You exceeded your current quota, please check your plan.")
            case "broken":
                return _error(500, "The server had an error while processing your request.")
            case "page":
                return web.Response(text="<!doctype html><h1>Welcome to nginx!</h1>", content_type="text/html")
            case "empty":
                return web.Response(content_type=kind)
            case "hangs":
                await asyncio.sleep(FOREVER)
            case "hangs after headers":
                response = web.StreamResponse(headers={"Content-Type": kind})
                await response.prepare(request)
                await asyncio.sleep(FOREVER)
            case "slow":
                await asyncio.sleep(self.slow_seconds)
        return None

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body["messages"])
        if answer := await self._misbehave(request, "text/event-stream"):
            return answer
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        mood = self.mood  # of this request to its end
        pieces = _STREAMS.get(mood, [] if mood == DONE else [{"content": piece} for piece in self.answer])
        for thought in self.thoughts:
            await response.write(_chunk({"reasoning_content": thought}))
        for number, piece in enumerate(pieces):
            if number == 2 and mood in (HANGS_MIDWAY, CUT):
                if mood == HANGS_MIDWAY:
                    await asyncio.sleep(FOREVER)
                assert request.transport is not None
                request.transport.abort()
                return response
            await response.write(_chunk(piece))
        if mood != DONE:
            await response.write(_chunk({}, finish="tool_calls" if mood == TOOL else "stop"))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        text = (await request.json())["input"]
        self.spoken.append(text)
        if answer := await self._misbehave(request, "audio/wav"):
            return answer
        audio = self.recordings.get(text, self.audio)
        if self.mood not in (HANGS_MIDWAY, CUT, PAUSES) or not any(self.breaks_at in said for said in self.spoken):
            return web.Response(body=audio, content_type="audio/wav")
        response = web.StreamResponse(headers={"Content-Type": "audio/wav"})
        response.content_length = len(audio)
        await response.prepare(request)
        await response.write(audio[: len(audio) // 2])
        if self.mood == HANGS_MIDWAY:
            await asyncio.sleep(FOREVER)
        await asyncio.sleep(HEARD_SECONDS)
        if self.mood == PAUSES:
            await response.write(audio[len(audio) // 2 :])
            return response
        assert request.transport is not None
        request.transport.abort()
        return response

    async def _hear(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        return await self._misbehave(request, "application/json") or web.json_response({"text": HEARD})


class RunningBrokenVendor:
    """`with RunningBrokenVendor() as vendor:` serves from a thread of its own."""

    def __init__(self) -> None:
        self.vendor = BrokenVendor()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self.vendor.start())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self.vendor.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def be(self, mood: str) -> None:
        self._call(self.vendor.be(mood))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": {"message": text, "type": "error"}}, status=status)


def _chunk(delta: dict[str, Any], *, finish: str | None = None) -> bytes:
    chunk = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()
