"""How exact, how costly and how quick recognition is with different settings, on an owner's own recordings.

Each recording is a sound file with what is said in it beside it, in a file of the same name that ends in `.txt`. It is
cut at its pauses; every stretch is then heard as a conversation would hear it: partial decodes while it grows, a final
one at its end. Time is not waited for, only the decodes are timed, so a figure is the machine's and no queue's.
"""

from __future__ import annotations

import asyncio
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_runtime.speech.decode_audio import Hole, decode_audio
from agent_runtime.speech.pieces import cut_at_pauses
from agent_runtime.speech.transcript import MAX_PIECE_SECONDS, SAMPLE_RATE, Transcription
from molts.errors import BadInput, MoltsError
from molts.percentiles import percentile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

SOUND_FILES = frozenset({".wav", ".mp3", ".ogg", ".opus", ".flac", ".m4a", ".mp4", ".webm", ".aac", ".aiff"})
MAX_SECONDS = 2 * 3600.0
FIRST_PARTIAL_SECONDS = 0.8

Decode = Callable[["Samples", float], Transcription]
"""Hears at most 30 s with an encoder window of at least so many seconds."""


@dataclass(frozen=True)
class Windows:
    """The settings to compare: the least that the encoder looks at, for partials and for finals. 30 s is all of it."""

    partial_floor: float
    final_floor: float

    @property
    def label(self) -> str:
        return f"partials {_window(self.partial_floor)}, finals {_window(self.final_floor)}"


FULL = MAX_PIECE_SECONDS
DEFAULT = Windows(10.0, 15.0)
COMPARED = (Windows(FULL, FULL), DEFAULT, Windows(10.0, 10.0), Windows(5.0, 5.0))


@dataclass(frozen=True)
class SpokenSample:
    path: Path
    said: str


@dataclass
class WindowResult:
    """Sums for one setting. Seconds of sound and of work."""

    windows: Windows
    words: int = 0
    errors: int = 0
    sound_seconds: float = 0.0
    final_seconds: list[float] = field(default_factory=list)
    partial_seconds: list[float] = field(default_factory=list)

    @property
    def word_error_rate(self) -> float:
        return self.errors / self.words if self.words else 0.0

    @property
    def file_factor(self) -> float:
        """Seconds of work for a second of sound that is sent as a whole file."""
        return sum(self.final_seconds) / self.sound_seconds if self.sound_seconds else 0.0

    @property
    def live_factor(self) -> float:
        """The same for a conversation: partials and finals, counted on its speech and its silence."""
        work = sum(self.final_seconds) + sum(self.partial_seconds)
        return work / self.sound_seconds if self.sound_seconds else 0.0

    def lag(self, percent: int) -> float:
        """From the end of speech to its words, in seconds: `percent` of 100 utterances were as quick as that."""
        return percentile(self.final_seconds, percent) or 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "setting": self.windows.label,
            "partial_floor_seconds": self.windows.partial_floor,
            "final_floor_seconds": self.windows.final_floor,
            "is_default": self.windows == DEFAULT,
            "words": self.words,
            "errors": self.errors,
            "word_error_rate": round(self.word_error_rate, 5),
            "sound_seconds": round(self.sound_seconds, 2),
            "utterances": len(self.final_seconds),
            "partials": len(self.partial_seconds),
            "file_real_time_factor": round(self.file_factor, 5),
            "live_real_time_factor": round(self.live_factor, 5),
            "final_lag_p50_ms": round(self.lag(50) * 1000, 1),
            "final_lag_p95_ms": round(self.lag(95) * 1000, 1),
        }


