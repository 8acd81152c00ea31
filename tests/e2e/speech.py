"""Words to sound and back, with the small recogniser that the tests bring along."""

from __future__ import annotations

import wave
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.e2e.stack import MICRO_WHISPER
from tests.visitor import RATE, read_wav, synthesize, trim_silence

LISTEN_RATE = 16_000
PAUSE_SECONDS = 0.35  # silence between two utterances
LOUD = 500
MOST_SECONDS = 9.5  # what the recogniser can hear at once

Samples = NDArray[np.int16]


def microphone(path: Path, *timed: tuple[float, str]) -> Path:
    """A WAV for Chromium's fake microphone: each (seconds after it opens, sentence), and silence elsewhere."""
    track = np.zeros(0, dtype=np.int16)
    for at, text in timed:
        spoken = trim_silence(read_wav(synthesize(text, path.with_suffix(".part.wav"))))
        start = int(at * RATE)
        assert start >= len(track), f"{text!r} would begin before the sentence before it has ended"
        track = np.concatenate([track, np.zeros(start - len(track), dtype=np.int16), spoken])
    track = np.concatenate([track, np.zeros(RATE, dtype=np.int16)])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(track.tobytes())
    return path


def recognise(samples: Samples) -> str:
    """What is said in 16 kHz mono `samples`, as lower-case words."""
    said = []
    for utterance in utterances(samples):
        audio = np.pad(utterance, LISTEN_RATE // 4).astype(np.float32) / 32768
        segments, _ = _recogniser().transcribe(audio, language="en", beam_size=1, without_timestamps=True)
        said += [segment.text.strip() for segment in segments]
    return " ".join(said)


def utterances(samples: Samples) -> list[Samples]:
    """The parts of `samples` in which somebody speaks, cut at pauses."""
    frame = LISTEN_RATE // 100
    usable = samples[: len(samples) // frame * frame].reshape(-1, frame).astype(np.int32)
    loud = np.flatnonzero(np.abs(usable).max(axis=1, initial=0) > LOUD)
    found: list[Samples] = []
    if not loud.size:
        return found
    gaps = np.flatnonzero(np.diff(loud) > PAUSE_SECONDS * 100)
    for first, last in zip([loud[0], *loud[gaps + 1]], [*loud[gaps], loud[-1]], strict=True):
        part = samples[first * frame : (last + 1) * frame]
        found += [
            part[at : at + int(MOST_SECONDS * LISTEN_RATE)]
            for at in range(0, len(part), int(MOST_SECONDS * LISTEN_RATE))
        ]
    return found


@lru_cache(maxsize=1)
def _recogniser() -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(str(MICRO_WHISPER), device="cpu", compute_type="float32", cpu_threads=1)
