"""A conversation without a room: real pipelines on vendors that break at the network, or voices that a test makes
speak, with an ear and a microphone instead of a visitor."""

from __future__ import annotations

import asyncio
import io
import time
import wave
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import APIConnectOptions, ConversationItemAddedEvent, tts
from livekit.agents.llm import ChatMessage
from livekit.agents.stt import STTError
from livekit.agents.utils import aio
from livekit.agents.voice.events import CloseEvent, ErrorEvent
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities

from agent_runtime.apologies import apologies_for
from agent_runtime.attendant import Attendant
from agent_runtime.local_voice import say_locally
from agent_runtime.pipeline import build_pipeline, load_vad
from projects.providers.base import Credentials, KeyedRung, Kind
from projects.providers.chains import BuiltRung, Chain, _combine
from tests.agent_runtime.broken_vendor import KEY, BrokenVendor
from tests.agent_runtime.test_pipeline import LOCAL, PERSONA, make_spec

SAYS = apologies_for("en")
RATE = 24_000
PATIENCE = 60.0
ONCE = APIConnectOptions(max_retry=0)


PARTS = (
    "The museum opens at nine every day.",
    "The second picture was painted in a small house by the sea.",
    "After that we go upstairs to the library.",
)


class Ear(AudioOutput):
    """Hears everything at once."""

    def __init__(self) -> None:
        super().__init__(label="ear", capabilities=AudioOutputCapabilities(pause=False), sample_rate=RATE)
        self.seconds = 0.0
        self._segment = 0.0

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        if not self._segment:
            self.on_playback_started(created_at=time.time())
        if np.frombuffer(frame.data, dtype=np.int16).any():
            self.seconds += frame.duration
        self._segment += frame.duration

    def flush(self) -> None:
        super().flush()
        self._finish(interrupted=False)

    def clear_buffer(self) -> None:
        self._finish(interrupted=True)

    def _finish(self, *, interrupted: bool) -> None:
        if self._segment:
            self.on_playback_finished(playback_position=self._segment, interrupted=interrupted)
        self._segment = 0.0


class Microphone(AudioInput):
    """Gives out what is put into it, in pieces of 20 ms, as fast as it is taken."""

    def __init__(self) -> None:
        super().__init__(label="microphone")
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    def say(self, samples: np.ndarray) -> None:
        step = RATE // 50
        for start in range(0, len(samples) - step, step):
            self._frames.put_nowait(rtc.AudioFrame(samples[start : start + step].tobytes(), RATE, 1, step))

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.get()


