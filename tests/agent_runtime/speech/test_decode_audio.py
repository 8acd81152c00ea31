"""Decoding in a child process: what it yields, and what becomes of the child."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from agent_runtime.speech import decode_audio as decoding
from agent_runtime.speech.decode_audio import AudioTooLong, Hole, UnreadableAudio, decode_audio
from molts.errors import Unavailable
from tests.agent_runtime.speech.voices import RATE, convert, silence, write_wav


def tone(seconds: float) -> NDArray[np.int16]:
    times = np.arange(int(seconds * RATE)) / RATE
    return (8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "decode_child" in " ".join(child.cmdline())]


async def decoded(path: Path, *, max_seconds: float = 60, stall_seconds: float = 30) -> list[NDArray[np.float32]]:
    chunks = [chunk async for chunk in decode_audio(path, max_seconds=max_seconds, stall_seconds=stall_seconds)]
    return [chunk for chunk in chunks if not isinstance(chunk, Hole)]


async def test_chunks_of_a_second_make_up_the_whole(tmp_path: Path) -> None:
    chunks = await decoded(write_wav(tmp_path / "tone.wav", tone(3.5)))

    assert [len(chunk) for chunk in chunks] == [RATE, RATE, RATE, RATE // 2]
    assert np.array_equal(np.concatenate(chunks), tone(3.5).astype(np.float32) / 32768)


async def test_any_rate_and_channels_become_16_khz_mono(tmp_path: Path) -> None:
    source = convert(write_wav(tmp_path / "a.wav", tone(2)), tmp_path / "b.flac", "-ar", "44100", "-ac", "2")

    samples = np.concatenate(await decoded(source))

    assert len(samples) == pytest.approx(2 * RATE, abs=50)
    spectrum = np.abs(np.fft.rfft(samples[:RATE]))
    assert spectrum.argmax() == 440
    assert np.abs(samples).max() == pytest.approx(8000 / 32768 / np.sqrt(2), rel=0.05)  # what ffmpeg left of it


async def test_the_limit_is_exact_enough(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "ten.wav", tone(10))

    assert sum(map(len, await decoded(path, max_seconds=10))) == 10 * RATE
    with pytest.raises(AudioTooLong, match="longer than 9 seconds"):
        await decoded(path, max_seconds=9)


async def test_a_file_cut_off_gives_what_is_there(tmp_path: Path) -> None:
    whole = convert(write_wav(tmp_path / "a.wav", tone(10)), tmp_path / "b.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(whole[: len(whole) // 2])

    samples = np.concatenate(await decoded(tmp_path / "cut.mp3"))

    assert len(samples) == pytest.approx(5 * RATE, rel=0.1)


async def test_who_stops_reading_ends_the_child(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "long.wav", silence(600))

    async with contextlib.aclosing(decode_audio(path, max_seconds=1000)) as chunks:
        await anext(chunks)
        await asyncio.sleep(0.5)  # until the pipe is full
        assert len(children()) == 1
        async with asyncio.timeout(5):
            await chunks.aclose()

    assert children() == []


CRASH = "import os, sys; sys.stdout.write('x' * 100); sys.stdout.flush(); os.kill(os.getpid(), 11)"
STALL = "import time; time.sleep(60)"


@pytest.mark.parametrize(("script", "error"), [(CRASH, UnreadableAudio), (STALL, Unavailable)])
async def test_a_child_that_crashes_or_stalls_is_an_error_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: type[Exception]
) -> None:
    child = tmp_path / "decode_child.py"
    child.write_text(script)
    monkeypatch.setattr(decoding, "_CHILD", child)

    with pytest.raises(error):
        await decoded(tmp_path / "any.wav", stall_seconds=1.5)

    assert children() == []


async def test_a_playlist_opens_nothing_else(tmp_path: Path) -> None:
    inner = write_wav(tmp_path / "inner.wav", tone(1))
    for name, text in [
        ("list.m3u8", f"#EXTM3U\n#EXTINF:1,\n{inner}\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", f"ffconcat version 1.0\nfile '{inner.name}'\n"),
        ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(UnreadableAudio):
            await decoded(tmp_path / name)
