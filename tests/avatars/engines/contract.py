"""Reading streams in tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from avatars.engines.base import AudioChunk, LipSyncStream, PixelFormat, SegmentEnd, StreamItem, VideoFrame

SECONDS = 20.0


def brightness(frame: VideoFrame) -> float:
    """Mean of the middle of the picture: luma, or grey."""
    pixels = np.frombuffer(frame.data, np.uint8)
    if frame.pixels is PixelFormat.I420:
        picture = pixels[: frame.width * frame.height].reshape(frame.height, frame.width)
    else:
        picture = pixels.reshape(frame.height, frame.width, 3).mean(axis=2)
    # A little below the middle: every stand-in moves that part.
    return float(
        picture[
            int(frame.height * 0.55) : int(frame.height * 0.65), int(frame.width * 0.45) : int(frame.width * 0.55)
        ].mean()
    )


@dataclass
class Heard:
    """One utterance as it came out of a stream."""

    samples: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    sample_rate: int = 0
    bright: list[float] = field(default_factory=list)  # of each frame that came with sound
    before: int = 0  # frames without sound before the first sample
    ended: bool = False


async def read_utterance(items: AsyncIterator[StreamItem]) -> Heard:
    """Until the next SegmentEnd. Checks the order: the sound of a frame's time first, then the frame."""
    heard = Heard()
    sound_pending = False
    async with asyncio.timeout(SECONDS):
        async for item in items:
            if isinstance(item, SegmentEnd):
                heard.ended = True
                return heard
            if isinstance(item, AudioChunk):
                heard.samples = np.concatenate([heard.samples, item.samples])
                heard.sample_rate = item.sample_rate
                sound_pending = True
            elif sound_pending:
                heard.bright.append(brightness(item))
                sound_pending = False
            elif not len(heard.samples):
                heard.before += 1
                await asyncio.sleep(item.duration / 10)
    return heard


async def take(items: AsyncIterator[StreamItem], count: int) -> list[StreamItem]:
    found: list[StreamItem] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < count:
            found.append(await anext(items))
    return found


async def push(stream: LipSyncStream, samples: NDArray[np.int16], rate: int = 16_000, *, step: float = 0.1) -> None:
    """In pieces, as a voice gives it."""
    size = round(rate * step)
    for start in range(0, len(samples), size):
        await stream.push_audio(AudioChunk(samples[start : start + size], rate))
