"""What the publisher tells the agent of its speech, and what it gives the media library when, without a room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd

from agent_runtime.avatar import publisher as face_publisher
from agent_runtime.avatar.publisher import FacePublisher
from avatars.engines.base import (
    AudioChunk,
    EngineFailed,
    LipSyncStream,
    PixelFormat,
    SegmentEnd,
    StreamItem,
    VideoFormat,
    VideoFrame,
)
from tests.virtual_time import VirtualLoop

pytestmark = pytest.mark.virtual_time
RATE = 24_000


class Stream(LipSyncStream):
    """Yields what it was made with, then nothing more until it is closed."""

    def __init__(self, *items: StreamItem) -> None:
        self._items = items
        self._closed = asyncio.Event()

    async def push_audio(self, audio: AudioChunk) -> None: ...
    async def flush(self) -> None: ...
    def clear_buffer(self) -> None: ...

    async def __aiter__(self) -> AsyncIterator[StreamItem]:
        for item in self._items:
            yield item
        await self._closed.wait()

    async def aclose(self) -> None:
        self._closed.set()


class Speech:
    """The agent's side: says nothing, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float, bool]] = []

    def on(self, event: Any, callback: Any) -> None: ...

    async def __aiter__(self) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    def notify_playback_started(self) -> None:
        self.told.append(("started", 0.0, False))

    def notify_playback_finished(self, playback_position: float, interrupted: bool) -> None:
        self.told.append(("finished", round(playback_position, 3), interrupted))


class Given:
    """In place of the media library's sources: notes what it is given, and when (loop time)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sound: list[tuple[float, rtc.AudioFrame]] = []
        self.pictures: list[float] = []
        self.cleared = 0
        monkeypatch.setattr(rtc, "AudioSource", lambda *_, **__: self._source(self._take_sound))
        monkeypatch.setattr(rtc, "VideoSource", lambda *_, **__: self._source(self._take_picture))
        monkeypatch.setattr(rtc.LocalAudioTrack, "create_audio_track", lambda *_: None)
        monkeypatch.setattr(rtc.LocalVideoTrack, "create_video_track", lambda *_: None)

    def frames(self) -> list[int]:
        """The numbers of the frames whose sound was given, see `talk`."""
        return [int(sample) for _, frame in self.sound for sample in list(frame.data)[::FRAME]]

    def _source(self, take: Any) -> Any:
        async def aclose() -> None: ...

        return SimpleNamespace(capture_frame=take, clear_queue=self._clear, aclose=aclose)

    def _clear(self) -> None:
        self.cleared += 1

    async def _take_sound(self, frame: rtc.AudioFrame) -> None:
        self.sound.append((asyncio.get_running_loop().time(), frame))

    def _take_picture(self, _: rtc.VideoFrame) -> None:
        self.pictures.append(asyncio.get_running_loop().time())


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    return Given(monkeypatch)


async def publish(speech: Speech, *items: StreamItem) -> FacePublisher:
    async def publish_track(*_: Any) -> None: ...

    room: Any = SimpleNamespace(local_participant=SimpleNamespace(publish_track=publish_track))
    video = VideoFormat(width=64, height=64)
    publisher = FacePublisher(room, speech=speech, stream=Stream(*items), video=video, sample_rate=RATE)
    await publisher.start()
    return publisher


def sound(seconds: float) -> AudioChunk:
    return AudioChunk(np.zeros(int(seconds * RATE), np.int16), RATE)


async def test_utterances_that_follow_closely_each_begin_and_end() -> None:
    speech = Speech()
    publisher = await publish(speech, sound(0.2), SegmentEnd(), sound(0.12), SegmentEnd())
    await asyncio.sleep(0.6)
    await publisher.aclose()

    assert [told for told in speech.told if told[0] == "finished"] == [
        ("finished", 0.2, False),
        ("finished", 0.12, False),
    ]
    assert [told[0] for told in speech.told] == ["started", "finished"] * 2


async def test_an_interruption_says_how_much_was_heard_and_nothing_after_it() -> None:
    speech = Speech()
    publisher = await publish(speech, *[sound(0.04)] * 50, SegmentEnd())
    await asyncio.sleep(0.4)
    publisher.interrupt()
    await asyncio.sleep(0.2)
    await publisher.aclose()

    (finished,) = [told for told in speech.told if told[0] == "finished"]
    assert finished[2]
    assert 0.2 < finished[1] < 0.6


async def test_a_face_that_is_closed_tells_nothing_more() -> None:
    speech = Speech()
    publisher = await publish(speech, sound(0.3), SegmentEnd())
    await asyncio.sleep(0.05)
    await publisher.aclose()
    told = list(speech.told)
    await asyncio.sleep(0.4)
    assert speech.told == told


async def test_a_face_that_is_closed_while_it_starts_leaves_nothing_running() -> None:
    publishing = asyncio.Event()

    async def publish_track(*_: Any) -> None:
        await publishing.wait()

    room: Any = SimpleNamespace(local_participant=SimpleNamespace(publish_track=publish_track))
    video = VideoFormat(width=64, height=64)
    publisher = FacePublisher(room, speech=Speech(), stream=Stream(), video=video, sample_rate=RATE)
    starting = asyncio.create_task(publisher.start())
    await asyncio.sleep(0)
    before = asyncio.all_tasks()
    await publisher.aclose()
    publishing.set()
    await starting
    assert asyncio.all_tasks() <= before


FRAME = RATE // 25


def talk(frames: int) -> list[StreamItem]:
    """The sound of so many frames, each sample the frame's number, and a picture with each."""
    items: list[StreamItem] = []
    for number in range(frames):
        items.append(AudioChunk(np.full(FRAME, number, dtype=np.int16), RATE))
        items.append(VideoFrame(np.zeros(64 * 96, np.uint8), 64, 64, PixelFormat.I420, 0.04))
    return items


