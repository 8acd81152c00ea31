"""Long proofs of the speech server: killed in mid-utterance again and again, and thousands of utterances."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from livekit import rtc
from livekit.agents import inference, stt
from livekit.agents.stt import SpeechEventType
from numpy.typing import NDArray
from pytest_django import Settings

from agent_runtime.speech.engine import Engine, Task, Window
from projects.providers.base import KeyedRung, Kind, Persona
from projects.providers.chains import build_chain
from projects.providers.faster_whisper.protocol import End, UtteranceStart
from tests.agent_runtime.speech.live_server import STEP, Talker, talking, until
from tests.agent_runtime.speech.voices import SENTENCES, say, silence
from tests.agent_runtime.stack import MICRO_WHISPER, ROOT, end, speech_state, wait_for

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("MOLTS_SOAK_KILLS", "20"))
UTTERANCES = int(os.environ.get("MOLTS_SOAK_UTTERANCES", "2000"))
CLIPS = int(os.environ.get("MOLTS_SOAK_CLIPS", "100"))
RESTART_SECONDS = 0.5  # what `up` waits before it starts a part again
HEARD_WITHIN = 5.0
GROWTH = 0.03
RATE = 16_000


class Server:
    """`run_speech`, and whoever starts it again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "s.sock"
        self.url = f"unix://{self.path}"
        self._env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "molts.settings",
            "MOLTS_DATA_DIR": str(folder),
            "MOLTS_SPEECH_LISTEN": self.url,
            "MOLTS_WHISPER_MODEL": str(MICRO_WHISPER),
            "MOLTS_WHISPER_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
        }
        self.start()
        wait_for("the speech server", lambda: speech_state(self.url).get("ready"), seconds=60)

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "manage.py", "run_speech"], cwd=ROOT, env=self._env)

    async def kill_and_restart(self) -> None:
        self.process.kill()
        self.process.wait()
        await asyncio.sleep(RESTART_SECONDS)
        self.start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    end(server.process)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, NDArray[np.int16]]]:
    folder = tmp_path_factory.mktemp("said")
    voices = [(text, rate) for rate in (135, 150, 165) for text in SENTENCES]
    return [(text, np.concatenate([silence(0.5), say(text, folder, rate=rate)])) for text, rate in voices]


async def test_killed_in_mid_utterance_the_words_still_come(
    server: Server, sounds: list[tuple[str, NDArray[np.int16]]], settings: Settings
) -> None:
    """The utterance that was cut and the one after it, by the component that conversations use."""
    settings.MOLTS_SPEECH_URL, settings.MOLTS_WHISPER_MODEL = server.url, str(MICRO_WHISPER)
    detector = inference.VAD(min_silence_duration=0.25)
    chain = build_chain(
        Kind.STT, [KeyedRung("faster_whisper"), KeyedRung("pocketsphinx")], Persona(language="en"), vad=detector
    )
    stream, finals, waits = chain.component.stream(), list[str](), list[float]()
    reader = asyncio.create_task(_read(stream, finals))
    text, sound = sounds[1]
    try:
        for _ in range(KILLS):
            for killed in (True, False):
                before = len(finals)
                killing = asyncio.create_task(_later(1.5, server.kill_and_restart())) if killed else None
                await _speak(stream, sound)
                over = time.monotonic()
                await until(lambda before=before: len(finals) > before, seconds=30)  # type: ignore[misc]
                waits.append(time.monotonic() - over)
                if killing is not None:
                    await killing
        print(f"{KILLS} kills: worst wait for words {max(waits):.1f} s; fell back: {chain.fell_back}")
        assert finals == [text] * (2 * KILLS)
        assert max(waits) <= HEARD_WITHIN
    finally:
        reader.cancel()
        await stream.aclose()
        await chain.aclose()


