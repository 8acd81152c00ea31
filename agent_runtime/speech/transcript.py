"""What a recogniser hears, and what it must be able to do.

The words of this module are shared by the engine, the live streams and the HTTP door; it imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

SAMPLE_RATE = 16_000
"""Samples a second of everything that a recogniser is given: float32, mono, -1 to 1."""

MAX_PIECE_SECONDS = 30.0
"""The most that one call of a recogniser takes: Whisper's window."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word. Times are seconds from the start of the audio; `text` has Whisper's leading space."""

    start: float
    end: float
    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class RecognisedSegment:
    """A stretch of speech that was decoded as one. `words` is empty unless words were asked for."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    compression_ratio: float = 1.0
    temperature: float = 0.0
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcription:
    """What was said in `duration` seconds of audio. `language` is Whisper's code, "" when nothing was heard."""

    language: str
    language_probability: float
    duration: float
    segments: tuple[RecognisedSegment, ...]

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments).strip()


def public_name(model: str) -> str:
    """What others call a model: of a folder only the last part, for they need not know our disk."""
    return Path(model).name if model.startswith(("/", ".", "~")) else model


class Recogniser(Protocol):
    """Turns audio into words."""

    async def transcribe(
        self,
        samples: np.ndarray,
        *,
        language: str | None = None,
        prompt: str = "",
        hotwords: str = "",
        words: bool = False,
        temperature: float = 0.0,
    ) -> Transcription:
        """Hear at most MAX_PIECE_SECONDS of audio. `language` None: find out which it is.

        Shares the model with the live conversations and waits behind them. Cancelling the call gives its place up.
        Raises `Busy` when too many wait already, `Unavailable` when the model is gone.
        """

    @property
    def models(self) -> tuple[str, ...]:
        """Names of what can be asked for now, the one in use first."""
