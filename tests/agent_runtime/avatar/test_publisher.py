"""What the publisher tells the agent of its speech, without a room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from agent_runtime.avatar.publisher import FacePublisher
from avatars.engines.base import AudioChunk, LipSyncStream, SegmentEnd, StreamItem, VideoFormat

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