@dataclass
class Told:
    """What the visitor and the admin were told."""

    notices: list[tuple[str, str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    asides: list[str] = field(default_factory=list)

    def notice(self, *, level: str, code: str, text: str, once: bool = False, reason: str = "") -> None:
        self.notices.append((level, code))
        self.reasons.append(reason)

    def note_aside(self, text: str) -> None:
        self.asides.append(text)


class Stage:
    """A conversation without a room."""

    def __init__(self, **chains: tuple[KeyedRung, ...]) -> None:
        self.told, self.ear, self.microphone = Told(), Ear(), Microphone()
        kinds = {Kind(kind): rungs for kind, rungs in chains.items()}
        spec = make_spec(chains={**LOCAL, **kinds}, persona=replace(PERSONA, greeting=""))
        self.pipeline = build_pipeline(spec, vad=load_vad(), teller=self.told)
        self.session = self.pipeline.session
        self.said: list[str] = []
        self.fallbacks: list[bool] = []
        self.closed: list[CloseEvent] = []

    async def __aenter__(self) -> Stage:
        for chain in self.pipeline.chains.values():
            chain.on_change(lambda change: self.fallbacks.append(self.pipeline.attendant.takes(change)))
        self.session.output.audio = self.ear
        self.session.input.audio = self.microphone
        self.session.on("conversation_item_added", self._on_item)
        self.session.on("close", self.closed.append)
        self.session.on("error", self._on_error)
        await self.session.start(self.pipeline.agent, record=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.aclose()
        await self.pipeline.aclose()

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        if isinstance(event.item, ChatMessage) and event.item.role == "assistant":
            self.said.append((event.item.text_content or "").strip())

    def _on_error(self, event: ErrorEvent) -> None:
        if isinstance(event.error, STTError) and not event.error.recoverable:
            self.pipeline.attendant.could_not_hear()

    async def ask(self, text: str = "When does the train leave?") -> str:
        """What the agent says to it."""
        self.pipeline.attendant.note_asked()
        before = len(self.said)
        await asyncio.wait_for(self.session.generate_reply(user_input=text), PATIENCE)
        await self.until(lambda: len(self.said) > before)
        return self.said[-1]

    async def say(self, text: str) -> None:
        await asyncio.wait_for(self.session.say(text), PATIENCE)

    async def until_said(self, count: int) -> None:
        await self.until(lambda: len(self.said) >= count)

    async def until(self, check: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not check():  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def samples_of(text: str) -> np.ndarray:
    frames = [frame async for frame in say_locally(text, language="en", rate=RATE)]
    return np.concatenate([np.frombuffer(frame.data, dtype=np.int16) for frame in frames])


async def spoken(text: str) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((await samples_of(text)).tobytes())
    return file.getvalue()


def afar(vendor: BrokenVendor, **options: Any) -> KeyedRung:
    credentials = Credentials(api_key=KEY, base_url=vendor.url)
    return KeyedRung("openai_compatible", {"model": "m", **options}, credentials)


class Mouth(tts.TTS[Any]):
    """A voice of which a test says how each text sounds: pieces of sound, an error, or both in turn."""

    def __init__(self, speaks: Callable[[str, int], Sequence[float | Exception]]) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=RATE, num_channels=1)
        self.speaks = speaks
        self.said: list[str] = []

    def synthesize(self, text: str, *, conn_options: APIConnectOptions = ONCE) -> tts.ChunkedStream:
        self.said.append(text)
        return MouthStream(tts=self, input_text=text, conn_options=conn_options)


class MouthStream(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(request_id="1", sample_rate=RATE, num_channels=1, mime_type="audio/pcm")
        mouth = self._tts
        assert isinstance(mouth, Mouth)
        for sound in mouth.speaks(self.input_text, len(mouth.said)):
            if isinstance(sound, Exception):
                raise sound
            output_emitter.push(bytes(int(sound * RATE) * 2))
            output_emitter.flush()
            for _ in range(50):  # what was said is being heard before the next thing happens
                await asyncio.sleep(0)


def plainly(text: str, number: int) -> list[float | Exception]:
    """As most voices speak."""
    return [len(text) / 14]


@asynccontextmanager
async def speaking(*mouths: Mouth) -> AsyncIterator[Speaker]:
    speaker = Speaker(*mouths)
    yield speaker
    await speaker.chain.aclose()


class Speaker:
    """An attendant whose voices are mouths."""

    def __init__(self, *mouths: Mouth) -> None:
        rungs = [BuiltRung(place, f"mouth{place}", mouth) for place, mouth in enumerate(mouths)]
        component, adapter = _combine(Kind.TTS, list(mouths), None)
        self.chain, self.told = Chain(Kind.TTS, component, rungs, adapter=adapter), Told()
        chains = {Kind.TTS: self.chain, Kind.STT: Chain(Kind.STT, None, [])}
        self.attendant = Attendant(chains=chains, language="en", teller=self.told)
        self.chain.on_change(lambda change: self.takes.append(self.attendant.takes(change)))
        self.takes: list[bool] = []

    async def say(self, text: str) -> float:
        """Seconds that are heard."""

        async def source() -> AsyncIterator[str]:
            yield text

        seconds = 0.0
        async with asyncio.timeout(PATIENCE):
            async for frame in self.attendant.speak(source(), self._voice):
                seconds += frame.duration
        return seconds

    async def _voice(self, text: AsyncIterable[str]) -> AsyncIterator[rtc.AudioFrame]:
        async with self.chain.component.stream(conn_options=ONCE) as stream:

            async def feed() -> None:
                async for piece in text:
                    stream.push_text(piece)
                stream.end_input()

            feeding = asyncio.create_task(feed())
            try:
                async for audio in stream:
                    yield audio.frame
            finally:
                await aio.cancel_and_wait(feeding)
