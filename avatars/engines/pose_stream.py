"""The stream of every face that is put together from poses: sound in; sound and pictures out, in the order of play."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import numpy as np

from avatars.engines.atlas import Atlas, Canvas
from avatars.engines.base import (
    AudioChunk,
    FaceState,
    LipSyncStream,
    PixelFormat,
    SegmentEnd,
    StreamItem,
    VideoFormat,
    VideoFrame,
)
from avatars.engines.behaviour import Behaviour
from avatars.engines.pose_plan import nearest_eyes, nearest_mouth
from avatars.engines.visemes import CONTEXT, Samples, Visemes
from molts.errors import BadInput

MAX_QUEUED = 20.0
"""Seconds of speech that may wait; whoever pushes more is kept waiting."""
LINGER = 0.4
"""Seconds for which the face still speaks after its last sound: sentences have pauses."""

NOTHING: Samples = np.zeros(0, dtype=np.int16)


class PoseStream(LipSyncStream):
    """See `LipSyncStream`. Frames are I420 and lie in one buffer, which the next frame overwrites."""

    def __init__(self, atlas: Atlas, video: VideoFormat, *, motion: float = 1.0, seed: int = 0) -> None:
        self._video = video
        self._canvas = Canvas(atlas)
        self._visemes = Visemes()
        self._behaviour = Behaviour(seed, motion)
        self._speech = SpeechQueue(video.fps)
        self._state = FaceState.IDLE
        self._since_sound = LINGER
        self._started = False  # a frame has come out
        self._starved = False  # the rest of an utterance is awaited, and was awaited for a frame's time already
        self._epoch = 0  # counts clearings
        self._news = asyncio.Event()  # something was pushed, flushed, cleared or closed
        self._room = asyncio.Event()  # there may be room in the queue
        self._closed = False

    async def push_audio(self, audio: AudioChunk) -> None:
        samples = np.ascontiguousarray(audio.samples)
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise BadInput(f"Speech must be mono int16 samples, not {samples.ndim}-dimensional {samples.dtype}.")
        if audio.sample_rate <= 0:
            raise BadInput(f"A sample rate of {audio.sample_rate} Hz cannot be played.")
        epoch = self._epoch
        while self._speech.seconds >= MAX_QUEUED and not self._closed:
            self._room.clear()
            await self._room.wait()
        if epoch != self._epoch or self._closed or not len(samples):
            return  # cleared while it waited
        self._speech.push(samples, audio.sample_rate)
        self._starved = False
        self._news.set()

    async def flush(self) -> None:
        self._speech.end()
        self._news.set()

    def clear_buffer(self) -> None:
        self._epoch += 1
        self._speech.clear()
        self._starved = False
        self._since_sound = LINGER
        self._room.set()
        self._news.set()

    def set_state(self, state: FaceState) -> None:
        self._state = state

    async def aclose(self) -> None:
        self._closed = True
        self._speech.clear()
        self._room.set()
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[StreamItem]:
        while not self._closed:
            await asyncio.sleep(0)  # whoever reads without pause must not keep others from running
            if self._speech.take_end():
                yield SegmentEnd()
                continue
            if self._speech.in_utterance and not self._speech.has_frame and not self._starved:
                await self._wait_for_more()
                continue
            epoch = self._epoch
            heard, sound, sample_rate = self._speech.take()
            self._room.set()
            for chunk in heard:
                yield chunk
                if epoch != self._epoch:
                    break
            if epoch != self._epoch:
                sound = NOTHING
            if not self._closed:
                yield self._frame(sound, sample_rate)

    async def _wait_for_more(self) -> None:
        """Wait for the rest of a frame's sound, for at most a frame's time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + 1.0 / self._video.fps
        while self._speech.in_utterance and not self._speech.has_frame and not self._closed:
            self._news.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                self._starved = True
                return

    def _frame(self, sound: Samples, sample_rate: int) -> VideoFrame:
        speaking = len(sound) > 0
        self._since_sound = 0.0 if speaking else self._since_sound + 1.0 / self._video.fps
        lively = self._since_sound < LINGER
        # Between sentences of one utterance the face keeps its pace, so that the next one starts in time.
        seconds = 1.0 / (self._video.fps if lively or self._speech.in_utterance else self._video.idle_fps)
        mouth = self._visemes.shape(sound, sample_rate) if speaking else self._visemes.close()
        state = FaceState.SPEAKING if lively else self._state
        posture = self._behaviour.step(seconds, state, mouth.openness)
        changed = self._canvas.show(posture.x, posture.y, nearest_eyes(posture.eyes), nearest_mouth(mouth))
        unchanged = self._started and not changed
        self._started = True
        return VideoFrame(
            self._canvas.data, self._video.width, self._video.height, PixelFormat.I420, seconds, unchanged=unchanged
        )


