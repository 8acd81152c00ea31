"""A whole recording through a recogniser that takes pieces: cut, recognise several at once, put in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from agent_runtime.speech.decode_audio import Hole
from agent_runtime.speech.gate import speech_spans
from agent_runtime.speech.pieces import FindSpeech, Piece, cut_at_pauses
from agent_runtime.speech.transcript import SAMPLE_RATE, Recogniser, Transcription
from molts.errors import Busy, Unavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_ONCE = 4
"""Pieces of one recording that wait for the model together, so that it can take them as one batch."""

PIECE_SECONDS = 600.0  # the longest wait for one piece, its turn included
BUSY_SECONDS = 30.0  # how long a recording waits for a place among the conversations
CERTAIN_LANGUAGE = 0.5


@dataclass(frozen=True)
class Wish:
    """How a recording is to be recognised."""

    language: str | None = None
    prompt: str = ""
    hotwords: str = ""
    words: bool = False
    temperature: float = 0.0


class Recording:
    """One run over one recording. `duration`, holes included, is right once `transcripts` has ended."""

    def __init__(self, recogniser: Recogniser, wish: Wish, *, find_speech: FindSpeech = speech_spans) -> None:
        self._recogniser = recogniser
        self._wish = wish
        self._find_speech = find_speech
        self._samples = 0

    @property
    def duration(self) -> float:
        return self._samples / SAMPLE_RATE

    async def transcripts(
        self, chunks: AsyncIterator[NDArray[np.float32] | Hole]
    ) -> AsyncGenerator[Transcription, None]:
        """Yield what was said, piece by piece, in order, times counted from the start of the recording.

        Unless the language is given, the first piece tells it: the next ones need not guess again.
        """
        running: deque[asyncio.Task[Transcription]] = deque()
        try:
            async with contextlib.aclosing(
                cut_at_pauses(self._counted(chunks), find_speech=self._find_speech)
            ) as pieces:
                async for piece in pieces:
                    running.append(asyncio.create_task(self._recognise(piece)))
                    while running and (running[0].done() or len(running) >= self._at_once()):
                        yield self._learn_language(await running.popleft())
            while running:
                yield await running.popleft()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _counted(
        self, chunks: AsyncIterator[NDArray[np.float32] | Hole]
    ) -> AsyncGenerator[NDArray[np.float32] | Hole, None]:
        async for chunk in chunks:
            self._samples += chunk.samples if isinstance(chunk, Hole) else len(chunk)
            yield chunk

    def _at_once(self) -> int:
        return AT_ONCE if self._wish.language else 1

    def _learn_language(self, transcript: Transcription) -> Transcription:
        if self._wish.language is None and transcript.segments and transcript.language_probability > CERTAIN_LANGUAGE:
            self._wish = replace(self._wish, language=transcript.language)
        return transcript

    async def _recognise(self, piece: Piece) -> Transcription:
        wish = self._wish
        try:
            async with asyncio.timeout(PIECE_SECONDS):
                transcript = await self._when_free(piece, wish)
        except TimeoutError:
            raise Unavailable(f"The recogniser gave no answer in {PIECE_SECONDS:.0f} s. Try again later.") from None
        return shift(transcript, piece.start)

    async def _when_free(self, piece: Piece, wish: Wish) -> Transcription:
        """A recording is in no hurry: while the conversations need every place it asks again, for a while."""
        loop = asyncio.get_running_loop()
        give_up, pause = loop.time() + BUSY_SECONDS, 0.1
        while True:
            try:
                return await self._recogniser.transcribe(
                    piece.samples,
                    language=wish.language,
                    prompt=wish.prompt,
                    hotwords=wish.hotwords,
                    words=wish.words,
                    temperature=wish.temperature,
                )
            except Busy:
                if loop.time() + pause > give_up:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)


def shift(transcript: Transcription, seconds: float) -> Transcription:
    """The same words, `seconds` later."""
    return replace(
        transcript,
        segments=tuple(
            replace(
                segment,
                start=segment.start + seconds,
                end=segment.end + seconds,
                words=tuple(
                    replace(word, start=word.start + seconds, end=word.end + seconds) for word in segment.words
                ),
            )
            for segment in transcript.segments
        ),
    )


def join(transcripts: list[Transcription], *, duration: float, language: str = "") -> Transcription:
    """One transcript of a recording's pieces. `language` is what was asked for, when nothing was heard."""
    heard = [transcript for transcript in transcripts if transcript.segments]
    return Transcription(
        language=heard[0].language if heard else language,
        language_probability=heard[0].language_probability if heard else 0.0,
        duration=duration,
        segments=tuple(segment for transcript in heard for segment in transcript.segments),
    )
