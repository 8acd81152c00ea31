"""A LipSyncStream whose frames come from an engine host.

Sound is kept here at the rate at which it was pushed and comes out unchanged; the host is sent a copy at 16 kHz and
answers with frames only. Frame n of an utterance belongs to the sound from n / fps on, so the two cannot drift.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import mmap
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from avatars.engines.adapters.molts_engine_adapter import protocol
from avatars.engines.adapters.molts_engine_adapter.protocol import EngineProtocolError, MessageKind
from avatars.engines.base import (
    AudioChunk,
    EngineFailed,
    EngineFull,
    LipSyncStream,
    PixelFormat,
    SegmentEnd,
    StreamItem,
    VideoFormat,
    VideoFrame,
)
from molts.errors import BadInput, MoltsError

OPEN_SECONDS = 60.0
SEND_SECONDS = 5.0
FADE_FRAMES = 4
"""From the last frame of speech to the face at rest, which may hold its head elsewhere."""


@dataclass
class PushedSpeech:
    """Speech that was pushed and has not come out. Counts are in samples at `rate`."""

    rate: int
    resampler: soxr.ResampleStream | None
    chunks: deque[NDArray[np.int16]] = field(default_factory=deque)
    pushed: int = 0
    sent: int = 0  # samples at 16 kHz
    taken: int = 0
    frames: int = 0  # that came out
    flushed: bool = False

    @property
    def waiting(self) -> float:
        """Seconds that have not come out."""
        return (self.pushed - self.taken) / self.rate

    def take(self, until: int | None) -> AudioChunk | None:
        """The sound up to sample `until` (None: all of it)."""
        until = self.pushed if until is None else min(until, self.pushed)
        parts = []
        while self.taken < until:
            chunk = self.chunks.popleft()
            wanted = until - self.taken
            if len(chunk) > wanted:
                self.chunks.appendleft(chunk[wanted:])
                chunk = chunk[:wanted]
            parts.append(chunk)
            self.taken += len(chunk)
        if not parts:
            return None
        return AudioChunk(parts[0] if len(parts) == 1 else np.concatenate(parts), self.rate)


@dataclass(frozen=True)
class Opened:
    """What the host said of the stream it opened."""

    width: int
    height: int
    fps: float
    pixels: PixelFormat
    ring: int
    shared: str | None
    idle_frames: int
    lookahead: float
    audio_seconds: float
    frame_seconds: float

    @property
    def frame_bytes(self) -> int:
        return self.width * self.height * 3 // (1 if self.pixels is PixelFormat.RGB24 else 2)


class HostStream(LipSyncStream):
    """Made by `open_host_stream`."""

    def __init__(
        self,
        *,
        label: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        opened: Opened,
        idle: list[NDArray[np.uint8]],
        memory: mmap.mmap | None,
        idle_fps: float,
    ) -> None:
        self._label = label
        self._reader, self._writer = reader, writer
        self._opened = opened
        self._idle = idle
        self._memory = memory
        self._idle_seconds = 1 / idle_fps
        self._idle_step = max(1, round(opened.fps / idle_fps))
        self._idle_place = 0
        self._shown: int | None = None  # which idle frame was shown last
        self._last: NDArray[np.uint8] | None = None  # the last frame of speech, while the face goes back to rest
        self._fading = 0
        self._epoch = 0
        self._utterances: deque[PushedSpeech] = deque()
        self._items: deque[NDArray[np.uint8] | None] = deque()  # frames of this epoch; None: an utterance's end
        self._owed = 0  # credit for the frame that the reader has in hand
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._failure: MoltsError | None = None
        self._closed = False
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._ping())]
        self._give_credit(opened.ring)

    # -- speech --------------------------------------------------------------------------------------------------------
    async def push_audio(self, audio: AudioChunk) -> None:
        epoch = self._epoch
        while self._waiting > self._opened.audio_seconds:
            self._check()
            self._room.clear()
            await self._room.wait()
            if self._closed or self._epoch != epoch:
                return  # it was ended or interrupted while it waited
        self._check()
        if self._closed or not len(audio.samples):
            return
        utterance = self._current(audio.sample_rate)
        utterance.chunks.append(audio.samples)
        utterance.pushed += len(audio.samples)
        sound = audio.samples
        if utterance.resampler is not None:
            sound = utterance.resampler.resample_chunk(sound)
        self._send_sound(utterance, sound)
        self._changed.set()
        await self._drain()

    async def flush(self) -> None:
        self._check()
        if self._closed:
            return
        utterance = self._current(self._utterances[-1].rate if self._utterances else protocol.SAMPLE_RATE)
        if utterance.resampler is not None:
            self._send_sound(utterance, utterance.resampler.resample_chunk(np.zeros(0, np.int16), last=True))
            exact = round(utterance.pushed * protocol.SAMPLE_RATE / utterance.rate)
            self._send_sound(utterance, np.zeros(max(0, exact - utterance.sent), np.int16))
        utterance.flushed = True
        self._write(protocol.pack_number(MessageKind.FLUSH, self._epoch))
        self._changed.set()
        await self._drain()

    def clear_buffer(self) -> None:
        if self._closed or self._failure is not None:
            return
        self._epoch += 1
        self._write(protocol.pack_number(MessageKind.CLEAR, self._epoch))
        frames = sum(1 for item in self._items if item is not None)
        self._items.clear()
        self._utterances.clear()
        self._last = None
        self._give_credit(frames)
        self._changed.set()
        self._room.set()

    @property
    def _waiting(self) -> float:
        return sum(utterance.waiting for utterance in self._utterances)

    def _current(self, rate: int) -> PushedSpeech:
        if not self._utterances or self._utterances[-1].flushed:
            resampler = None
            if rate != protocol.SAMPLE_RATE:
                resampler = soxr.ResampleStream(rate, protocol.SAMPLE_RATE, 1, dtype="int16", quality="MQ")
            self._utterances.append(PushedSpeech(rate, resampler))
        utterance = self._utterances[-1]
        if utterance.rate != rate:
            raise BadInput(f"Speech of {rate} Hz follows on speech of {utterance.rate} Hz: flush between them.")
        return utterance

    def _send_sound(self, utterance: PushedSpeech, sound: NDArray[np.int16]) -> None:
        for start in range(0, len(sound), protocol.SAMPLE_RATE):
            part = sound[start : start + protocol.SAMPLE_RATE]
            utterance.sent += len(part)
            self._write(protocol.pack_number(MessageKind.AUDIO, self._epoch, part.astype("<i2").tobytes()))

    # -- frames --------------------------------------------------------------------------------------------------------
    async def __aiter__(self) -> AsyncIterator[StreamItem]:
        while not self._closed:
            if self._items:
                epoch, item = self._epoch, self._items.popleft()
                if not self._utterances:
                    raise EngineFailed(f"{self._label}: the engine host sent more than the speech it was given.")
                utterance = self._utterances[0]
                if item is None:
                    self._utterances.popleft()
                    sound = utterance.take(None)
                    result: StreamItem = SegmentEnd()
                else:
                    utterance.frames += 1
                    until = round(utterance.frames / self._opened.fps * utterance.rate)
                    sound = utterance.take(until)
                    result = self._speaking(item)
                    self._owed = 1
                self._room.set()
                if sound is not None:
                    yield sound
                if self._epoch == epoch:  # else the visitor interrupted while the sound was in the reader's hands
                    yield result
                if self._owed:
                    self._owed = 0
                    self._give_credit(1)
            elif self._failure is not None:
                raise self._failure
            elif self._due:
                await self._wait(self._opened.frame_seconds, fail=True)
            elif self._utterances:  # more of the utterance must come before the host can go on
                if not await self._wait(1 / self._opened.fps, fail=False):
                    yield self._resting(1 / self._opened.fps)
            else:
                await asyncio.sleep(0)
                if not self._items and not self._utterances and not self._closed and self._failure is None:
                    yield self._resting(self._idle_seconds)

    @property
    def _due(self) -> bool:
        """Whether the host has all it needs for the next frame."""
        if not self._utterances:
            return False
        first = self._utterances[0]
        return first.flushed or first.waiting > self._opened.lookahead + 2 / self._opened.fps

    async def _wait(self, seconds: float, *, fail: bool) -> bool:
        """Until something changed; False, or a failure, when nothing did for `seconds`."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            if fail and not self._items:
                self._fail(EngineFailed(f"{self._label} gave no frame for {seconds:.0f} s."))
            return False
        return True

    def _speaking(self, pixels: NDArray[np.uint8]) -> VideoFrame:
        self._last, self._fading = pixels.copy(), FADE_FRAMES
        self._shown = None
        return self._frame(pixels, 1 / self._opened.fps)

    def _resting(self, duration: float) -> VideoFrame:
        """The next frame of the idle loop, forth and back; blended with the last of speech right after it, be it at the
        end of an utterance or where the rest of one is awaited."""
        count = len(self._idle)
        place = self._idle_place % max(1, 2 * count - 2)
        place = place if place < count else 2 * count - 2 - place
        pixels = self._idle[place]
        if self._last is not None and self._fading:
            share = self._fading / (FADE_FRAMES + 1)
            self._fading -= 1
            mixed = self._last * np.float32(share) + pixels * np.float32(1 - share)
            return self._frame(mixed.astype(np.uint8), 1 / self._opened.fps)
        self._last = None
        self._idle_place += self._idle_step
        unchanged, self._shown = self._shown == place, place
        return self._frame(pixels, duration, unchanged=unchanged)

    def _frame(self, pixels: NDArray[np.uint8], duration: float, *, unchanged: bool = False) -> VideoFrame:
        opened = self._opened
        return VideoFrame(pixels, opened.width, opened.height, opened.pixels, duration, unchanged)

    # -- the connection ------------------------------------------------------------------------------------------------
    async def _listen(self) -> None:
        try:
            while True:
                # Not `wait_for`: before Python 3.12 it forgets a cancellation that meets its result.
                async with asyncio.timeout(protocol.SILENCE_SECONDS):
                    kind, payload = await protocol.read(self._reader)
                if kind is MessageKind.FRAME:
                    self._take_frame(payload)
                elif kind is MessageKind.END:
                    if protocol.unpack_number(payload) == self._epoch:
                        self._items.append(None)
                elif kind is MessageKind.ERROR:
                    raise refusal(self._label, payload)
                elif kind is not MessageKind.PONG:
                    raise EngineProtocolError(f"{kind.name} is not for the client")
                if kind is not MessageKind.PONG:
                    self._changed.set()
        except MoltsError as error:
            self._fail(error)
        except TimeoutError:
            self._fail(EngineFailed(f"{self._label}: the engine host does not answer."))
        except EOFError:
            self._fail(EngineFailed(f"{self._label}: the engine host is gone."))
        except EngineProtocolError as error:
            self._fail(EngineFailed(f"{self._label}: {error}."))

    def _take_frame(self, payload: bytes) -> None:
        if len(payload) < protocol.FRAME.size:
            raise EngineProtocolError("a message is too short")
        epoch, _, slot = protocol.FRAME.unpack_from(payload)
        if epoch != self._epoch:
            self._give_credit(1)
            return
        size = self._opened.frame_bytes
        source: bytes | mmap.mmap = payload
        start = protocol.FRAME.size
        if slot != protocol.IN_BAND:
            if self._memory is None or slot >= self._opened.ring:
                raise EngineProtocolError("a frame lies in memory that is not shared")
            source, start = self._memory, slot * size
        elif len(payload) != start + size:
            raise EngineProtocolError(f"a frame has {len(payload) - start} bytes, {size} were expected")
        self._items.append(np.frombuffer(source, np.uint8, size, start))

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(protocol.PING_SECONDS)
            self._write(protocol.pack(MessageKind.PING))

    def _give_credit(self, frames: int) -> None:
        if frames:
            self._write(protocol.pack_number(MessageKind.CREDIT, frames))

    def _write(self, message: bytes) -> None:
        if not self._closed and self._failure is None:
            self._writer.write(message)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._writer.drain()
        except TimeoutError:
            self._fail(EngineFailed(f"{self._label}: the engine host takes nothing more."))
        except OSError:
            self._fail(EngineFailed(f"{self._label}: the engine host is gone."))
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: MoltsError) -> None:
        self._failure = self._failure or error
        self._changed.set()
        self._room.set()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._write(protocol.pack(MessageKind.CLOSE))
        self._closed = True
        self._changed.set()
        self._room.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._writer.wait_closed()
        self._items.clear()