async def test_memory_after_thousands_of_utterances(
    server: Server, sounds: list[tuple[str, NDArray[np.int16]]]
) -> None:
    process = psutil.Process(server.process.pid)
    async with talking(server.path) as talker:
        await talker.hear()
        await _many(talker, sounds, UTTERANCES // 10)  # buffers and arenas find their size
        before = process.memory_info().rss
        await _many(talker, sounds, UTTERANCES)
    grown = process.memory_info().rss / before - 1
    print(f"{UTTERANCES} utterances: {before / 1e6:.0f} MB grew by {grown:.1%}")
    assert grown < GROWTH


async def test_four_at_once_give_the_same_text_as_one_after_another(
    server: Server, sounds: list[tuple[str, NDArray[np.int16]]]
) -> None:
    clips = [sounds[n % len(sounds)][1] for n in range(CLIPS)]
    heard: dict[int, str] = {}

    async def one(numbers: range) -> None:
        async with talking(server.path) as talker:
            await talker.hear()
            for number in numbers:
                heard[number] = await _utter(talker, clips[number], number)

    await asyncio.gather(*(one(range(first, CLIPS, 4)) for first in range(4)))
    together = dict(heard)
    heard.clear()
    await one(range(CLIPS))
    assert together == heard
    assert all(heard.values())


async def test_a_minute_of_anything_but_speech_gives_no_words() -> None:
    """What the voice detector would have to let through first, ten seconds at a time."""
    engine = Engine(device="cpu", compute_type="int8", threads=1)
    model = await engine.load(str(MICRO_WHISPER))
    seconds = np.arange(60 * RATE) / RATE
    for name, sound in _noises(seconds).items():
        pieces = sound.astype(np.float32).reshape(6, -1)
        texts = [
            model.decode([Task(piece, Window(floor), language="en")])[0].text for piece in pieces for floor in (10, 15)
        ]
        print(f"{name}: {sum(map(len, (text.split() for text in texts)))} words")
        assert not any(texts), name


def _noises(seconds: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(5)
    white = rng.normal(0, 1, seconds.size)
    fan = np.convolve(white, np.ones(40) / 40, "same") * 0.3 + 0.05 * np.sin(2 * np.pi * 120 * seconds)
    notes = 220 * 2 ** (rng.integers(0, 24, 240) / 12)
    pitch = np.repeat(notes, seconds.size // 240)[: seconds.size]
    beat = np.exp(-6 * (seconds % 0.25))
    music = 0.2 * beat * sum(np.sin(2 * np.pi * np.cumsum(pitch * part) / RATE) / part for part in (1, 2, 3))
    low, high = rng.choice([697, 770, 852, 941], 300), rng.choice([1209, 1336, 1477], 300)
    tones = [np.sin(2 * np.pi * np.repeat(row, seconds.size // 300) * seconds) for row in (low, high)]
    return {"silence": seconds * 0, "fan": fan, "music": music, "dtmf": 0.2 * sum(tones) * (seconds % 0.2 < 0.1)}


async def _many(talker: Talker, sounds: list[tuple[str, NDArray[np.int16]]], count: int) -> None:
    for number in range(count):
        assert await _utter(talker, sounds[number % len(sounds)][1], number)


async def _utter(talker: Talker, sound: NDArray[np.int16], number: int) -> str:
    await talker.say(UtteranceStart(utterance=number))
    for begin in range(0, len(sound), 8 * STEP):
        await talker.say(sound[begin : begin + 8 * STEP].tobytes())
    await talker.say(End(utterance=number))
    return (await talker.until_final())[1].text


async def _speak(stream: stt.RecognizeStream, sound: NDArray[np.int16]) -> None:
    """In real time, with the silence that ends it."""
    samples, size = np.concatenate([sound, silence(0.6)]), RATE // 20
    for begin in range(0, len(samples) - size, size):
        stream.push_frame(rtc.AudioFrame(samples[begin : begin + size].tobytes(), RATE, 1, size))
        await asyncio.sleep(0.05)


async def _read(stream: stt.RecognizeStream, finals: list[str]) -> None:
    async for event in stream:
        if event.type is SpeechEventType.FINAL_TRANSCRIPT:
            finals.append(event.alternatives[0].text)


async def _later(seconds: float, what: object) -> None:
    await asyncio.sleep(seconds)
    await what  # type: ignore[misc]
