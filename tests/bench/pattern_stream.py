"""A face for measuring: its middle third is white for exactly the sound of each beep, grey else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from avatars.engines.base import AudioChunk, LipSyncStream, PixelFormat, SegmentEnd, StreamItem, VideoFormat, VideoFrame
from tests.avatars.engines.portraits import SMILING
from tests.bench.avatar_process import GREY, WHITE, is_loud


def face_picture(video: VideoFormat) -> NDArray[np.uint8]:
    """I420 of a photo: a plain picture would be quicker on its way, and held back less where it is received."""
    photo = Image.open(SMILING).convert("YCbCr").resize((video.width, video.height))
    half = photo.resize((video.width // 2, video.height // 2))
    planes = [photo.getchannel(0), half.getchannel(1), half.getchannel(2)]
    return np.concatenate([np.asarray(plane, dtype=np.uint8).ravel() for plane in planes])


def _around(picture: NDArray[np.uint8], level: int) -> NDArray[np.uint8]:
    """The picture with its middle third in one level of grey."""
    marked = picture.copy()
    third = len(marked) * 2 // 9
    marked[third : 2 * third] = level
    return marked


class PatternStream(LipSyncStream):
    """I420 frames from two that are ready."""

    def __init__(self, video: VideoFormat) -> None:
        self._video = video
        self._queue: deque[NDArray[np.int16] | None] = deque()
        self._rest = np.zeros(0, dtype=np.int16)
        self._rate = 24_000
        self._closed = False
        self._pictures = [_around(face_picture(video), level) for level in (GREY, WHITE)]

    async def push_audio(self, audio: AudioChunk) -> None:
        self._rate = audio.sample_rate
        self._rest = np.concatenate((self._rest, audio.samples))
        step = round(self._rate / self._video.fps)
        while len(self._rest) >= step:
            self._queue.append(self._rest[:step])
            self._rest = self._rest[step:]

    async def flush(self) -> None:
        if len(self._rest):
            self._queue.append(self._rest)
            self._rest = self._rest[:0]
        self._queue.append(None)

    def clear_buffer(self) -> None:
        self._queue.clear()
        self._rest = self._rest[:0]

    async def __aiter__(self) -> AsyncIterator[StreamItem]:
        while not self._closed:
            await asyncio.sleep(0)
            sound = self._queue.popleft() if self._queue else self._rest[:0]
            if sound is None:
                yield SegmentEnd()
                continue
            if len(sound):
                yield AudioChunk(sound, self._rate)
            # Never "unchanged": the frames themselves are what is measured here.
            fps = self._video.fps if len(sound) else self._video.idle_fps
            yield VideoFrame(
                self._pictures[is_loud(sound)], self._video.width, self._video.height, PixelFormat.I420, 1 / fps
            )

    async def aclose(self) -> None:
        self._closed = True
