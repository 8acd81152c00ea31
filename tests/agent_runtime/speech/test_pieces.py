"""Cutting recordings at their pauses: nothing spoken is lost, no piece is too long, little is held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent_runtime.speech.gate import Span
from agent_runtime.speech.pieces import MAX_PIECE, PAUSE, WINDOW, Piece, cut_at_pauses, group_spans
from agent_runtime.speech.transcript import SAMPLE_RATE

Samples = NDArray[np.float32]


def loud_spans(samples: Samples) -> list[Span]:
    """A voice detector for tests: what is not zero is speech. Like the real one it cuts at 25 s."""
    loud = np.flatnonzero(np.diff(np.concatenate([[0], samples != 0, [0]]).astype(np.int8)))
    longest = 25 * SAMPLE_RATE
    return [
        (cut, min(cut + longest, end))
        for start, end in loud.reshape(-1, 2).tolist()
        for cut in range(start, end, longest)
    ]


async def chunked(samples: Samples, size: int = SAMPLE_RATE) -> AsyncIterator[Samples]:
    for at in range(0, len(samples), size):
        yield samples[at : at + size]


def recording(*seconds: float) -> Samples:
    """Speech and silence in turns, starting with silence; every sample of speech has a value of its own."""
    parts = [np.full(int(length * SAMPLE_RATE), index % 2, dtype=np.float32) for index, length in enumerate(seconds)]
    samples: Samples = np.concatenate(parts)
    return (samples * np.arange(1, len(samples) + 1)).astype(np.float32)


async def pieces_of(samples: Samples) -> list[Piece]:
    return [piece async for piece in cut_at_pauses(chunked(samples), find_speech=loud_spans)]


async def test_a_breath_stays_inside_a_piece_and_a_pause_does_not() -> None:
    pieces = await pieces_of(recording(1, 2, 0.5, 2, 1.5, 3, 1))

    assert [(piece.start, len(piece.samples) / SAMPLE_RATE) for piece in pieces] == [(1, 4.5), (7, 3)]


async def test_endless_speech_is_cut_at_the_longest_piece() -> None:
    pieces = await pieces_of(recording(0, 200))

    assert max(len(piece.samples) for piece in pieces) <= MAX_PIECE
    assert np.array_equal(np.concatenate([piece.samples for piece in pieces]), recording(0, 200))


async def test_silence_gives_no_piece() -> None:
    assert await pieces_of(recording(500)) == []
    assert await pieces_of(np.zeros(0, dtype=np.float32)) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.05, 40), min_size=1, max_size=12))
async def test_all_speech_is_in_some_piece_at_its_own_time(seconds: list[float]) -> None:
    samples = recording(*seconds)
    found = np.zeros_like(samples)
    for piece in await pieces_of(samples):
        start = round(piece.start * SAMPLE_RATE)
        assert len(piece.samples) <= MAX_PIECE
        assert not found[start : start + len(piece.samples)].any(), "pieces do not overlap"
        found[start : start + len(piece.samples)] = piece.samples

    assert np.array_equal(found, samples)


async def test_it_never_looks_at_more_than_a_window() -> None:
    seen: list[int] = []

    def watch(samples: Samples) -> list[Span]:
        seen.append(len(samples))
        return loud_spans(samples)

    async for _ in cut_at_pauses(chunked(recording(*[3, 7] * 60)), find_speech=watch):
        pass

    assert max(seen) < WINDOW + SAMPLE_RATE
    assert len(seen) > 10


@pytest.mark.parametrize(
    ("spans", "groups"),
    [
        ([], []),
        ([(0, 10), (20, 30)], [(0, 30)]),
        ([(0, 10), (10 + PAUSE, 20 + PAUSE)], [(0, 10), (10 + PAUSE, 20 + PAUSE)]),
        ([(0, MAX_PIECE - 5), (MAX_PIECE, MAX_PIECE + 9)], [(0, MAX_PIECE - 5), (MAX_PIECE, MAX_PIECE + 9)]),
        ([(0, MAX_PIECE + 5)], [(0, MAX_PIECE), (MAX_PIECE, MAX_PIECE + 5)]),
    ],
)
def test_spans_are_joined_over_breaths(spans: list[Span], groups: list[Any]) -> None:
    assert group_spans(spans) == groups
