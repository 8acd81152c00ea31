"""The mel spectrogram that Wav2Lip and the audio-visual encoder of SyncTalk were trained on, computed as sound comes.

16 kHz; pre-emphasis 0.97; Hann window of 800, hop 200, centred, mirrored at both ends; 80 triangular bands from 55 to
7,600 Hz on Slaney's scale with equal area (M. Slaney, Auditory Toolbox, 1998: linear up to 1 kHz, logarithmic above);
decibels less 20, from -100..0 to -4..4. K R Prajwal et al., "A Lip Sync Expert Is All You Need", 2020.
"""

from __future__ import annotations

from typing import Any

import numpy as np

RATE = 16_000
WINDOW, HOP, BANDS = 800, 200, 80
LOW, HIGH = 55.0, 7_600.0
PER_SECOND = RATE / HOP
STEP = 16
"""Spectra that a model sees for one frame of video: 200 ms."""
SILENCE = -4.0


def _to_mel(hertz: Any) -> Any:
    hertz = np.asarray(hertz, np.float64)
    above = 15 + np.log(np.maximum(hertz, 1000.0) / 1000.0) / (np.log(6.4) / 27)
    return np.where(hertz >= 1000.0, above, hertz * 3 / 200)


def _to_hertz(mel: Any) -> Any:
    return np.where(mel >= 15, 1000.0 * np.exp(np.log(6.4) / 27 * (mel - 15)), mel * 200 / 3)


def bands() -> Any:
    """(80, 401): how much each frequency of the spectrum counts in each band."""
    edges = _to_hertz(np.linspace(_to_mel(LOW), _to_mel(HIGH), BANDS + 2))
    frequencies = np.linspace(0, RATE / 2, WINDOW // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


_BANDS = bands()
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


def _spectra(signal: Any, count: int) -> Any:
    """(count, 80): of `signal`, pre-emphasised, the first window beginning at its start."""
    windows = np.lib.stride_tricks.as_strided(
        signal, (count, WINDOW), (signal.strides[0] * HOP, signal.strides[0]), writeable=False
    )
    mel = np.abs(np.fft.rfft(windows * _HANN, axis=1)).astype(np.float32) @ _BANDS.T
    decibels = 20 * np.log10(np.maximum(1e-5, mel)) - 20
    return np.clip(8 * (decibels + 100) / 100 - 4, -4, 4).astype(np.float32)


class StreamingMel:
    """The spectrogram of one utterance while it comes. `frames` is (n, 80), from the utterance's start."""

    def __init__(self) -> None:
        self.frames = np.zeros((0, BANDS), np.float32)
        self._signal = np.zeros(0, np.float32)  # pre-emphasised, from the next window's start
        self._last = 0.0
        self._begun = False
        self._finished = False

    def push(self, samples: Any) -> None:
        """`samples`: float32, mono, 16 kHz."""
        if not len(samples):
            return
        before = np.concatenate([[np.float32(self._last)], samples[:-1]])
        self._last = float(samples[-1])
        self._signal = np.concatenate([self._signal, samples - np.float32(0.97) * before]).astype(np.float32)
        self._work()

    def finish(self) -> None:
        """The utterance is complete: its end is mirrored."""
        half = WINDOW // 2
        if not self._begun:  # shorter than half a window
            self._signal = np.pad(self._signal, (0, half + 1 - min(len(self._signal), half + 1)))
            self._work()
        tail = self._signal[-half - 1 : -1][::-1]
        self._signal = np.concatenate([self._signal, tail]).astype(np.float32)
        self._work()

    def window(self, start: int) -> Any:
        """(80, 16): the spectra from `start` on; where there are fewer, the last 16, silence before the first."""
        start = min(start, len(self.frames) - STEP)
        part = self.frames[max(0, start) : max(0, start) + STEP] if start >= 0 else self.frames
        if len(part) < STEP:
            part = np.concatenate([np.full((STEP - len(part), BANDS), SILENCE, np.float32), part])
        return part.T

    def _work(self) -> None:
        half = WINDOW // 2
        if not self._begun:
            if len(self._signal) <= half:
                return
            self._signal = np.concatenate([self._signal[half:0:-1], self._signal])
            self._begun = True
        count = (len(self._signal) - WINDOW) // HOP + 1
        if count > 0:
            self.frames = np.concatenate([self.frames, _spectra(self._signal, count)])
            self._signal = np.ascontiguousarray(self._signal[count * HOP :])
