"""Cuts long audio at its pauses into pieces that a recogniser takes. Silence is in none of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from agent_runtime.speech.decode_audio import Hole
from agent_runtime.speech.gate import Span, speech_spans
from agent_runtime.speech.transcript import MAX_PIECE_SECONDS, SAMPLE_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

FindSpeech = Callable[["NDArray[np.float32]"], list[Span]]
"""Where in some samples there is speech: (first, past the last), in order."""

MAX_PIECE = int(MAX_PIECE_SECONDS * SAMPLE_RATE)
WINDOW = 2 * MAX_PIECE  # searched at once, so that a piece of full length always fits with the pause behind it
PAUSE = int(0.8 * SAMPLE_RATE)
"""Shorter silences stay inside a piece: they are pauses for breath, and their context helps the recogniser."""

_HELD_BACK = SAMPLE_RATE // 2  # of a window without speech: a word may begin in it

# One thread for all recordings: more would take the processor from conversations, and hold memory each.
_searcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pauses")


@dataclass(frozen=True)
class Piece:
    """A stretch with speech, and where in the whole it starts (seconds)."""

    start: float
    samples: NDArray[np.float32]


async def cut_at_pauses(
    chunks: AsyncIterator[NDArray[np.float32] | Hole], *, find_speech: FindSpeech = speech_spans
) -> AsyncGenerator[Piece, None]:
    """Yield the pieces of a stream of chunks. Holds at most a window (a minute) of it in memory, nothing of a hole."""
    waiting: list[NDArray[np.float32]] = []
    length = passed = 0
    async for chunk in chunks:
        if isinstance(chunk, Hole):
            for piece in await _last_pieces(waiting, passed, find_speech):
                yield piece
            passed += length + chunk.samples
            waiting, length = [], 0
            continue
        waiting.append(chunk)
        length += len(chunk)
        if length < WINDOW:
            continue
        window = np.concatenate(waiting)
        spans = await _search(find_speech, window)
        done, rest = _settled(group_spans(spans), len(window))
        for start, end in done:
            yield Piece((passed + start) / SAMPLE_RATE, window[start:end])
        waiting = [window[rest:].copy()]
        passed += rest
        length -= rest
    for piece in await _last_pieces(waiting, passed, find_speech):
        yield piece


async def _last_pieces(waiting: list[NDArray[np.float32]], passed: int, find_speech: FindSpeech) -> list[Piece]:
    """The pieces of what comes before a hole or the end."""
    if not waiting:
        return []
    window = np.concatenate(waiting)
    spans = group_spans(await _search(find_speech, window))
    return [Piece((passed + start) / SAMPLE_RATE, window[start:end]) for start, end in spans]


async def _search(find_speech: FindSpeech, window: NDArray[np.float32]) -> list[Span]:
    return await asyncio.get_running_loop().run_in_executor(_searcher, find_speech, window)


def group_spans(spans: Sequence[Span]) -> list[Span]:
    """Join neighbours with less than a pause between them, and cut what is longer than a piece may be."""
    groups: list[Span] = []
    for start, end in spans:
        if groups and start - groups[-1][1] < PAUSE and end - groups[-1][0] <= MAX_PIECE:
            groups[-1] = (groups[-1][0], end)
            continue
        for cut in range(start, end, MAX_PIECE):
            groups.append((cut, min(cut + MAX_PIECE, end)))
    return groups


def _settled(groups: list[Span], length: int) -> tuple[list[Span], int]:
    """The groups that no later audio can change, and where the rest of the window starts."""
    if groups and groups[-1][1] + PAUSE > length:
        return groups[:-1], groups[-1][0]
    return groups, max(groups[-1][1] if groups else 0, length - _HELD_BACK)
