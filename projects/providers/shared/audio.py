"""Audio as recognisers want it: 16 kHz mono, as a session hands it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from livekit.agents.utils import AudioBuffer
    from numpy.typing import NDArray

RECOGNISER_RATE = 16000
STEADY_DECIBELS = 4.0
SILENCE_PEAK = 10 ** (-55 / 20)  # quieter than any speech a microphone picks up


def mono_16k(buffer: AudioBuffer) -> NDArray[np.float32]:
    """Samples of `buffer` (frames of any rate and channel count) as float32 in [-1, 1], 16 kHz, mono, shape (n,).

    The whole utterance is resampled in one piece: piecewise resampling would ring at every seam.
    """
    import soxr
    from livekit import rtc

    frame = rtc.combine_audio_frames(buffer)
    samples = np.frombuffer(frame.data, dtype=np.int16).astype(np.float32) / 32768.0
    if frame.num_channels > 1:
        samples = samples.reshape(-1, frame.num_channels).mean(axis=1)
    if frame.sample_rate != RECOGNISER_RATE and samples.size:
        samples = soxr.resample(samples, frame.sample_rate, RECOGNISER_RATE, quality="HQ")
    return np.ascontiguousarray(samples, dtype=np.float32)


def pcm16(samples: NDArray[np.float32]) -> bytes:
    """Samples in [-1, 1] as PCM16 bytes."""
    return (np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()


def is_silent(samples: NDArray[np.float32]) -> bool:
    """Whether nothing in it can be speech; recognisers invent words on silence, so they are not asked."""
    return not samples.size or float(np.abs(samples).max()) < SILENCE_PEAK


def is_steady(samples: NDArray[np.float32]) -> bool:
    """Whether loudness hardly changes (noise, a tone); in speech it rises and falls by far more, even in noise."""
    frame = RECOGNISER_RATE // 25
    count = samples.size // frame
    if count < 5:
        return False
    energy = np.square(samples[: count * frame]).reshape(count, frame).mean(axis=1) + 1e-12
    low, high = np.percentile(10 * np.log10(energy), [10, 90])
    return bool(high - low < STEADY_DECIBELS)
