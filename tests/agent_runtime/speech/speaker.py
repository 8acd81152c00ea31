"""Somebody who speaks, in real time, into the component that conversations use: detector, link and speech server."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from livekit import rtc
from livekit.agents import inference, stt
from livekit.agents.stt import SpeechEventType
from numpy.typing import NDArray

from projects.providers.base import KeyedRung, Kind, Persona
from projects.providers.chains import build_chain
from tests.agent_runtime.speech.voices import RATE, say, silence
from tests.agent_runtime.stack import MICRO_WHISPER
from tests.visitor import trim_silence

FRAME = RATE // 50
DETECTOR_SECONDS = 0.25  # as conversations have it
AFTER_SECONDS = 0.6  # enough silence for the detector
ANSWER_SECONDS = 5.0


@dataclass(frozen=True, eq=False)
class Clip:
    """A sentence and its sound, without quiet ends."""

    said: str
    samples: NDArray[np.int16]

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE


def make_clips(count: int, folder: Path, *, seed: int = 1) -> list[Clip]:
    """Sentences of micro-whisper's words, usual ones and words in any order, in its voices at many speeds."""
    sys.path.insert(0, str(MICRO_WHISPER / "training"))
    from sentences import rand_sentence, template  # type: ignore[import-not-found]

    chance = random.Random(seed)
    clips = []
    for number in range(count):
        said = " ".join(rand_sentence(chance, 3, 8) if number % 2 else template(chance))
        voice, rate = chance.choice(("en-us", "en")), chance.randint(130, 190)
        clips.append(Clip(said, trim_silence(say(said, folder, voice=voice, rate=rate), level=200)))
    return clips


class Speaker:
    """Speaks into one stream of recognition and keeps the words that come back."""

    def __init__(self, stream: stt.RecognizeStream, *, room: float = 0.0) -> None:
        """`room` is the loudness (RMS) of the noise between the words."""
        self.finals: list[str] = []
        self.partials: list[tuple[float, str]] = []
        self.spoken_at = 0.0
        """When the last sample of the newest clip had been sent."""
        self._stream = stream
        self._room = room
        self._chance = np.random.default_rng(1)
        self._begun = self._answered = 0
        self._next_frame_at = time.monotonic()

    async def say(self, clip: Clip) -> str:
        """Speak, be silent, and return all that was heard of it."""
        before = len(self.finals)
        await self.send(clip.samples)
        self.spoken_at = time.monotonic()
        await self.send(silence(AFTER_SECONDS))
        until = time.monotonic() + ANSWER_SECONDS
        while self._answered < self._begun and time.monotonic() < until:
            await self.send(silence(0.1))
        return " ".join(self.finals[before:])

    async def send(self, samples: NDArray[np.int16]) -> None:
        """As a microphone does: a frame every 20 ms, with the room's noise."""
        noise = self._chance.normal(0, self._room, len(samples)) if self._room else 0
        samples = np.clip(samples + noise, -32768, 32767).astype(np.int16)
        for begin in range(0, len(samples) - FRAME + 1, FRAME):
            self._stream.push_frame(rtc.AudioFrame(samples[begin : begin + FRAME].tobytes(), RATE, 1, FRAME))
            self._next_frame_at = max(self._next_frame_at + FRAME / RATE, time.monotonic() - 0.2)
            await asyncio.sleep(max(0.0, self._next_frame_at - time.monotonic()))

    async def listen(self) -> None:
        async for event in self._stream:
            match event.type:
                case SpeechEventType.START_OF_SPEECH:
                    self._begun += 1
                case SpeechEventType.INTERIM_TRANSCRIPT:
                    self.partials.append((time.monotonic(), event.alternatives[0].text))
                case SpeechEventType.FINAL_TRANSCRIPT:
                    self._answered += 1
                    self.finals.append(event.alternatives[0].text)


@asynccontextmanager
async def speaking(*, room: float = 0.0) -> AsyncIterator[Speaker]:
    """A conversation's ear at the speech server of MOLTS_SPEECH_URL, and somebody in front of it."""
    detector = inference.VAD(min_silence_duration=DETECTOR_SECONDS)
    chain = build_chain(Kind.STT, [KeyedRung("faster_whisper")], Persona(language="en"), vad=detector)
    stream = chain.component.stream()
    speaker = Speaker(stream, room=room)
    listening = asyncio.create_task(speaker.listen())
    try:
        yield speaker
    finally:
        listening.cancel()
        await stream.aclose()
        await chain.aclose()