def refusal(label: str, payload: bytes) -> MoltsError:
    """The host's ERROR as an error of ours."""
    value = protocol.unpack_json(payload)
    text = f"{label}: {str(value.get('text', 'refused'))[:500]}"
    if value.get("code") == "full":
        return EngineFull(text)
    return EngineFailed(text)


async def open_host_stream(
    address: str,
    *,
    label: str,
    video: VideoFormat,
    key: str = "",
    portrait: bytes = b"",
    options: Mapping[str, Any] | None = None,
    secret: str = "",
) -> HostStream:
    """Open a stream at the host behind `address`. Raises EngineFull when it has no place, EngineFailed for all else."""
    try:
        reader, writer = await protocol.connect(address)
    except (OSError, ValueError) as error:
        raise EngineFailed(f"{label}: nobody answers at {address} ({error}).") from error
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            return await _greet_and_open(reader, writer, address, label, video, key, portrait, options or {}, secret)
    except BaseException as error:
        writer.close()
        if isinstance(error, EngineProtocolError):
            raise EngineFailed(f"{label}: {error}.") from error
        if isinstance(error, TimeoutError):
            raise EngineFailed(f"{label}: the engine host did not answer within {OPEN_SECONDS:.0f} s.") from error
        if isinstance(error, (EOFError, OSError)):
            raise EngineFailed(f"{label}: the engine host is gone.") from error
        raise


