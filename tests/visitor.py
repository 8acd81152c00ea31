"""A visitor made of code: joins a room as the page would, speaks synthetic speech and keeps what it hears.

Used by tests, benchmarks and long proofs. Audio is 16-bit mono; times are `time.time()` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
import wave
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from livekit import rtc
from numpy.typing import NDArray

RATE = 48_000
FRAME = RATE // 100  # 10 ms
FRAMES_AT_ONCE = 10  # each hand-over to the media library is a way there and back, which a busy machine makes late
LOUD_RMS = 300.0
SILENCE_SECONDS = 0.1
SUBSCRIBED_SECONDS = 3.0


def synthesize(text: str, path: Path, *, voice: str = "en-us", rate: int = 150) -> Path:
    """A WAV of `text` by espeak-ng."""
    subprocess.run(["espeak-ng", "-v", voice, "-s", str(rate), "-w", str(path), text], check=True, timeout=30)
    return path


def read_wav(path: Path, *, rate: int = RATE) -> NDArray[np.int16]:
    """Mono samples of a 16-bit WAV, resampled to `rate`."""
    import soxr

    with wave.open(str(path)) as file:
        assert file.getsampwidth() == 2
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
        samples = samples.reshape(-1, file.getnchannels())[:, 0]
        source = file.getframerate()
    resampled: NDArray[np.int16] = soxr.resample(samples, source, rate) if source != rate else samples
    return resampled


def trim_silence(samples: NDArray[np.int16], *, level: int = 300) -> NDArray[np.int16]:
    """`samples` without quiet ends, so that the last sample sent is the last one spoken."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > level)
    return samples[loud[0] : loud[-1] + 1] if loud.size else samples


def rms(samples: NDArray[np.int16]) -> float:
    """Root mean square of 16-bit samples, 0 to 32767."""
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


@dataclass
class Heard:
    """Received audio at 16 kHz with the time at which each frame came."""

    frames: list[tuple[float, NDArray[np.int16]]] = field(default_factory=list)
    _loud_at: list[float] = field(default_factory=list)  # looked at hundreds of times a second, in long talks too

    def note(self, at: float, frame: NDArray[np.int16]) -> None:
        self.frames.append((at, frame))
        if rms(frame) > LOUD_RMS:
            self._loud_at.append(at)

    def samples(self, since: float = 0.0) -> NDArray[np.int16]:
        chosen = [frame for at, frame in self.frames if at >= since]
        return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int16)

    def first_sound(self, since: float) -> float | None:
        """When the first audible frame after `since` came."""
        place = bisect_left(self._loud_at, since)
        return self._loud_at[place] if place < len(self._loud_at) else None

    def quiet_for(self, now: float) -> float:
        """Seconds since the last audible frame (or ever)."""
        return now - self._loud_at[-1] if self._loud_at else now


@dataclass
class Seen:
    """Received video: when each frame came, and what `measure` said of its Y plane (rows of bytes)."""

    measure: Callable[[NDArray[np.uint8]], float] | None = None
    at: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def since(self, moment: float) -> list[tuple[float, float]]:
        """(when, value) of the frames from `moment` on."""
        return [(at, value) for at, value in zip(self.at, self.values, strict=True) if at >= moment]

    def note(self, frame: rtc.VideoFrame) -> None:
        self.at.append(time.time())
        luma = np.frombuffer(frame.data, dtype=np.uint8)[: frame.width * frame.height]
        self.values.append(self.measure(luma.reshape(frame.height, frame.width)) if self.measure else 0.0)


class Visitor:
    """`async with Visitor(url, token) as visitor: await visitor.speak(samples)`.

    `microphone=False`: one who only looks and listens. `heard_ms`: the length of what it hears at a time. Both cost:
    who looks at a face takes 18 % of a core with a silent microphone and 10 ms at a time, 11 % without and with 50 ms.
    """

    ahead_ms = 1_000
    """So far ahead of its time a sentence is handed to the media library, whose own thread sends it. A real microphone
    is never late; this one is when the machine is short of processor time, and would tear the sentence to pieces."""

    def __init__(self, url: str, token: str, *, microphone: bool = True, heard_ms: int = 10) -> None:
        self._url, self._token = url, token
        self._microphone, self._heard_ms = microphone, heard_ms
        self.room = rtc.Room()
        self.heard = Heard()
        self.seen = Seen()
        self.transcripts: list[tuple[str, str]] = []
        self._publication: rtc.LocalTrackPublication | None = None
        self._source = rtc.AudioSource(RATE, 1, queue_size_ms=self.ahead_ms)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._voice: asyncio.Queue[NDArray[np.int16]] = asyncio.Queue()
        self._spoken = asyncio.Event()
        self.last_sample_at = 0.0

    async def __aenter__(self) -> Visitor:
        self.room.on("track_subscribed", self._on_track)
        await self.room.connect(self._url, self._token)
        if self._microphone:
            await self._publish()
        return self

    async def _publish(self) -> None:
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        self._publication = await self.room.local_participant.publish_track(track, options)
        self._spawn(self._pump())

    async def __aexit__(self, *_: object) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.room.disconnect()

    async def speak(self, samples: NDArray[np.int16]) -> float:
        """Speak and return when the last sample was sent. Words that nobody takes yet would be lost."""
        if self._publication is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SUBSCRIBED_SECONDS):
                    await self._publication.wait_for_subscription()
        self._spoken.clear()
        await self._voice.put(samples)
        await self._spoken.wait()
        return self.last_sample_at

    async def wait_until_quiet(self, *, quiet: float = 0.8, timeout: float = 60) -> None:
        """Until something was heard and nothing more for `quiet` seconds."""
        async with asyncio.timeout(timeout):
            while self.heard.first_sound(0) is None or self.heard.quiet_for(time.time()) < quiet:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def wait_for_sound(self, since: float, *, timeout: float = 60) -> float:
        async with asyncio.timeout(timeout):
            while (at := self.heard.first_sound(since)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        return at

    async def _pump(self) -> None:
        """A microphone never stops: silence between the words, in real time."""
        silence = np.zeros(FRAME, dtype=np.int16)
        while True:
            try:
                samples = self._voice.get_nowait()
            except asyncio.QueueEmpty:
                if self._source.queued_duration < SILENCE_SECONDS:  # more would only keep the next words waiting
                    await self._send(silence)
                else:
                    await asyncio.sleep(FRAME / RATE)
                continue
            samples = np.pad(samples, (0, -len(samples) % FRAME))
            for start in range(0, len(samples), FRAMES_AT_ONCE * FRAME):
                await self._send(samples[start : start + FRAMES_AT_ONCE * FRAME])
            await self._source.wait_for_playout()
            self.last_sample_at = time.time()
            self._spoken.set()

    async def _send(self, chunk: NDArray[np.int16]) -> None:
        await self._source.capture_frame(rtc.AudioFrame(chunk.tobytes(), RATE, 1, len(chunk)))

    def _on_track(self, track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._spawn(self._listen(track))
        elif track.kind == rtc.TrackKind.KIND_VIDEO:
            self._spawn(self._watch(track))

    async def _watch(self, track: rtc.Track) -> None:
        stream = rtc.VideoStream(track, format=rtc.VideoBufferType.I420)
        try:
            async for event in stream:
                self.seen.note(event.frame)
        finally:
            await stream.aclose()

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=16_000, num_channels=1, frame_size_ms=self._heard_ms)
        try:
            async for event in stream:
                self.heard.note(time.time(), np.frombuffer(event.frame.data, dtype=np.int16).copy())
        finally:
            await stream.aclose()

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
