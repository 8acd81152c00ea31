"""The mouth follows the sound: in time, in size and in shape."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from avatars.engines.poses import Mouth
from avatars.engines.visemes import Samples, Visemes, analyse
from tests.avatars.engines.speech import FPS, RATE, TEXT, VOICES, best_lag, envelope, mouths, openness, say

VOWELS = ("a", "e", "i", "o", "u")
VOWEL_VOICES = ("de", "de+f3", "de+m3", "de+klatt2", "de+f5")  # German espeak has all five as long, pure vowels


def vowel(name: str, voice: str) -> Mouth:
    """The mouth in the middle of a long vowel."""
    sound = say(f"[[{name}:{name}:]]", voice, words_a_minute=90)
    loud = np.flatnonzero(envelope(sound) > 0.3 * envelope(sound).max())
    return mouths(sound)[int(loud[len(loud) // 2])]


@pytest.mark.parametrize("voice", VOICES)
def test_the_mouth_opens_with_the_voice_and_in_time(voice: str) -> None:
    sound = say(TEXT, voice)
    correlation, lag = best_lag(openness(mouths(sound)), envelope(sound))
    assert correlation >= 0.7
    assert abs(lag) / FPS <= 0.040


@pytest.mark.parametrize("voice", VOWEL_VOICES)
def test_vowels_spread_and_round_the_lips(voice: str) -> None:
    a, e, i, o, u = (vowel(name, voice) for name in VOWELS)
    assert min(e.width, i.width) > 0.75
    assert min(o.rounding, u.rounding) > 0.6
    assert max(e.rounding, i.rounding) < 0.2
    assert max(o.width, u.width) < 0.4
    assert 0.3 < a.width < 0.7
    assert a.rounding < 0.3
    assert a.openness > max(e.openness, o.openness) > min(e.openness, o.openness) > max(i.openness, u.openness) > 0.1


@pytest.mark.parametrize("voice", ["de", "de+f3", "de+m3"])
@pytest.mark.parametrize("consonant", ["p", "b", "m:"])
def test_lips_that_shut_are_seen(voice: str, consonant: str) -> None:
    shapes = openness(mouths(say(f"[[a{consonant}a]]", voice, words_a_minute=100)))
    peaks = [place for place in range(len(shapes)) if shapes[place] > 0.6]
    between = shapes[peaks[0] : peaks[-1]]
    assert between.min() < 0.35 * shapes.max()


def test_silence_closes_the_mouth_at_once() -> None:
    visemes = Visemes()
    sound = say("[[a:a:]]", "de")
    loudest = int(np.argmax(envelope(sound)) * RATE / FPS)
    assert visemes.shape(sound[loudest : loudest + 882], RATE).openness > 0.3
    assert visemes.shape(np.zeros(882, dtype=np.int16), RATE).openness == 0.0


def test_lips_come_to_rest_without_sound() -> None:
    visemes = Visemes()
    sound = say("[[u:u:]]", "de")
    middle = len(sound) // 3
    for _ in range(5):
        visemes.shape(sound[middle : middle + 882], RATE)
    rounded = visemes.mouth.rounding
    shapes = [visemes.close() for _ in range(8)]
    assert rounded > 0.5
    assert shapes[0].openness == 0.0
    assert 0.0 < shapes[0].rounding < rounded, "they do not jump"
    assert shapes[-1].rounding < 0.01
    assert abs(shapes[-1].width - 0.5) < 0.01


def test_quiet_speakers_open_their_mouths_too() -> None:
    loud = say(TEXT, "en-us")
    quiet = (loud * 0.1).astype(np.int16)  # 20 decibels less
    second_half = len(mouths(loud)) // 2
    assert openness(mouths(quiet))[second_half:].mean() > 0.5 * openness(mouths(loud))[second_half:].mean()


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 24_000, 44_100, 48_000])
def test_the_rate_of_the_sound_does_not_matter(rate: int) -> None:
    sound = say(TEXT, "en-us")
    resampled: Samples = soxr.resample(sound, RATE, rate)
    usual, other = openness(mouths(sound)), openness(mouths(resampled, rate))
    length = min(len(usual), len(other))
    assert best_lag(other[:length], usual[:length])[1] == 0
    assert best_lag(other[:length], usual[:length])[0] > 0.9


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 40, 353, 4_000])
@pytest.mark.parametrize("value", [0, 1, -32_768, 32_767])
def test_any_piece_of_sound_has_a_mouth(count: int, value: int) -> None:
    for sound in (np.full(count, value), np.resize([value, -value - 1], count)):
        for rate in (8_000, 16_000, 48_000):
            shape = Visemes().shape(sound.astype(np.int16), rate)
            assert 0.0 <= shape.openness <= 1.0
            assert 0.0 <= shape.width <= 1.0
            assert 0.0 <= shape.rounding <= 1.0


def test_a_constant_is_silence() -> None:
    assert analyse(np.full(640, 12_000, dtype=np.int16), 16_000).level < -60
