"""The words of streams: as good as those of whole files? How often corrected? And what never reaches Whisper.

Everything is spoken in real time into the component that conversations use (detector, link, `manage.py run_speech`), on
the tests' small model. See README.md in this folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from pytest_django import Settings

from agent_runtime.speech.measure import edit_distance, words_of
from tests.agent_runtime.speech.speaker import Clip, make_clips, speaking
from tests.agent_runtime.speech.voices import RATE, silence, write_wav
from tests.agent_runtime.stack import MICRO_WHISPER, ROOT, end, speech_state, wait_for

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

CLIPS = int(os.environ.get("MOLTS_BENCH_CLIPS", "240"))
STREAMS = 6
MOST_WORSE, MOST_REVISED = 0.005, 0.015
CONVERSATION_SECONDS = float(os.environ.get("MOLTS_BENCH_CONVERSATION_SECONDS", "180"))
SPEECH_SHARE, SHORTEST_SECONDS = 0.3, 2.0
ROOM = 60.0
"""RMS of the noise of a quiet room, 55 dB below full scale."""


@dataclass(frozen=True)
class Server:
    path: Path

    @property
    def state(self) -> dict[str, Any]:
        return speech_state(f"unix://{self.path}")


@pytest.fixture
def server(tmp_path: Path, settings: Settings) -> Iterator[Server]:
    """As `up` starts it."""
    path = tmp_path / "s.sock"
    settings.MOLTS_SPEECH_URL, settings.MOLTS_WHISPER_MODEL = f"unix://{path}", str(MICRO_WHISPER)
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "molts.settings",
        "MOLTS_DATA_DIR": str(tmp_path),
        "MOLTS_SPEECH_LISTEN": f"unix://{path}",
        "MOLTS_WHISPER_MODEL": str(MICRO_WHISPER),
        "MOLTS_WHISPER_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen([sys.executable, "manage.py", "run_speech"], cwd=ROOT, env=environment)
    try:
        wait_for("the speech server", lambda: Server(path).state.get("ready"), seconds=60)
        yield Server(path)
    finally:
        end(process)


async def test_words_of_streams_against_those_of_whole_files(server: Server, tmp_path: Path) -> None:
    clips = make_clips(CLIPS, tmp_path)
    streamed: dict[Clip, str] = {}

    async def converse(mine: list[Clip]) -> None:
        async with speaking() as speaker:
            for clip in mine:
                streamed[clip] = await speaker.say(clip)

    await asyncio.gather(*(converse(clips[first::STREAMS]) for first in range(STREAMS)))
    state = server.state
    rates = {
        "streamed finals": _word_error_rate(streamed),
        "whole file, faster-whisper": _word_error_rate(_whole_files(clips)),
        "whole file, /v1/audio/transcriptions": _word_error_rate(await _uploaded(server.path, clips, tmp_path)),
    }
    revised = state["revised_words"] / state["agreed_words"]
    print(f"\n{CLIPS} clips, {sum(len(words_of(clip.said)) for clip in clips)} words, {STREAMS} streams at once")
    for name, rate in rates.items():
        print(f"{name:38} {rate:6.2%} words wrong")
    print(
        f"{'agreed words that a final corrected':38} {revised:6.2%} ({state['revised_words']}/{state['agreed_words']})"
    )
    assert rates["streamed finals"] <= rates["whole file, faster-whisper"] + MOST_WORSE
    assert revised <= MOST_REVISED


async def test_share_of_a_conversation_that_whisper_never_hears(server: Server, tmp_path: Path) -> None:
    """A visitor who speaks 30 % of the time: a question, then silence while it is answered; in a quiet room."""
    clips = [clip for clip in make_clips(120, tmp_path, seed=2) if clip.seconds >= SHORTEST_SECONDS]
    chance = np.random.default_rng(2)
    spoken = total = 0.0
    async with speaking(room=ROOM) as speaker:
        for clip in clips:
            spoken += clip.seconds
            rest = clip.seconds * (1 / SPEECH_SHARE - 1) * chance.uniform(0.6, 1.4)
            await speaker.send(clip.samples)
            await speaker.send(silence(rest))
            total += clip.seconds + rest
            if total >= CONVERSATION_SECONDS:
                break
        await speaker.say(clips[-1])  # a silence is counted when the next utterance begins
    state = server.state
    print(
        f"\n{total:.0f} s of conversation, {spoken / total:.0%} of it voice: {state['silence_share']:.1%} never reached"
        f" Whisper ({state['utterances']} utterances, {state['speech_seconds']:.0f} s with what surrounds the voice)"
    )
    assert state["silence_share"] is not None


def _whole_files(clips: list[Clip]) -> dict[Clip, str]:
    """As a program does with faster-whisper alone: all thirty seconds, the usual settings of a careful caller."""
    from faster_whisper import WhisperModel

    logging.getLogger("faster_whisper").setLevel(logging.WARNING)
    model = WhisperModel(str(MICRO_WHISPER), device="cpu", compute_type="auto", cpu_threads=1)
    heard = {}
    for clip in clips:
        sound = np.concatenate([silence(0.3), clip.samples, silence(0.3)]).astype(np.float32) / 32768
        segments, _ = model.transcribe(
            sound, language="en", beam_size=1, temperature=0.0, condition_on_previous_text=False
        )
        heard[clip] = " ".join(segment.text for segment in segments)
    return heard


async def _uploaded(path: Path, clips: list[Clip], folder: Path) -> dict[Clip, str]:
    heard = {}
    transport = httpx2.AsyncHTTPTransport(uds=str(path))
    async with httpx2.AsyncClient(transport=transport, base_url="http://speech", timeout=60) as http:
        for clip in clips:
            wav = write_wav(folder / "clip.wav", np.concatenate([silence(0.3), clip.samples, silence(0.3)]), rate=RATE)
            answer = await http.post(
                "/v1/audio/transcriptions",
                files={"file": ("clip.wav", wav.read_bytes(), "audio/wav")},
                data={"model": "whisper-1", "language": "en"},
            )
            heard[clip] = answer.raise_for_status().json()["text"]
    return heard


def _word_error_rate(heard: dict[Clip, str]) -> float:
    errors = sum(edit_distance(words_of(clip.said), words_of(text)) for clip, text in heard.items())
    return errors / sum(len(words_of(clip.said)) for clip in heard)
