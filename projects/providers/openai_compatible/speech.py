"""One request for speech by OpenAI's protocol, as a conversation makes it and as `Test connection` tries it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    import openai

SAMPLE_RATE = 24000  # of raw samples, by the protocol
ANSWER_SECONDS = 30.0  # without a byte
EVENTS = "text/event-stream"
WITHOUT_EVENTS = ("tts-1", "tts-1-hd")  # models that refuse to be asked for them


@dataclass(frozen=True)
class SpeechRequest:
    """What is asked of the server beside the text."""

    model: str
    voice: str
    response_format: str
    speed: float = 1.0
    instructions: str = ""


@dataclass
class SpeechAnswer:
    """The server's answer while it comes. `tokens` is (in, out), where the server says so at the end."""

    response: Any = field(repr=False)
    content_type: str = ""
    request_id: str = ""
    tokens: tuple[int, int] | None = None

    async def sound(self) -> AsyncIterator[bytes]:
        """The bytes of the sound, whether they come bare or in events."""
        if self.content_type.split(";")[0].strip().lower() != EVENTS:
            async for chunk in self.response.iter_bytes():
                yield chunk
            return
        async for line in self.response.iter_lines():
            if not line.startswith("data:"):
                continue
            if (data := line[5:].strip()) == "[DONE]":
                return
            if piece := self._read(data):
                yield piece

    def _read(self, data: str) -> bytes:
        try:
            event = json.loads(data)
            if event.get("type") == "speech.audio.done":
                usage = event.get("usage") or {}
                self.tokens = (usage.get("input_tokens", 0), usage.get("output_tokens", 0))
            return base64.b64decode(event.get("delta") or event.get("audio") or "")
        except (ValueError, AttributeError, TypeError, RecursionError, binascii.Error):
            return b""  # no event of ours


@asynccontextmanager
async def ask_for_speech(
    client: openai.AsyncClient, request: SpeechRequest, text: str, *, connect_seconds: float = 5.0
) -> AsyncIterator[SpeechAnswer]:
    """Raises what the SDK raises."""
    import openai

    async with client.audio.speech.with_streaming_response.create(
        input=text,
        model=request.model,
        voice=request.voice,
        response_format=request.response_format,  # type: ignore[arg-type]
        speed=request.speed,
        instructions=request.instructions or openai.omit,
        stream_format="audio" if request.model in WITHOUT_EVENTS else "sse",
        timeout=httpx2.Timeout(ANSWER_SECONDS, connect=connect_seconds),
    ) as response:
        yield SpeechAnswer(response, response.headers.get("content-type", ""), response.request_id or "")