def find_recordings(folder: Path, *, limit: int = 0) -> list[SpokenSample]:
    """Sound files of the folder that have a text beside them. Raises BadInput, saying what is missing."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder.")
    sounds = sorted(path for path in folder.iterdir() if path.suffix.lower() in SOUND_FILES)
    recordings = [SpokenSample(path, read_text(path.with_suffix(".txt"))) for path in sounds if _has_text(path)]
    if not recordings:
        raise BadInput(
            f"{folder} holds {len(sounds)} sound files, none with its text: "
            "put `a.txt` with what is said beside `a.wav`."
        )
    return recordings[:limit] if limit > 0 else recordings


def read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text.") from error
    if not words_of(text):
        raise BadInput(f"{path} holds no words.")
    return text


async def measure(
    recordings: Sequence[SpokenSample],
    decode: Decode,
    compared: Sequence[Windows] = COMPARED,
    *,
    partial_seconds: float = 0.3,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> list[WindowResult]:
    """Hear every recording with every setting. `tell(done, total)` after each recording."""
    results = [WindowResult(windows) for windows in compared]
    for done, recording in enumerate(recordings, start=1):
        pieces, seconds = await load(recording.path)
        for result in results:  # setting after setting on the same sound: a change of the machine's load hits all
            await asyncio.to_thread(hear, result, recording, pieces, seconds, decode, partial_seconds)
        tell(done, len(recordings))
    return results


async def load(path: Path) -> tuple[list[Samples], float]:
    """The stretches with speech, and how long the whole is."""
    total = 0

    async def counted() -> Any:
        nonlocal total
        async for chunk in decode_audio(path, max_seconds=MAX_SECONDS):
            total += 0 if isinstance(chunk, Hole) else len(chunk)
            yield chunk

    try:
        pieces = [piece.samples async for piece in cut_at_pauses(counted())]
    except MoltsError as error:
        raise BadInput(f"{path.name}: {error.detail}") from error
    return pieces, total / SAMPLE_RATE


def hear(
    result: WindowResult,
    recording: SpokenSample,
    pieces: Iterable[Samples],
    seconds: float,
    decode: Decode,
    partial_seconds: float,
) -> None:
    """Add one recording to the sums of one setting."""
    heard = []
    for piece in pieces:
        result.partial_seconds += hear_partials(piece, decode, result.windows.partial_floor, partial_seconds)
        began = time.perf_counter()
        transcript = decode(piece, result.windows.final_floor)
        result.final_seconds.append(time.perf_counter() - began)
        heard += words_of(transcript.text)
    expected = words_of(recording.said)
    result.words += len(expected)
    result.errors += edit_distance(expected, heard)
    result.sound_seconds += seconds


def hear_partials(piece: Samples, decode: Decode, floor: float, every: float) -> list[float]:
    """Seconds of each partial decode while the piece grows. Where one takes long they come less often, as when live."""
    took: list[float] = []
    at = FIRST_PARTIAL_SECONDS
    while at * SAMPLE_RATE < len(piece):
        began = time.perf_counter()
        decode(piece[: int(at * SAMPLE_RATE)], floor)
        took.append(time.perf_counter() - began)
        at += max(every, 2 * took[-1])  # half a core at most
    return took


def words_of(text: str) -> list[str]:
    """The words as they sound: without case, marks and accents' spellings. Scripts without spaces count characters."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    spaced = "".join(
        f" {character} " if _stands_alone(character) else character if _is_letter(character) else " "
        for character in folded
    )
    return [word for part in spaced.split() if (word := part.strip("'"))]


def _is_letter(character: str) -> bool:
    return character == "'" or unicodedata.category(character)[0] in "LNM"


def _stands_alone(character: str) -> bool:
    return unicodedata.name(character, "").startswith(("CJK UNIFIED", "HIRAGANA", "KATAKANA"))


def edit_distance(expected: Sequence[str], heard: Sequence[str]) -> int:
    """Least number of words to change, leave out and put in (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for number, word in enumerate(expected, start=1):
        diagonal, row[0] = row[0], number
        for column, other in enumerate(heard, start=1):
            change = diagonal + (word != other)
            diagonal, row[column] = row[column], min(change, row[column] + 1, row[column - 1] + 1)
    return row[-1]


def as_table(results: Sequence[WindowResult]) -> str:
    """For people. The default setting is marked."""
    head = ("setting", "word errors", "work a second, file", "live", "lag p50", "lag p95")
    rows = [
        (
            result.windows.label + (" *" if result.windows == DEFAULT else ""),
            f"{result.word_error_rate:.1%}",
            f"{result.file_factor:.3f} s",
            f"{result.live_factor:.3f} s",
            f"{result.lag(50) * 1000:.0f} ms",
            f"{result.lag(95) * 1000:.0f} ms",
        )
        for result in results
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    first, *rest = (_line(row, widths) for row in (head, *rows))
    return "\n".join([first, "-" * len(first), *rest])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The first cell flush left, figures flush right."""
    name, *figures = zip(cells, widths, strict=True)
    return "  ".join([name[0].ljust(name[1]), *(cell.rjust(width) for cell, width in figures)])


def _window(floor: float) -> str:
    return "full" if floor >= FULL else f"from {floor:g} s"


def _has_text(path: Path) -> bool:
    return path.with_suffix(".txt").is_file()