class SpeechQueue:
    """Speech that waits to be heard, cut into the time of frames without losing or adding a sample."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._waiting: deque[tuple[Samples, int] | None] = deque()  # None: the end of an utterance
        self._seconds = 0.0
        self._frames = 0  # frames of this utterance so far
        self._heard = 0.0  # seconds of it so far, with what was late
        self._before = NOTHING  # the last sound that came out, for the context of the next frame
        self._ended = False  # the end of an utterance is next

    @property
    def seconds(self) -> float:
        """How much waits."""
        return self._seconds

    @property
    def in_utterance(self) -> bool:
        """Speech has begun, or waits, whose end has not come out."""
        return bool(self._waiting) or self._frames > 0

    @property
    def has_frame(self) -> bool:
        """The sound of a whole frame is there, or the end of the utterance."""
        missing = self._missing
        for part in self._waiting:
            if part is None:
                return True
            missing -= len(part[0]) / part[1]
            if missing <= 1e-9:
                return True
        return False

    @property
    def _missing(self) -> float:
        """Seconds of sound that the next frame still needs, by the utterance's start: roundings never add up."""
        return (self._frames + 1) / self._fps - self._heard

    def push(self, samples: Samples, sample_rate: int) -> None:
        self._waiting.append((samples, sample_rate))
        self._seconds += len(samples) / sample_rate

    def end(self) -> None:
        self._waiting.append(None)

    def clear(self) -> None:
        self._waiting.clear()
        self._seconds = 0.0
        self._begin()

    def take(self) -> tuple[list[AudioChunk], Samples, int]:
        """The sound of the next frame: what is heard, and that sound with its context for the mouth, at one rate."""
        chunks: list[AudioChunk] = []
        missing = self._missing
        while self._waiting and (part := self._waiting[0]) is not None:
            samples, sample_rate = part
            count = round(missing * sample_rate)
            if count <= 0:
                break
            taken, rest = samples[:count], samples[count:]
            chunks.append(AudioChunk(taken, sample_rate))
            missing -= len(taken) / sample_rate
            self._heard += len(taken) / sample_rate
            self._seconds -= len(taken) / sample_rate
            if len(rest):
                self._waiting[0] = (rest, sample_rate)
                break
            self._waiting.popleft()
        chunks = _joined(chunks)
        if not chunks:
            return chunks, NOTHING, 1
        self._frames += 1
        sample_rate = chunks[-1].sample_rate
        if missing > 1.0 / sample_rate:  # it was late; the next frame must not make up for it with more than its time
            self._heard = self._frames / self._fps
        now = chunks[-1].samples
        context = round(CONTEXT * sample_rate)
        sound = np.concatenate((self._before[-context:], now, self._peek(context, sample_rate)))
        self._before = now
        return chunks, sound, sample_rate

    def take_end(self) -> bool:
        """Whether the utterance ends here: its last sound has come out."""
        if not self._waiting or self._waiting[0] is not None:
            return False
        self._waiting.popleft()
        self._begin()
        return True

    def _begin(self) -> None:
        self._frames, self._heard, self._before = 0, 0.0, NOTHING

    def _peek(self, count: int, sample_rate: int) -> Samples:
        """The next samples of this utterance, as far as they are there."""
        found: list[Samples] = []
        for part in self._waiting:
            if count <= 0 or part is None or part[1] != sample_rate:
                break
            found.append(part[0][:count])
            count -= len(found[-1])
        return np.concatenate(found) if found else NOTHING


def _joined(chunks: list[AudioChunk]) -> list[AudioChunk]:
    """Chunks of one rate become one."""
    if len(chunks) < 2:
        return chunks
    joined: list[AudioChunk] = []
    for chunk in chunks:
        if joined and joined[-1].sample_rate == chunk.sample_rate:
            joined[-1] = AudioChunk(np.concatenate((joined[-1].samples, chunk.samples)), chunk.sample_rate)
        else:
            joined.append(chunk)
    return joined
