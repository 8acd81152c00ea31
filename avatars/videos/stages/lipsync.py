"""Speech into frames of a face, by the same stream that serves conversations, as fast as the engine can.

A stream shows an idle face while the rest of an utterance is awaited, since time does not stand still in a room. In a
video it does, so a stream is read only while it has speech enough. Knows neither Django nor LiveKit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import numpy as np

from avatars.engines.base import AudioChunk, EngineFailed, FaceState, LipSyncStream, SegmentEnd
from avatars.engines.visemes import Samples
from avatars.videos.stages.compose import SAMPLE_RATE, Composition

AHEAD = 1.0
"""Seconds of speech that a stream must have before a frame is taken: more than any engine looks ahead."""
FULL_AFTER = 0.5
"""Seconds after which a stream that takes no more speech is read, though it has less than AHEAD."""
CHUNK = SAMPLE_RATE // 10
FRAME_SECONDS = 60.0  # a frame that takes longer will not come


class Performance:
    """One face that says one script."""

    def __init__(self, stream: LipSyncStream, composition: Composition) -> None:
        self._stream, self._composition = stream, composition
        self._queued = 0  # samples that were pushed and have not come out
        self._is_pushing = False
        self._is_complete = False
        self._news = asyncio.Event()

    async def run(self, speech: AsyncIterator[Samples], tell: Callable[[], None]) -> None:
        """Say `speech` to its end. `tell` is called after each frame. Raises EngineFailed."""
        self._stream.set_state(FaceState.SPEAKING)
        pushing = asyncio.create_task(self._push(speech))
        try:
            await self._show(pushing, tell)
        finally:
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)

    async def _push(self, speech: AsyncIterator[Samples]) -> None:
        try:
            async for sound in speech:
                for start in range(0, len(sound), CHUNK):
                    chunk = np.ascontiguousarray(sound[start : start + CHUNK])
                    self._queued += len(chunk)
                    self._is_pushing = True
                    self._news.set()
                    await self._stream.push_audio(AudioChunk(chunk, SAMPLE_RATE))
                    self._is_pushing = False
            await self._stream.flush()
            self._is_complete = True
        finally:
            self._news.set()  # also when it failed: whoever waits looks

    async def _show(self, pushing: asyncio.Task[None], tell: Callable[[], None]) -> None:
        items = aiter(self._stream)
        while True:
            await self._wait_for_speech(pushing)
            try:
                async with asyncio.timeout(FRAME_SECONDS):
                    item = await anext(items, None)
            except TimeoutError:
                raise EngineFailed(f"The engine gave no picture within {FRAME_SECONDS:g} s.") from None
            if item is None:
                raise EngineFailed("The engine stopped before the end of the speech.")
            if isinstance(item, AudioChunk):
                self._queued -= len(item.samples)
                self._composition.add_audio(item)
            elif isinstance(item, SegmentEnd):
                return
            else:
                # In a thread, so that an engine host's frames come in meanwhile.
                await asyncio.to_thread(self._composition.add_frame, item)
                tell()

    async def _wait_for_speech(self, pushing: asyncio.Task[None]) -> None:
        """Until the stream has speech enough for a frame, or takes no more."""
        while not self._is_complete and self._queued < AHEAD * SAMPLE_RATE:
            if pushing.done():
                pushing.result()  # raises what went wrong in it
                return
            self._news.clear()
            try:
                async with asyncio.timeout(FULL_AFTER if self._is_pushing else None):
                    await self._news.wait()
            except TimeoutError:
                return
        if pushing.done():
            pushing.result()
