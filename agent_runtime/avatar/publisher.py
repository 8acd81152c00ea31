"""Shows a face in a room: the engine's frames as a video track, its audio as an audio track, in step."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd
from numpy.typing import NDArray

from avatars.engines.base import (
    AudioChunk,
    EngineFailed,
    LipSyncStream,
    PixelFormat,
    SegmentEnd,
    VideoFormat,
    VideoFrame,
)
from molts.percentiles import percentile

logger = logging.getLogger(__name__)

AHEAD_SECONDS = 0.5  # sound and pictures are made so far ahead of their time; an interruption takes them back
PIECE_SECONDS = 0.2  # made in one go: every waking of the loop costs, and so does every call of the media library
HELD_SECONDS = 0.25  # sound that the media library has left when it is given more, so that a late loop is not heard
AUDIO_QUEUE_MS = 600
# How much longer sound is under way than the picture, on a calm machine: 56 ms against about 45. The library takes it
# every 10 ms, a packet holds 20, and the receiver buffers 30, more when it is short of time; of a picture it buffers
# 40, in the first seconds up to 70, and of a plain one, whose first is small, only 12. Rather early than late: a voice
# before its lips is noticed sooner. LiveKit's `sync_streams` was further off in the one run in which it was tried.
SOUND_BEHIND_SECONDS = 0.010
GAP_SECONDS = 0.005  # a shorter pause inside an utterance is not one
LATE_FRAMES = 1.0  # a frame that is later than so many of its own durations is skipped when a newer one waits
VIDEO_BITRATE = 900_000
# From about 66,000 on Opus codes speech as it codes music, in less than half of the processor time: with the library's
# 48,000 it took 2.6 % of a core, with these 1.1 %.
AUDIO_BITRATE = 72_000
INTERVALS_KEPT = 1_500

FORMATS = {PixelFormat.I420: rtc.VideoBufferType.I420, PixelFormat.RGB24: rtc.VideoBufferType.RGB24}


class SpeechSource(Protocol):
    """Where the agent's speech comes from: LiveKit's `DataStreamAudioReceiver`."""

    def on(self, event: Any, callback: Any) -> Any: ...

    def __aiter__(self) -> AsyncIterator[rtc.AudioFrame | AudioSegmentEnd]: ...

    def notify_playback_started(self) -> Any: ...

    def notify_playback_finished(self, playback_position: float, interrupted: bool) -> Any: ...


@dataclass
class AvatarFigures:
    """What an avatar measures of itself. Milliseconds are of the frames captured lately."""

    frames: int = 0
    dropped: int = 0
    gaps: int = 0
    """How often the audio ran dry inside an utterance."""
    _moments: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=INTERVALS_KEPT))

    def note_frame(self, at: float, late: float) -> None:
        self.frames += 1
        self._moments.append((at, late))

    def as_dict(self) -> dict[str, float]:
        """frames, dropped, gaps; `interval_p50_ms` and `interval_p99_ms` between frames, `skew_p99_ms` of lips behind
        the audio."""
        report: dict[str, float] = {"frames": self.frames, "dropped": self.dropped, "gaps": self.gaps}
        intervals = [1000 * (later - sooner) for (sooner, _), (later, _) in pairwise(self._moments)]
        found = {
            "interval_p50_ms": percentile(intervals, 50),
            "interval_p99_ms": percentile(intervals, 99),
            "skew_p99_ms": percentile([1000 * late for _, late in self._moments], 99) if intervals else None,
        }
        return report | {name: round(value, 1) for name, value in found.items() if value is not None}


def audio_options() -> rtc.TrackPublishOptions:
    """How a face's voice is published."""
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    options.audio_encoding.max_bitrate = AUDIO_BITRATE
    return options


def video_options(fps: float) -> rtc.TrackPublishOptions:
    """How a face is published: at its own rate, which the library's presets would lower."""
    return rtc.TrackPublishOptions(
        source=rtc.TrackSource.SOURCE_CAMERA,
        simulcast=False,  # one small picture: every further layer would be encoded again
        video_codec=rtc.VideoCodec.VP8,
        video_encoding=rtc.VideoEncoding(max_bitrate=VIDEO_BITRATE, max_framerate=fps),
    )


@dataclass
class _Pending:
    """A frame that waits for its moment (`due`, loop time)."""

    due: float
    frame: rtc.VideoFrame
    duration: float


