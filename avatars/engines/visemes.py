"""Mouth shapes from sound alone: no text, any language, any voice.

How far the mouth opens follows loudness, on a scale that adapts to the speaker, and the first resonance of the voice:
high when the jaw is low ("ah"), low when it is nearly closed ("ee", "oo"), and alone when the lips are shut ("mm").
Whether the lips spread or round follows the second resonance, read from the levels of a few bands: front vowels ("ee")
leave a valley around 1 kHz and are strong above 1.7 kHz, back vowels ("oo") are the other way round, with the valley
around 1.5 kHz. Levels of bands are as telling as measured formants, and do not break where two formants merge.
(Formants of vowels: Peterson and Barney, "Control methods used in a study of the vowels", JASA 24, 1952.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avatars.engines.poses import Mouth

Samples = NDArray[np.int16]

CONTEXT = 0.012
"""Seconds of sound before and after a frame's own that its mouth looks at."""

SILENCE = -58.0
"""In decibels below full scale, as all levels here."""
USUAL, LOUDEST, QUIETEST = -20.0, -10.0, -45.0
"""Where the vowels of a speaker are taken to lie: at first, at most, at least."""
RANGE = 30.0
"""Decibels from a closed mouth to a wide open one."""
RISE, FALL = 0.5, 0.012
"""How fast the scale follows a louder and a quieter speaker, a frame."""
TALKING = 0.88
"""How far a mouth opens that talks: the rest is for shouting."""
ATTACK, RELEASE = 0.8, 0.25
"""How much of its way an opening mouth goes in a frame; what is left of an open one in the next frame, at least."""
EASE = 0.6
"""How much of their way to the next shape the lips go in a frame."""

BANDS = (150.0, 450.0, 800.0, 1200.0, 1700.0, 2600.0, 3600.0, 7800.0)
"""Edges in Hz, about where the formants of vowels part."""


@dataclass(frozen=True)
class Sound:
    """What a few hundredths of a second of sound say about the mouth. `level` in decibels; `jaw` 0 to 1; `lips` -1
    (round) to 1 (spread)."""

    level: float
    jaw: float = 0.0
    lips: float = 0.0


class Visemes:
    """The mouth of one speaker, a video frame at a time."""

    def __init__(self) -> None:
        self._vowels = USUAL  # the level of this speaker's vowels
        self._mouth = Mouth()

    @property
    def mouth(self) -> Mouth:
        """Of the last frame."""
        return self._mouth

    def close(self) -> Mouth:
        """No sound: the mouth closes at once, the lips come to rest."""
        self._mouth = self._eased(0.0, 0.0)
        return self._mouth

    def shape(self, samples: Samples, sample_rate: int) -> Mouth:
        """The mouth in the middle of `samples`: the sound of one frame, with CONTEXT on both sides where there is
        some."""
        sound = analyse(samples, sample_rate)
        if sound.level <= SILENCE:
            return self.close()
        step = sound.level - self._vowels
        self._vowels += step * (RISE if step > 0 else FALL)
        self._vowels = min(LOUDEST, max(QUIETEST, self._vowels))
        loudness = _clip(1.0 + (sound.level - self._vowels) / RANGE)
        openness, last = TALKING * loudness**1.5 * sound.jaw, self._mouth.openness
        openness = last + ATTACK * (openness - last) if openness > last else max(openness, RELEASE * last)
        self._mouth = self._eased(openness, sound.lips)
        return self._mouth

    def _eased(self, openness: float, lips: float) -> Mouth:
        width, rounding = 0.5 + (0.5 if lips > 0 else 0.35) * lips, max(0.0, -lips)
        last = self._mouth
        return Mouth(
            openness, last.width + EASE * (width - last.width), last.rounding + EASE * (rounding - last.rounding)
        )


def analyse(samples: Samples, sample_rate: int) -> Sound:
    """Loudness and spectral shape of a few hundredths of a second, at any rate from 8 kHz."""
    if len(samples) < 2 * len(BANDS):
        return Sound(-120.0)  # too short to be seen
    wave = samples * np.float32(1.0 / 32768.0)
    wave -= wave.mean()
    wave *= _window(len(wave))
    level = _decibels(float(wave @ wave) / len(wave) / 0.375)  # a Hann window leaves 0.375 of the power
    if level <= SILENCE:
        return Sound(level)
    size = 1 << (len(wave) - 1).bit_length()
    spectrum = np.fft.rfft(wave, size)
    power = spectrum.real**2 + spectrum.imag**2
    sums = np.add.reduceat(power, _edges(size, sample_rate))[:-1]
    first, low, middle, high, front, upper, hiss = (10.0 * np.log10(sums + 1e-9)).tolist()

    open_ = max(low, middle) - first
    spread = _clip((max(front, upper) - middle - 2.0) / 14.0)
    rounded = _clip((middle - high - 6.0) / 12.0) * (1.0 - spread)
    shut = _clip((first - max(low, middle, high, front, upper, hiss) - 13.0) / 6.0)
    jaw = (0.3 + 0.7 * _clip((open_ + 18.0) / 28.0)) * (1.0 - 0.25 * rounded) * (1.0 - shut)
    lips = (spread - rounded) * (1.0 - shut)
    voiceless = _clip((hiss - max(first, low, middle)) / 10.0)  # "s", "sh", "f": teeth nearly closed
    return Sound(level, jaw + voiceless * (0.2 - jaw), lips * (1.0 - 0.8 * voiceless))


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))


def _decibels(power: float) -> float:
    return 10.0 * math.log10(power + 1e-12)


@lru_cache(maxsize=64)
def _window(length: int) -> NDArray[np.float32]:
    return np.hanning(length + 2)[1:-1].astype(np.float32)


@lru_cache(maxsize=64)
def _edges(size: int, sample_rate: int) -> NDArray[np.intp]:
    """Indices of BANDS in a spectrum: each band has a value at least, also those above a low rate's highest."""
    indices = np.ceil(np.array(BANDS) * size / sample_rate).astype(np.intp)
    room = size // 2 + 1 - len(indices)  # what lies above the rate's highest frequency shares the topmost values
    for place in range(len(indices)):
        least = indices[place - 1] + 1 if place else 1
        indices[place] = min(max(indices[place], least), room + place)
    return indices