async def test_sound_is_handed_over_in_few_pieces_and_never_late(given: Given) -> None:
    publisher = await publish(Speech(), *talk(30), SegmentEnd())
    await asyncio.sleep(1.3)
    figures = publisher.figures.as_dict()
    await publisher.aclose()

    assert given.frames() == list(range(30))
    assert len(given.sound) <= 8
    heard_until = given.sound[0][0]
    for at, frame in given.sound:
        assert at <= heard_until + 0.005, "the media library had no sound left"
        heard_until += frame.duration
    assert figures["gaps"] == 0


async def test_an_interruption_takes_back_what_waits_and_what_is_said_next_is_heard_at_once(given: Given) -> None:
    speech = Speech()
    publisher = await publish(speech, *talk(50))
    await asyncio.sleep(0.4)
    publisher.interrupt()
    before, shown, cut_at = len(given.sound), len(given.pictures), asyncio.get_running_loop().time()
    await asyncio.sleep(0.15)
    await publisher.aclose()

    assert given.cleared == 1
    assert before < len(given.sound), "the rest of the stream is a new utterance"
    assert given.sound[before][0] - cut_at < 0.1
    assert given.frames()[-1] < 49
    assert len(given.pictures) > shown


async def test_pictures_wait_for_sound_that_a_late_loop_handed_over_late(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face_publisher, "AHEAD_SECONDS", 1.5)
    monkeypatch.setattr(face_publisher, "HELD_SECONDS", 0.1)
    publisher = await publish(Speech(), *talk(60), SegmentEnd())
    await asyncio.sleep(0.3)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.be_late(1.7)  # the sound that was handed over is at its end
    await asyncio.sleep(1.9)
    figures = publisher.figures.as_dict()
    await publisher.aclose()

    assert figures["gaps"] == 1
    heard_until = given.sound[0][0]
    for at, frame in given.sound:
        heard_until = max(heard_until, at) + frame.duration
    assert abs(given.pictures[-1] - heard_until) < 0.15, "the last picture is shown with the last sound"


class Listener(Speech):
    """An agent whose speech the face hears, as far as it is told to say something."""

    def __init__(self) -> None:
        super().__init__()
        self._items: asyncio.Queue[Any] = asyncio.Queue()

    def say(self, seconds: float) -> None:
        samples = np.ones(int(seconds * RATE), np.int16)
        self._items.put_nowait(rtc.AudioFrame(samples.tobytes(), RATE, 1, len(samples)))

    def end(self) -> None:
        self._items.put_nowait(AudioSegmentEnd())

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            yield await self._items.get()


async def test_an_interruption_of_what_the_engine_has_not_begun_is_told_at_once(given: Given) -> None:
    speech = Listener()
    publisher = await publish(speech)
    speech.say(0.2)
    await asyncio.sleep(0.02)
    publisher.interrupt()
    publisher.interrupt()
    await asyncio.sleep(0.02)
    await publisher.aclose()
    assert speech.told == [("finished", 0.0, True)]


async def test_sound_that_the_library_was_just_taking_is_cut_as_well(given: Given) -> None:
    queued: list[rtc.AudioFrame] = []

    async def take(frame: rtc.AudioFrame) -> None:
        await asyncio.sleep(0.02)  # it is taken on a thread of the library's own
        queued.append(frame)

    given._take_sound = take  # type: ignore[method-assign]
    given._clear = queued.clear  # type: ignore[method-assign]
    publisher = await publish(Speech(), *talk(5))
    await asyncio.sleep(0.01)
    publisher.interrupt()
    await asyncio.sleep(0.1)
    await publisher.aclose()
    assert queued == []


async def test_lips_close_at_once(given: Given) -> None:
    rest = VideoFrame(np.zeros(64 * 96, np.uint8), 64, 64, PixelFormat.I420, 0.04)
    publisher = await publish(Speech(), *talk(16), *[rest] * 20)
    await asyncio.sleep(0.35)
    shown = len(given.pictures)
    while len(given.pictures) == shown:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    publisher.interrupt()
    for _ in range(20):  # of the loop, not the forty milliseconds until the next picture was due
        await asyncio.sleep(0)
    await publisher.aclose()
    assert len(given.pictures) == shown + 2


async def test_a_long_piece_of_an_engine_is_cut_as_a_whole(given: Given) -> None:
    publisher = await publish(Speech(), sound(2.0), SegmentEnd())
    await asyncio.sleep(0.02)
    assert sum(frame.duration for _, frame in given.sound) == pytest.approx(2.0)
    assert max(frame.duration for _, frame in given.sound) <= face_publisher.AUDIO_QUEUE_MS / 1000
    await publisher.aclose()


async def test_sound_at_another_rate_than_the_rooms_ends_the_face_with_a_reason() -> None:
    publisher = await publish(Speech(), AudioChunk(np.zeros(640, np.int16), 16_000))
    with pytest.raises(EngineFailed, match="16000 Hz"):
        await asyncio.wait_for(publisher.failed, 1)
    await publisher.aclose()
