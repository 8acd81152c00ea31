"""Captions: utterances broken into cues that can be read, by the rule by which answers are spoken."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from projects.providers.shared.sentences import Lengths, split_pieces

CUE = Lengths(shortest=20, long=84, longest=84)
"""Two lines of 42 columns, as broadcasters have them."""
COLUMNS_A_SECOND = 17  # what readers keep up with
SHORTEST_MS = 1000
LONGEST_MS = 7000  # of the time that reading needs; what is spoken for longer stays for as long


@dataclass(frozen=True)
class Cue:
    """Words and when they were said, in milliseconds. What was typed took no time."""

    text: str
    start_ms: int
    end_ms: int


def columns(text: str) -> int:
    """How wide a text is: letters of East Asia take two columns, marks over letters none."""
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text.strip()
    )


def reading_ms(text: str) -> int:
    """How long `text` must be seen to be read."""
    return min(LONGEST_MS, max(SHORTEST_MS, round(columns(text) * 1000 / COLUMNS_A_SECOND)))


def break_up(utterance: Cue) -> list[Cue]:
    """Cues of at most two lines that together last as long as `utterance`, each for its share of the words."""
    pieces = _pieces(utterance.text)
    widths = [max(1, columns(piece)) for piece in pieces]
    length, passed, ends = utterance.end_ms - utterance.start_ms, 0, [utterance.start_ms]
    for width in widths:
        passed += width
        ends.append(utterance.start_ms + length * passed // sum(widths))
    return [Cue(piece, start, end) for piece, (start, end) in zip(pieces, pairwise(ends), strict=True)]


def cues(utterances: Iterable[Cue]) -> Iterator[tuple[int, Cue]]:
    """(index of the utterance, cue) in order. A cue that was over too soon stays until it is read or the next begins,
    and a second at least."""
    given = list(utterances)
    for index, utterance in enumerate(given):
        following = given[index + 1].start_ms if index + 1 < len(given) else None
        end_ms = max(utterance.end_ms, _read_by(utterance, following))
        yield from ((index, cue) for cue in break_up(Cue(utterance.text, utterance.start_ms, end_ms)))


def _read_by(utterance: Cue, following_ms: int | None) -> int:
    pieces = _pieces(utterance.text)
    needed = sum(map(reading_ms, pieces))
    if following_ms is not None:
        needed = min(needed, max(following_ms - utterance.start_ms, SHORTEST_MS * len(pieces)))
    return utterance.start_ms + needed


def _pieces(text: str) -> list[str]:
    return split_pieces(" ".join(text.split()), first=CUE, later=CUE, size=columns)
