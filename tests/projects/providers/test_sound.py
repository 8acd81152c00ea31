from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from projects.providers.shared.sound import (
    RAW_SAMPLES,
    UnusableSound,
    choose_form,
    hear,
    is_noise,
    recognise,
)
from projects.providers.shared.sound_reader import SoundReader
from tests.projects.providers.conftest import Speak
from tests.projects.providers.sounds import NOT_SOUND, SOUNDS, TONE, WAV_HEADER, encoded, pcm, riff, tone

RATE = 24000


def pitch_of(samples: bytes, rate: int = RATE) -> float:
    middle = np.frombuffer(samples, dtype="<i2")[rate // 10 : -rate // 10].astype(float)
    return float(np.abs(np.fft.rfft(middle)).argmax() * rate / middle.size)


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("asked", ["mp3", "pcm"])
def test_every_form_is_heard_whatever_was_asked_for(name: str, asked: str) -> None:
    heard = hear(SOUNDS[name](), asked=asked, content_type="application/octet-stream", rate=RATE)
    assert heard.seconds == pytest.approx(1.0, abs=0.12)
    assert pitch_of(heard.pcm) == pytest.approx(TONE, abs=5)
    assert heard.peak == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize("name", NOT_SOUND)
@pytest.mark.parametrize("asked", ["wav", "pcm"])
def test_what_is_no_speech_is_refused_by_name(name: str, asked: str) -> None:
    sound, reason = NOT_SOUND[name]
    with pytest.raises(UnusableSound, match=reason):
        hear(sound, asked=asked, content_type="audio/mpeg", rate=RATE)


@pytest.mark.parametrize(
    ("content_type", "rate"),
    [("audio/pcm", 24000), ("audio/L16; rate=16000", 16000), ('audio/pcm;rate="48000";channels=1', 48000)],
)
def test_samples_are_taken_at_the_rate_that_the_server_names(content_type: str, rate: int) -> None:
    heard = hear(pcm(rate), asked="wav", content_type=content_type, rate=RATE)
    assert heard.seconds == pytest.approx(1.0, abs=0.02)
    assert pitch_of(heard.pcm) == pytest.approx(TONE, abs=5)


def test_files_joined_to_one_are_heard_whole() -> None:
    joined = encoded("mp3", "libmp3lame", rate=44100) + encoded("mp3", "libmp3lame", rate=48000, layout="stereo")
    assert hear(joined, asked="mp3", content_type="", rate=RATE).seconds == pytest.approx(2.0, abs=0.25)


@pytest.mark.parametrize("first", [b"\xff\xfb\x10\x00", b"\xff\xf1\x50\x80", b"\xff\xff\x00\x00", b"\x00\x00"])
def test_samples_that_begin_like_a_frame_are_still_samples(first: bytes) -> None:
    head = first + pcm()[:4000]
    assert recognise(head[:2048]) is None
    assert choose_form(head[:2048], asked="pcm", content_type="", rate=RATE) is RAW_SAMPLES


async def test_speech_is_never_taken_for_noise(speak: Speak) -> None:
    frame = await speak("Six thick thistle sticks; she sells sea shells, hush! Ssss. Shhh. Fff.")
    samples = np.frombuffer(frame.data, dtype="<i2").astype(float) / 32768
    loud = np.clip(samples / np.abs(samples).max() * 4, -1, 1)  # far overdriven
    for start in range(0, loud.size, 1024):
        assert not is_noise(loud[start : start + 1024])
    assert not is_noise(np.zeros(1024))
    assert not is_noise(tone(RATE)[:1024])


class Ear:
    """In place of LiveKit's emitter."""

    def __init__(self) -> None:
        self.pcm = b""
        self.heard = asyncio.Event()

    def push(self, pcm: bytes) -> None:
        self.pcm += pcm
        self.heard.set()


STREAMED = {
    "WAV": ("wav", "pcm_s16le", 24000),
    "WAV of floats": ("wav", "pcm_f32le", 24000),
    "MP3": ("mp3", "libmp3lame", 24000),
    "Opus in OGG": ("ogg", "libopus", 48000),
    "FLAC": ("flac", "flac", 24000),
    "AAC": ("adts", "aac", 24000),
    "WebM": ("webm", "libopus", 48000),
}


@pytest.mark.parametrize("name", STREAMED)
async def test_the_first_sound_comes_long_before_the_last_byte(name: str) -> None:
    container, codec, rate = STREAMED[name]
    sound = encoded(container, codec, rate=rate, seconds=6.0)
    ear: Any = Ear()
    reader = SoundReader(ear, asked="pcm", content_type="", rate=RATE)
    try:
        for start in range(0, len(sound) // 2, 500):
            reader.push(sound[start : start + 500])
        await asyncio.wait_for(ear.heard.wait(), 20)
        reader.push(sound[start + 500 :])
        await reader.finish()
    finally:
        reader.close()
    assert len(ear.pcm) / 2 / RATE == pytest.approx(6.0, abs=0.1)
    assert pitch_of(ear.pcm) == pytest.approx(TONE, abs=5)


@pytest.mark.parametrize("pieces", [1, 7, 100])
@pytest.mark.parametrize("name", ["WAV of 24 bits", "MP4", "MP3 with ID3", "AAC"])
async def test_it_does_not_matter_in_which_pieces_a_sound_comes(name: str, pieces: int) -> None:
    sound = SOUNDS[name]()
    ear: Any = Ear()
    reader = SoundReader(ear, asked="pcm", content_type="", rate=RATE)
    step = -(-len(sound) // pieces)
    try:
        for start in range(0, len(sound), step):
            reader.push(sound[start : start + step])
        await reader.finish()
    finally:
        reader.close()
    at_once = hear(sound, asked="pcm", content_type="", rate=RATE).pcm
    assert ear.pcm[:46000] == at_once[:46000]
    assert len(ear.pcm) == pytest.approx(len(at_once), abs=2000)  # of an MP3's end more is known when its size is


async def test_what_stands_behind_the_samples_of_a_file_is_not_played() -> None:
    sound = riff(WAV_HEADER, pcm()) + b"LIST" + bytes([255, 127] * 5000)
    assert hear(sound, asked="wav", content_type="", rate=RATE).pcm == pcm()
    ear: Any = Ear()
    reader = SoundReader(ear, asked="wav", content_type="", rate=RATE)
    reader.push(sound)
    await reader.finish()
    reader.close()
    assert ear.pcm == pcm()


async def test_a_reader_that_is_closed_leaves_no_thread() -> None:
    reader = SoundReader(Ear(), asked="mp3", content_type="", rate=RATE)  # type: ignore[arg-type]
    reader.push(encoded("mp3", "libmp3lame")[:4000])
    decoder = next(thread for thread in threading.enumerate() if thread.name == "sound-decoder")
    reader.close()
    await asyncio.to_thread(decoder.join, 20)
    assert not decoder.is_alive()