async def _greet_and_open(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    address: str,
    label: str,
    video: VideoFormat,
    key: str,
    portrait: bytes,
    options: Mapping[str, Any],
    secret: str,
) -> HostStream:
    request = {
        "face": {"key": key, "options": dict(options)},
        "video": {"width": video.width, "height": video.height, "fps": video.fps},
        "shared_memory": address.startswith("unix:"),
    }
    message = protocol.pack_open(request, portrait)
    if len(message) > protocol.MOST[MessageKind.OPEN]:
        raise BadInput("The portrait is too large.", attr="portrait")
    writer.write(protocol.hello(secret=secret) + message)
    await _expect(reader, label, MessageKind.HELLO)
    opened = read_opened(await _expect(reader, label, MessageKind.OPENED), video)
    if opened.shared and not request["shared_memory"]:  # its name is deleted here: nobody elsewhere may choose it
        raise EngineProtocolError("it shares memory that was not asked for")
    idle = []
    for _ in range(opened.idle_frames):
        payload = await _expect(reader, label, MessageKind.IDLE)
        if len(payload) != protocol.FRAME.size + opened.frame_bytes:
            raise EngineProtocolError("an idle frame has the wrong size")
        idle.append(np.frombuffer(payload, np.uint8, offset=protocol.FRAME.size))
    memory = map_frames(Path(opened.shared), opened.frame_bytes * opened.ring) if opened.shared else None
    return HostStream(
        label=label,
        reader=reader,
        writer=writer,
        opened=opened,
        idle=idle,
        memory=memory,
        idle_fps=min(video.idle_fps, video.fps),
    )