async def _next(event: asyncio.Event, seconds: float | None = None) -> None:
    """Wait until it is set anew, or so long."""
    event.clear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class FacePublisher:
    """Publishes one face until closed. Audio is the clock: it is handed over a little ahead, and each frame is shown
    when its own audio is heard. What is late is skipped, never heard late.

    LiveKit's `AvatarRunner` is not used. `tests/bench/bench_avatar.py`, both in one run on 2 quiet cores, as a
    subscriber saw them: its picture came 121 to 137 ms after the sound, this one's 27 ms before to 17 ms after it;
    idle it sends 25 frames a second for 13 % of a core and this one 12.3 for 6 %. Speaking, it takes 24 % as it comes
    (with the library's preset: two sizes, 20 frames a second), fed with frames that are ready; this one takes 16 % for
    25 and puts its frames together itself. It also publishes nothing until its audio was subscribed to, and reports the
    end of speech when it was handed over, not when heard.
    """

    def __init__(
        self, room: rtc.Room, *, speech: SpeechSource, stream: LipSyncStream, video: VideoFormat, sample_rate: int
    ) -> None:
        self.figures = AvatarFigures()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the face can show no more, with the reason as its exception."""
        self._room = room
        self._speech = speech
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._audio = rtc.AudioSource(sample_rate, 1, queue_size_ms=AUDIO_QUEUE_MS)
        self._picture = rtc.VideoSource(video.width, video.height)
        self._fps = video.fps
        self._sample_rate = sample_rate
        self._heard_until = 0.0  # loop time at which the audio read so far has been heard
        self._sound: list[AudioChunk] = []  # read, and not yet handed over
        self._sound_begins = 0.0  # when it is to be heard
        self._handed_until = 0.0  # loop time until which the media library has sound
        self._frame_due: float | None = None  # when the next frame's audio begins
        self._shown_until = 0.0
        self._pending: deque[_Pending] = deque()
        self._wake_show = asyncio.Event()
        self._wake_speak = asyncio.Event()
        self._wake_read = asyncio.Event()
        self._receiving = False
        self._waiting = 0  # utterances that came in, of which no sound was read yet
        self._cuts = 0  # interruptions so far
        self._position = 0.0  # seconds of the utterance that were read
        self._playing = False
        self._beginning: asyncio.TimerHandle | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def start(self) -> None:
        """Publish both tracks and begin. The video begins at once: whoever waits for the face sees it idle."""
        self._speech.on("clear_buffer", self.interrupt)
        audio = rtc.LocalAudioTrack.create_audio_track("avatar_audio", self._audio)
        video = rtc.LocalVideoTrack.create_video_track("avatar_video", self._picture)
        await self._room.local_participant.publish_track(audio, audio_options())
        await self._room.local_participant.publish_track(video, video_options(self._fps))
        if self._closed:
            return  # meanwhile: the room may go while the tracks are published
        for work in (self._receive(), self._read(), self._speak(), self._show()):
            self._spawn(self._guard(work))

    async def aclose(self) -> None:
        self._closed = True
        self._forget_timers()
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stream.aclose()
        await self._audio.aclose()
        await self._picture.aclose()

    def interrupt(self) -> None:
        """Cut audio and lips: the next frame closes the mouth."""
        self._stream.clear_buffer()
        self._audio.clear_queue()
        self._cuts += 1
        self._sound.clear()
        self._pending.clear()
        now = self._loop.time()
        heard = max(0.0, self._position - max(0.0, self._heard_until - now))
        self._heard_until, self._handed_until, self._frame_due, self._shown_until = now, now, None, now
        self._receiving = False
        self._wake_read.set()
        self._wake_speak.set()
        if self._playing:
            self._report_end(heard, interrupted=True)
        while self._waiting:  # whoever speaks would wait for an end that nobody tells
            self._waiting -= 1
            self._report_end(0.0, interrupted=True)

    # -- in ------------------------------------------------------------------------------------------------------------
    async def _receive(self) -> None:
        async for item in self._speech:
            if isinstance(item, rtc.AudioFrame):
                if not self._receiving:
                    self._receiving = True
                    self._waiting += 1
                samples = np.frombuffer(item.data, dtype=np.int16)
                await self._stream.push_audio(AudioChunk(samples, item.sample_rate))
            elif self._receiving:  # else the end of what was interrupted
                self._receiving = False
                await self._stream.flush()
            self._wake_read.set()

    # -- through -------------------------------------------------------------------------------------------------------
    async def _read(self) -> None:
        async for item in self._stream:
            match item:
                case AudioChunk():
                    self._plan(item)
                case VideoFrame():
                    await self._line_up(item)
                case SegmentEnd():
                    self._end_utterance()
            await self._keep_pace()

    def _plan(self, chunk: AudioChunk) -> None:
        """Sound is heard after the sound before it; or now, when that was heard.

        Raises EngineFailed for sound that the room's track cannot carry."""
        if chunk.sample_rate != self._sample_rate:
            raise EngineFailed(f"The engine gives sound of {chunk.sample_rate} Hz, not of {self._sample_rate} Hz.")
        begins, now = self._heard_until, self._loop.time()
        if not self._sound and begins < now:
            if self._playing and begins < now - GAP_SECONDS:
                self.figures.gaps += 1
            begins = now
        if self._ending is not None:  # the next utterance follows on the end of the last one
            self._report_end(self._position)
        self._heard_until = begins + chunk.duration
        if not self._playing:
            self._begin_utterance(begins)
        if self._frame_due is None:
            self._frame_due = begins + SOUND_BEHIND_SECONDS
        self._position += chunk.duration
        if not self._sound:
            self._sound_begins = begins
            self._wake_speak.set()
        self._sound.append(chunk)

    async def _keep_pace(self) -> None:
        """When enough is made ahead of its time, wait until a piece of it was heard; after an utterance, all of it."""
        if self._ending is not None:
            left = 0.0
        elif self._heard_until - self._loop.time() > AHEAD_SECONDS:
            left = AHEAD_SECONDS - PIECE_SECONDS
        else:
            return
        while (early := self._heard_until - self._loop.time() - left) > 0:
            await self._rest(early)

    async def _line_up(self, frame: VideoFrame) -> None:
        """Put a frame in line for the moment at which its audio is heard; without audio, after the frame before it."""
        now = self._loop.time()
        speaks = self._frame_due is not None
        due = self._frame_due if self._frame_due is not None else max(self._shown_until, now)
        self._frame_due = None
        self._shown_until = due + frame.duration
        # Copied, since the engine may use its memory again for the next frame. One that is the same as the last is
        # shown too: it costs the encoder next to nothing, and receivers see an even stream.
        copy = rtc.VideoFrame(frame.width, frame.height, FORMATS[frame.pixels], bytearray(frame.data))
        self._pending.append(_Pending(due, copy, frame.duration))
        if len(self._pending) == 1:
            self._wake_show.set()
        if not speaks:
            await self._rest(self._shown_until - now)

    async def _rest(self, seconds: float) -> None:
        """Wait, at most until something new is in the stream."""
        await _next(self._wake_read, seconds)

    def _begin_utterance(self, begins: float) -> None:
        self._playing, self._position = True, 0.0
        self._waiting = max(0, self._waiting - 1)
        self._beginning = self._loop.call_at(begins, self._speech.notify_playback_started)
        # Idle frames that were read ahead.
        while self._pending and self._pending[-1].due >= begins + SOUND_BEHIND_SECONDS:
            self._pending.pop()

    def _end_utterance(self) -> None:
        if self._playing and self._ending is None:
            self._ending = self._loop.call_at(self._heard_until, self._report_end, self._position)

    def _report_end(self, position: float, *, interrupted: bool = False) -> None:
        self._playing = False
        self._forget_timers()
        self._speech.notify_playback_finished(playback_position=position, interrupted=interrupted)

    def _forget_timers(self) -> None:
        for timer in (self._beginning, self._ending):
            if timer is not None:
                timer.cancel()
        self._beginning = self._ending = None

    # -- out -----------------------------------------------------------------------------------------------------------
    async def _speak(self) -> None:
        """Hand sound over in large pieces, each before the media library has none left."""
        while True:
            if not self._sound:
                await _next(self._wake_speak)
                continue
            early = self._handed_until - self._loop.time() - HELD_SECONDS
            if early > 0:
                await _next(self._wake_speak, early)
                continue  # what waited may be interrupted meanwhile, and there may be more
            self._put_off(self._loop.time() - self._sound_begins)
            samples = np.concatenate([chunk.samples for chunk in self._sound])
            self._sound.clear()
            self._handed_until = self._heard_until
            await self._hand_over(samples)

    async def _hand_over(self, samples: NDArray[np.int16]) -> None:
        """Give sound to the media library, never more at once than its queue takes: what it has not taken when the
        queue is cleared stays in it, and is taken back here."""
        most, cuts = self._sample_rate * AUDIO_QUEUE_MS // 1000, self._cuts
        for first in range(0, len(samples), most):
            part = samples[first : first + most]
            await self._audio.capture_frame(rtc.AudioFrame(part.tobytes(), self._sample_rate, 1, len(part)))
            if cuts != self._cuts:
                self._audio.clear_queue()
                return

    def _put_off(self, late: float) -> None:
        """The sound that comes next is so late: what follows, and its pictures, come later too."""
        if late <= 0:
            return
        if late > GAP_SECONDS and self._handed_until == self._sound_begins:  # it does not begin an utterance
            self.figures.gaps += 1
        self._heard_until += late
        self._shown_until += late
        if self._frame_due is not None:
            self._frame_due += late
        for waiting in self._pending:
            waiting.due += late
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
            self._end_utterance()

    async def _show(self) -> None:
        while True:
            if not self._pending:
                await _next(self._wake_show)
                continue
            first = self._pending[0]
            late = self._loop.time() - first.due
            if late < 0:
                await _next(self._wake_show, -late)
                continue  # it may be interrupted or put off meanwhile
            self._pending.popleft()
            if late > LATE_FRAMES * first.duration and self._pending:
                self.figures.dropped += 1
                continue
            self._picture.capture_frame(first.frame)
            self.figures.note_frame(time.monotonic(), late)

    # -- tasks ---------------------------------------------------------------------------------------------------------
    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Whichever part ends, the face has ended."""
        try:
            await work
        except Exception as error:
            logger.exception("face failed")
            if not self.failed.done():
                self.failed.set_exception(error)
        else:
            if not self.failed.done():
                self.failed.set_result(None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
