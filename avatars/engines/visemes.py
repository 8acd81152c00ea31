"""Mouth shapes from sound alone: no text, any language, any voice.

How far the mouth opens follows loudness, on a scale that adapts to the speaker, and the first resonance of the voice
(low for "ee", "oo" and nasals, high for "ah"); whether the lips spread or round follows where the spectrum's weight lies
between the resonances of back vowels ("oo") and front vowels ("ee").
"""

from __future__ import annotations

from functools import lru_cache
from math import log2

import numpy as np
from numpy.typing import NDArray

from avatars.engines.poses import Mouth

Samples = NDArray[np.int16]

CONTEXT = 0.012
"""Seconds of sound before and after a frame's own that its mouth looks at."""

# Loudness, in decibels below full scale.
LOUDEST, QUIETEST = -10.0, -42.0  # a voice's vowels are taken to lie between these
SILENCE = -58.0
RANGE = 30.0
"""Decibels from a closed mouth to a wide open one."""
RISE, FALL = 0.5, 0.012
"""How fast the scale follows a louder and a quieter speaker, a frame."""


class Visemes:
    """The mouth of one speaker, a video frame at a time."""

    def __init__(self) -> None:
        self._top = -20.0  # the loudness of this speaker's vowels
        self._mouth = Mouth()

    @property
    def mouth(self) -> Mouth:
        """Of the last frame."""
        return self._mouth

    def close(self) -> Mouth:
        """No sound: the mouth closes, the lips come to rest."""
        last = self._mouth
        self._mouth = Mouth(0.0, 0.5 + (last.width - 0.5) * 0.4, last.rounding * 0.4)
        return self._mouth

    def shape(self, samples: Samples, sample_rate: int) -> Mouth:
        """The mouth in the middle of `samples`: the sound of one frame, with CONTEXT on both sides where there is some."""
        sound = analyse(samples, sample_rate)
        if sound.level <= SILENCE:
            return self.close()
        step = (sound.level - self._top) * (RISE if sound.level > self._top else FALL)
        self._top = min(LOUDEST, max(QUIETEST, self._top + step))
        loudness = min(1.0, max(0.0, 1.0 + (sound.level - self._top) / RANGE))
        openness = loudness**1.5 * (0.35 + 0.65 * sound.jaw)
        last = self._mouth
        openness = max(openness, 0.35 * last.openness) if openness < last.openness else openness
        width = 0.5 + 0.5 * max(0.0, sound.lips)
        rounding = max(0.0, -sound.lips)
        ease = 0.6
        self._mouth = Mouth(
            openness, last.width + ease * (width - last.width), last.rounding + ease * (rounding - last.rounding)
        )
        return self._mouth


class Sound:
    """What a piece of sound says about the mouth: `level` in decibels, `jaw` 0 to 1, `lips` -1 (round) to 1 (spread)."""

    __slots__ = ("jaw", "level", "lips")

    def __init__(self, level: float, jaw: float, lips: float) -> None:
        self.level, self.jaw, self.lips = level, jaw, lips


@lru_cache(maxsize=32)
def _window(length: int) -> NDArray[np.float32]:
    return np.hanning(length + 2)[1:-1].astype(np.float32)


@lru_cache(maxsize=32)
def _bands(size: int, sample_rate: int) -> tuple[NDArray[np.float32], slice]:
    frequencies = np.fft.rfftfreq(size, 1.0 / sample_rate)
    low, high = np.searchsorted(frequencies, (180.0, 3600.0))
    return frequencies.astype(np.float32), slice(int(low), int(high))


def analyse(samples: Samples, sample_rate: int) -> Sound:
    """Loudness and spectral shape of a few hundredths of a second."""
    if not len(samples):
        return Sound(-120.0, 0.0, 0.0)
    wave = samples.astype(np.float32) * (1.0 / 32768.0)
    wave -= wave.mean()
    wave *= _window(len(wave))
    level = 10.0 * np.log10(float(wave @ wave) / len(wave) * 2.67 + 1e-12)
    if level <= SILENCE:
        return Sound(level, 0.0, 0.0)
    size = 1 << (len(wave) - 1).bit_length()
    frequencies, band = _bands(size, sample_rate)
    amplitude = np.abs(np.fft.rfft(wave, size))[band] + 1e-9
    hertz = frequencies[band]
    low = float(amplitude[hertz < 480].max())
    middle = float(amplitude[(hertz >= 550) & (hertz < 1100)].max())
    jaw = min(1.0, max(0.0, (20.0 * np.log10(middle / low) + 14.0) / 16.0))
    weight = amplitude * hertz * (hertz > 500)
    centre = float(weight @ hertz) / float(weight.sum())
    lips = min(1.0, max(-1.0, log2(centre / 1500.0) / log2(1.5)))
    return Sound(level, jaw, lips)
