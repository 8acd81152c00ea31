"""Speech for tests: sentences that micro-whisper knows, spoken by espeak-ng, in files of every kind."""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

RATE = 16_000
SENTENCES = (
    "hello what is the time please",
    "i would like to book a table for two",
    "can you tell me the price of the video",
    "thank you and goodbye",
    "what is the weather today",
    "how much is the avatar please",
    "call me tomorrow morning",
    "please show me the video",
)


def say(text: str, folder: Path, *, voice: str = "en-us", rate: int = 150) -> NDArray[np.int16]:
    """`text` at 16 kHz."""
    path = folder / "said.wav"
    subprocess.run(["espeak-ng", "-v", voice, "-s", str(rate), "-w", str(path), text], check=True, timeout=30)
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
        spoken: NDArray[np.int16] = soxr.resample(samples, file.getframerate(), RATE)
    return spoken


def silence(seconds: float) -> NDArray[np.int16]:
    return np.zeros(int(seconds * RATE), dtype=np.int16)


def write_wav(path: Path, samples: NDArray[np.int16], *, rate: int = RATE, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(samples, channels).tobytes())
    return path


def convert(source: Path, target: Path, *options: str) -> Path:
    command = ["ffmpeg", "-y", "-loglevel", "error", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True, timeout=60)
    return target


def long_mp3(folder: Path, *, hours: float) -> Path:
    """Hours of silence: a minute of MP3, again and again. MP3 frames need no header, so that is one long file."""
    minute = convert(write_wav(folder / "minute.wav", silence(60)), folder / "minute.mp3", "-ar", "8000", "-b:a", "8k",
                     "-write_xing", "0", "-id3v2_version", "0")  # fmt: skip
    path = folder / "long.mp3"
    with path.open("wb") as file:
        for _ in range(int(hours * 60)):
            file.write(minute.read_bytes())
    return path
