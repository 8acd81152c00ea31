"""Finding speech: the rules on made-up probabilities, the detector on real speech and noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent_runtime.speech.gate import (
    LONGEST,
    PAD,
    SHORTEST,
    SILENCE,
    Span,
    cut_long,
    pad,
    speech_spans,
    stretches,
)
from tests.agent_runtime.speech.voices import RATE, SENTENCES, say, silence


@pytest.mark.parametrize(
    ("probabilities", "spans"),
    [
        ([], []),
        ([0.4] * 50, []),
        ([0.6] * 10, [(0, 10)]),
        ([0.6] * 5 + [0.4] * 20 + [0.1] * 20, [(0, 25)]),
        ([0.9] * 5 + [0.0] * (SILENCE - 1) + [0.9] * 5, [(0, 9 + SILENCE)]),
        ([0.9] * 5 + [0.0] * (SILENCE + 1) + [0.9] * 5, [(0, 5), (6 + SILENCE, 11 + SILENCE)]),
        ([0.0] * 20 + [0.9] * (SHORTEST - 1) + [0.0] * 20, []),
    ],
)
def test_speech_goes_on_through_short_silences(probabilities: list[float], spans: list[Span]) -> None:
    assert stretches(probabilities) == spans


def test_long_speech_is_cut_where_it_is_least_likely() -> None:
    probabilities = [1.0] * (3 * LONGEST)
    probabilities[LONGEST - 50] = 0.4

    parts = cut_long((0, 3 * LONGEST), probabilities)

    assert parts[0] == (0, LONGEST - 50)
    assert all(last - first <= LONGEST for first, last in parts)
    assert [first for first, _ in parts[1:]] == [last for _, last in parts[:-1]]
    assert parts[-1][1] == 3 * LONGEST


def test_padding_never_overlaps_nor_leaves_the_recording() -> None:
    assert pad([(2, 10), (14, 20), (100, 110)], 112) == [(0, 12), (12, 20 + PAD), (100 - PAD, 112)]
    assert pad([], 10) == []


def test_it_finds_speech_and_nothing_else(tmp_path: Path) -> None:
    said = say(SENTENCES[0], tmp_path)
    noise = np.random.default_rng(1).normal(0, 300, 5 * RATE).astype(np.int16)
    samples = np.concatenate([silence(3), said, noise, said, silence(1.23)])

    spans = speech_spans(pcm(samples))

    length = len(said) / RATE
    first, second = [(first / RATE, last / RATE) for first, last in spans]
    assert first == pytest.approx((3, 3 + length), abs=0.5)
    assert second == pytest.approx((8 + length, 8 + 2 * length), abs=0.5)
    assert speech_spans(pcm(silence(0))) == []
    assert speech_spans(pcm(noise)) == []


def pcm(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    return samples.astype(np.float32) / np.float32(32768)
