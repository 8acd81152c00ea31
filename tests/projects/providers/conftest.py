"""Speech made by the real espeak-ng, heard by a real (small) Whisper, and a server that speaks OpenAI's protocol."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from livekit import rtc
from pytest_django import Settings

from projects.providers import get_provider
from projects.providers.base import Credentials, Kind, Persona

MICRO_WHISPER = Path(__file__).parents[2] / "fixtures" / "micro-whisper"

Speak = Callable[[str], Awaitable[rtc.AudioFrame]]


@pytest.fixture
def own_data_folder(settings: Settings, tmp_path: Path) -> Path:
    """A data folder without any model, and no Whisper model set."""
    settings.MOLTS_DATA_DIR = tmp_path
    settings.MOLTS_WHISPER_MODEL = ""
    settings.MOLTS_OFFLINE = False
    settings.MOLTS_ACCEPT_VOICE_TERMS = False
    return tmp_path


@pytest.fixture
def micro_whisper(settings: Settings) -> Path:
    """The tests' speech model is the default model."""
    settings.MOLTS_WHISPER_MODEL = str(MICRO_WHISPER)
    settings.MOLTS_WHISPER_DEVICE = "cpu"
    return MICRO_WHISPER


def build(key: str, kind: Kind, *, persona: Persona | None = None, base_url: str = "", **options: Any) -> Any:
    """A component of a provider."""
    provider = get_provider(key)
    build = {Kind.STT: provider.build_stt, Kind.LLM: provider.build_llm, Kind.TTS: provider.build_tts}[kind]
    return build(
        options=provider.parse_options(kind, options),
        credentials=Credentials(api_key="sk-canary-1234567890", base_url=base_url),
        persona=persona or Persona(),
    )


@pytest.fixture
def speak() -> Speak:
    """Text spoken by espeak-ng: one frame, 22.05 kHz."""

    async def speak(text: str) -> rtc.AudioFrame:
        async with build("espeak", Kind.TTS, rate=150) as voice:
            frame: rtc.AudioFrame = await voice.synthesize(text).collect()
            return frame

    return speak


def resampled(frame: rtc.AudioFrame, rate: int) -> list[rtc.AudioFrame]:
    """The frame at another rate, in pieces, as a session hands it out."""
    resampler = rtc.AudioResampler(frame.sample_rate, rate)
    return [*resampler.push(frame), *resampler.flush()]


@dataclass
class FakeVendor:
    """A server on loopback that speaks OpenAI's documented protocol. `mood` makes it misbehave."""

    url: str = ""
    mood: str = "well"  # well | hang | hang_midway | refuse | busy | wrong_json | page | echo | redirect
    status: int = 302  # of "echo"
    text: str = "hello from afar"
    audio: bytes = b""
    audio_type: str = "audio/wav"
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/audio/transcriptions", self.transcribe)
        app.router.add_post("/v1/audio/speech", self.speech)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/api/tags", self.tags)
        return app

    async def misbehave(self, request: web.Request) -> web.StreamResponse | None:
        self.requests.append((request.path, dict(request.headers)))
        match self.mood:
            case "hang":
                await asyncio.sleep(30)
            case "refuse":
                error = {"message": "Incorrect API key provided: sk-canary-1234567890.", "code": "invalid_api_key"}
                return web.json_response({"error": error}, status=401)
            case "busy":
                return web.json_response({"error": {"message": "Rate limit reached."}}, status=429)
            case "wrong_json":
                return web.Response(text='{"surprise": [', content_type="application/json")
            case "page":
                return web.Response(text="<h1>It works!</h1>", content_type="text/html")
            case "echo":  # the key comes back wherever a server can put it
                key = request.headers["Authorization"].removeprefix("Bearer ")
                headers = {"Location": f"/login?key={key}", "X-Request-Id": f"for-{key}"}
                return web.json_response({"error": {"message": f"moved, {key}"}}, status=self.status, headers=headers)
            case "redirect":
                return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"})
        return None

    async def chat(self, request: web.Request) -> web.StreamResponse:
        if answer := await self.misbehave(request):
            return answer
        body = await request.json()
        self.bodies.append(body)
        if not body.get("stream"):
            message = {"role": "assistant", "content": self.text}
            return web.json_response(
                {"id": "c1", "object": "chat.completion", "created": 1, "model": body["model"],
                 "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            )  # fmt: skip
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for index, word in enumerate(self.text.split(" ")):
            if self.mood == "hang_midway" and index:
                await asyncio.sleep(30)
            await response.write(_event(body["model"], {"content": word if not index else f" {word}"}))
        await response.write(_event(body["model"], {}, finish="stop"))
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        await response.write(_event(body["model"], None, usage=usage))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        upload = form["file"]
        assert isinstance(upload, web.FileField)
        self.bodies.append({**form, "wav": upload.file.read()})
        return await self.misbehave(request) or web.json_response({"text": self.text})

    async def speech(self, request: web.Request) -> web.StreamResponse:
        if answer := await self.misbehave(request):
            return answer
        self.bodies.append(await request.json())
        if self.audio_type != "text/event-stream":
            return web.Response(body=self.audio, headers={"Content-Type": self.audio_type})
        deltas = [self.audio[start : start + 3000] for start in range(0, len(self.audio), 3000)]
        events: list[dict[str, Any]]
        events = [{"type": "speech.audio.delta", "audio": base64.b64encode(delta).decode()} for delta in deltas]
        events.append({"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 90}})
        lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        return web.Response(body=lines.encode(), headers={"Content-Type": self.audio_type})

    async def models(self, request: web.Request) -> web.StreamResponse:
        return await self.misbehave(request) or web.json_response({"object": "list", "data": []})

    async def tags(self, request: web.Request) -> web.StreamResponse:
        return await self.misbehave(request) or web.json_response({"models": [{"name": "llama3.2:latest"}]})


def _event(model: str, delta: dict[str, str] | None, *, finish: str | None = None, usage: Any = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices, "usage": usage,
    }  # fmt: skip
    return f"data: {json.dumps(chunk)}\n\n".encode()


@pytest.fixture
async def vendor(settings: Settings) -> AsyncIterator[FakeVendor]:
    """The fake server; the operator has allowed its address."""
    settings.MOLTS_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    fake = FakeVendor()
    server = TestServer(fake.app(), host="127.0.0.1")
    await server.start_server(shutdown_timeout=0.1)
    fake.url = f"http://127.0.0.1:{server.port}/v1"
    yield fake
    await server.close()
