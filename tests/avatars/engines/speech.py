"""Speech for tests of faces, spoken by espeak-ng, and what is measured on it."""

from __future__ import annotations

import subprocess
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from avatars.engines.poses import Mouth
from avatars.engines.visemes import CONTEXT, Visemes

Samples = NDArray[np.int16]
Series = NDArray[np.float64]

RATE = 22_050  # of espeak-ng
FPS = 25.0
TEXT = (
    "Hello and welcome. My name is Mira, and I am happy to help you with your order today. Please tell me the number, "
    "or show me a picture of it. Would you like to book a table for two?"
)
VOICES = ("en-us", "en-us+f3", "en-gb+m3", "en-us+klatt2", "de+f2")


@cache
def say(text: str, voice: str = "en-us", *, words_a_minute: int = 160) -> Samples:
    """`text` at RATE; phonemes in [[brackets]]."""
    command = ["espeak-ng", "-v", voice, "-s", str(words_a_minute), "--stdout", text]
    wav = subprocess.run(command, check=True, capture_output=True, timeout=30).stdout[44:]
    return np.frombuffer(wav[: len(wav) // 2 * 2], dtype=np.int16)


def mouths(samples: Samples, rate: int = RATE, fps: float = FPS) -> list[Mouth]:
    """The mouth of each frame, as a stream shows them."""
    visemes, context = Visemes(), round(CONTEXT * rate)
    edges = [round(frame * rate / fps) for frame in range(int(np.ceil(len(samples) / rate * fps)) + 1)]
    return [visemes.shape(samples[max(0, start - context) : end + context], rate) for start, end in pairwise(edges)]


def openness(shapes: list[Mouth]) -> Series:
    return np.array([shape.openness for shape in shapes])


def envelope(samples: Samples, rate: int = RATE, fps: float = FPS) -> Series:
    """Root mean square of each frame's time."""
    wave = samples.astype(np.float64) / 32768.0
    edges = [round(frame * rate / fps) for frame in range(int(np.ceil(len(samples) / rate * fps)) + 1)]
    return np.array([np.sqrt(np.mean(wave[a:b] ** 2) + 1e-12) for a, b in pairwise(edges)])


def best_lag(one: Series, other: Series, *, most: int = 6) -> tuple[float, int]:
    """The highest correlation over shifts of a few frames, and that shift: positive when `one` is late."""

    def correlation(lag: int) -> float:
        a, b = (one[lag:], other[: len(other) - lag]) if lag >= 0 else (one[:lag], other[-lag:])
        return float(np.corrcoef(a, b)[0, 1])

    return max((correlation(lag), lag) for lag in range(-most, most + 1))
