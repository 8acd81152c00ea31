"""Telling speech that was said from what the model made up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from projects.providers.faster_whisper.options import WhisperOptions

# What Whisper says when it hears nothing: the endings of the videos it learnt from.
_PHANTOMS = frozenset(
    {"thanks for watching", "thank you for watching", "please subscribe", "subtitles by the amara org community"}
)


class Gated(Protocol):
    """What is looked at to tell speech from invention."""

    @property
    def text(self) -> str: ...

    @property
    def avg_logprob(self) -> float: ...

    @property
    def compression_ratio(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Gates:
    """Where invention is suspected."""

    no_speech_threshold: float = 0.6
    log_prob_threshold: float = -1.0
    compression_ratio_threshold: float = 2.4


def is_credible(segment: Gated, gates: Gates | WhisperOptions) -> bool:
    """Whether a segment is speech that was said rather than one the model made up."""
    if segment.compression_ratio > gates.compression_ratio_threshold or is_loop(segment.text):
        return False
    if segment.avg_logprob < gates.log_prob_threshold - _allowance(segment.text):
        return False
    words = "".join(c if c.isalnum() else " " for c in segment.text.lower()).split()
    return bool(words) and " ".join(words) not in _PHANTOMS


def _allowance(text: str) -> float:
    """How much less likely than others a short text may be: half of "no" are timestamps, which are never certain.

    Without it single words would be lost: they come with -1.0 to -1.1, whole sentences with -0.3 to -0.7.
    """
    return min(0.5, 2.5 / max(1, len(text.strip())))


def is_loop(text: str) -> bool:
    """Whether a text is mostly one phrase over and over ("the the the the"), the way a lost decoder talks.

    Compression ratio only shows that on long texts.
    """
    words = text.lower().split()
    if len(words) < 8:
        return False
    for size in (1, 2, 3):
        phrases = Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
        if phrases.most_common(1)[0][1] * size > 0.6 * len(words):
            return True
    return False
