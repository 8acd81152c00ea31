"""Words to sound and back, with the small recogniser that the tests bring along."""

from __future__ import annotations

import ctypes
import re
import wave
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import soxr
from numpy.typing import NDArray

from tests.e2e.stack import MICRO_WHISPER
from tests.visitor import RATE, read_wav, synthesize, trim_silence

LISTEN_RATE = 16_000
PAUSE_SECONDS = 0.35  # silence between two utterances
LOUD = 500
MOST_SECONDS = 9.5  # what the recogniser can hear at once

Samples = NDArray[np.int16]


@dataclass(frozen=True)
class Spoken:
    """A sentence at 48 kHz without quiet ends, and when each of its words ends, in seconds from the first sample."""

    samples: Samples
    words: tuple[tuple[str, float], ...]


def microphone(path: Path, *timed: tuple[float, str | Spoken]) -> Path:
    """A WAV for Chromium's fake microphone: each (seconds after it opens, sentence), and silence elsewhere."""
    track = np.zeros(0, dtype=np.int16)
    for at, said in timed:
        spoken = said.samples if isinstance(said, Spoken) else _synthesized(said, path)
        start = int(at * RATE)
        assert start >= len(track), f"{said!r} would begin before the sentence before it has ended"
        track = np.concatenate([track, np.zeros(start - len(track), dtype=np.int16), spoken])
    track = np.concatenate([track, np.zeros(RATE, dtype=np.int16)])
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(track.tobytes())
    return path


def _synthesized(text: str, path: Path) -> Samples:
    return trim_silence(read_wav(synthesize(text, path.with_suffix(".part.wav"))))


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


def speak_with_times(text: str) -> Spoken:
    """As `synthesize` speaks it, by espeak-ng's library, which tells where in the sound each word begins."""
    starts, chunks = dict[int, float](), list[bytes]()

    def take(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, count * 2))
        index = 0
        while events[index].type != 0:
            if events[index].type == _WORD:
                starts[events[index].text_position - 1] = events[index].audio_position / 1000
            index += 1
        return 0

    library = ctypes.CDLL("libespeak-ng.so.1")
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, None, 0)
    callback = _CALLBACK(take)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(b"en-us")
    library.espeak_SetParameter(_RATE_PARAMETER, 150, 0)
    sentence = text.encode() + b"\0"
    library.espeak_Synth(sentence, len(sentence), 0, 1, 0, 1, None, None)
    library.espeak_Synchronize()
    raw = np.frombuffer(b"".join(chunks), dtype=np.int16)
    loud = np.flatnonzero(np.abs(raw.astype(np.int32)) > LOUD)
    first, last = loud[0] / rate, loud[-1] / rate
    words = [(match.group(), match.start()) for match in re.finditer(r"\S+", text)]
    begins = [starts[place] - first if place in starts else np.nan for _, place in words]  # "of a" is one for espeak-ng
    known = np.flatnonzero(~np.isnan(begins))
    ends = np.interp(np.arange(1, len(words) + 1), [*known, len(words)], [*np.array(begins)[known], last - first])
    timed = tuple((word, float(end)) for (word, _), end in zip(words, ends, strict=True))
    return Spoken(soxr.resample(raw[loud[0] : loud[-1] + 1], rate, RATE), timed)


class _Event(ctypes.Structure):
    """What espeak-ng tells about a place in the sound (espeak_EVENT of speak_lib.h)."""

    _fields_: ClassVar = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_SYNCHRONOUS, _WORD, _RATE_PARAMETER = 2, 1, 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
