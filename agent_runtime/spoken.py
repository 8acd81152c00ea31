"""The text of one utterance on its way to voices, and how far a voice has come with it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable

from livekit import rtc
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT
from livekit.agents.utils import aio

from projects.providers.shared.answers import THOUGHT_UNTIL_HERE
from projects.providers.shared.sentences import spoken_length, word_at

logger = logging.getLogger(__name__)

TYPICAL_PACE = 14.0
"""What a voice says in a second, in `spoken_length`, while nothing is known of it."""


class Words:
    """Reads a text while it is written and keeps it, so that another voice can go on with it."""

    def __init__(self, source: AsyncIterable[str]) -> None:
        self._source = source
        self.text = ""
        self.is_whole = False
        self.began_at: float | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read(), name="words")

    async def after(self, place: int) -> AsyncIterator[str]:
        """What comes after so many characters, to the end, be it that of a source that failed."""
        while True:
            if place < len(self.text):
                piece, place = self.text[place:], len(self.text)
                yield piece
            elif self.is_whole:
                return
            else:
                self._news.clear()
                await self._news.wait()

    async def aclose(self) -> None:
        await aio.cancel_and_wait(self._task)

    async def _read(self) -> None:
        try:
            async for piece in self._source:
                piece = piece.replace(THOUGHT_UNTIL_HERE, " ")
                self.text += piece
                if self.began_at is None and piece.strip():
                    self.began_at = time.monotonic()
                self._tell()
        except Exception:  # handed on, it would leave a voice waiting for an end that never comes
            logger.exception("a text to be spoken broke off")
        finally:
            self.is_whole = True
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self.on_change()


class Spoken:
    """How far one voice has come with a text that it began at `start`.

    Voices say with their sound at which piece they are. Where inside a piece they are, nobody says: it follows from how
    long they have spoken of it and their pace, which the pieces before show, or earlier utterances (`known_pace`).
    """

    def __init__(self, start: int = 0) -> None:
        self._start = start
        self.voice = 0
        """The place in the chain of the voice whose sound it is."""
        self.known_pace = TYPICAL_PACE
        self._pieces: list[str] = []
        self._piece_at = 0.0
        self.seconds = 0.0

    def note(self, frame: rtc.AudioFrame) -> None:
        for piece in frame.userdata.get(USERDATA_TIMED_TRANSCRIPT, ()):
            self._pieces.append(str(piece))
            begins = getattr(piece, "start_time", None)
            self._piece_at = begins if isinstance(begins, (int, float)) else self.seconds
        self.seconds += frame.duration

    def rest_of(self, text: str) -> int:
        """Where the word of `text` begins in which the voice broke off."""
        before = self._start + sum(map(len, self._pieces[:-1]))
        piece = self._pieces[-1] if self._pieces else text[before:]
        seconds = max(0.0, self.seconds - self._piece_at)
        return before + word_at(piece, seconds * (self._measured(self._pieces[:-1], self._piece_at) or self.known_pace))

    def is_through(self, text: str) -> bool:
        """Whether the voice has said `text`: it has begun with the last piece, of which at most a third seems to be
        left, since its pace may differ by so much."""
        if self._pieces and self.awaits_piece(text).strip():
            return False
        piece = self._pieces[-1] if self._pieces else text[self._start :]
        return self.seconds > 0 and len(text) - self.rest_of(text) <= len(piece) / 3

    def awaits_piece(self, text: str) -> str:
        """What of `text` the voice has not begun with."""
        return text[self._start + sum(map(len, self._pieces)) :]

    def pace(self) -> float | None:
        """The voice's pace, once it has said all of its pieces; None when it said too little to tell."""
        return self._measured(self._pieces, self.seconds)

    @staticmethod
    def _measured(pieces: list[str], seconds: float) -> float | None:
        length = sum(map(spoken_length, pieces))
        return length / seconds if length and seconds >= 0.5 else None