async def _expect(reader: asyncio.StreamReader, label: str, wanted: MessageKind) -> bytes:
    kind, payload = await protocol.read(reader)
    if kind is MessageKind.ERROR:
        raise refusal(label, payload)
    if kind is not wanted:
        raise EngineProtocolError(f"{kind.name} where {wanted.name} was expected")
    if kind is MessageKind.HELLO:
        protocol.check_hello(payload)
    return payload


def read_opened(payload: bytes, video: VideoFormat) -> Opened:
    """Raises ProtocolError when the host opened something else than was asked for."""
    value = protocol.unpack_json(payload)
    try:
        opened = Opened(
            width=int(value["width"]),
            height=int(value["height"]),
            fps=float(value["fps"]),
            pixels=PixelFormat(value["pixels"]),
            ring=int(value["ring"]),
            shared=value.get("shared"),
            idle_frames=int(value["idle_frames"]),
            lookahead=float(value.get("lookahead", 0)),
            audio_seconds=float(value.get("audio_seconds", 10)),
            frame_seconds=float(value.get("frame_seconds", 5)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EngineProtocolError(f"OPENED cannot be read: {error!r}") from error
    if (opened.width, opened.height, opened.fps) != (video.width, video.height, video.fps):
        raise EngineProtocolError(f"it opened {opened.width}x{opened.height} at {opened.fps:g} frames a second instead")
    if not 1 <= opened.ring <= 64 or not 1 <= opened.idle_frames <= 100 or not math.isfinite(opened.frame_seconds):
        raise EngineProtocolError("OPENED holds numbers out of range")
    return opened


def map_frames(path: Path, size: int) -> mmap.mmap:
    """The host's shared frames. Its name is deleted at once: the memory goes with the last of the two processes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            path.unlink()
            return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise EngineProtocolError(f"its shared memory cannot be read: {error}") from error
