"""molts' speech server against WhisperLiveKit: what a second of speech costs, and how soon the last words are there.

Both are servers on loopback with the same model, one thread and the fastest precision; they hear the same utterances in
turn, in real time, over their own protocols. When the voice has been gone for 256 ms (what molts' detector needs) the
client of either says that the utterance is over, and waits for the last words. See README.md in this folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from agent_runtime.speech.gate import speech_probabilities
from agent_runtime.speech.measure import edit_distance, words_of
from projects.providers.faster_whisper.protocol import End, Pause, UtteranceStart
from tests.agent_runtime.speech.live_server import talking
from tests.agent_runtime.speech.speaker import Clip
from tests.agent_runtime.speech.voices import RATE, SENTENCES, say, silence
from tests.agent_runtime.stack import MICRO_WHISPER, ROOT, end, free_port, speech_state, wait_for
from tests.bench import peers, shape_true
from tests.visitor import trim_silence

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

WHISPERLIVEKIT = ("whisperlivekit==0.2.26", "faster-whisper>=1.2.1")
UTTERANCES = int(os.environ.get("MOLTS_BENCH_UTTERANCES", "16"))
GOAL = 0.5
FRAME = RATE // 25
BEFORE_SECONDS, PAUSE_SECONDS, SILENCE_SECONDS = 0.5, 0.096, 0.256
ANSWER_SECONDS = 30.0

Samples = NDArray[np.int16]
Hear = Callable[[Samples], Awaitable[tuple[float, float, str]]]
"""Hear one utterance: when the voice ended, when the client said so, and the words (returned when they are final)."""


@dataclass
class Side:
    """One of the servers, and its figures."""

    name: str
    process: psutil.Process
    hear: Hear
    cpu_seconds: float = 0.0
    speech_seconds: float = 0.0
    after_voice: list[float] = field(default_factory=list)
    after_told: list[float] = field(default_factory=list)
    words: int = 0
    errors: int = 0

    @property
    def cost(self) -> float:
        return self.cpu_seconds / self.speech_seconds

    @property
    def lag(self) -> float:
        return statistics.median(self.after_told)

    async def take(self, clip: Clip) -> None:
        before = sum(self.process.cpu_times()[:2])
        voice_ended, told, text = await self.hear(clip.samples)
        now = time.monotonic()
        self.cpu_seconds += sum(self.process.cpu_times()[:2]) - before
        self.speech_seconds += clip.seconds
        self.after_voice.append(now - voice_ended)
        self.after_told.append(now - told)
        self.words += len(words_of(clip.said))
        self.errors += edit_distance(words_of(clip.said), words_of(text))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("said")
    texts = [SENTENCES[number % len(SENTENCES)] for number in range(UTTERANCES)]
    return [
        Clip(text, trim_silence(say(text, folder, rate=150 + 10 * (number % 3)))) for number, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def whisperlivekit() -> Path:
    return peers.environment("whisperlivekit", *WHISPERLIVEKIT) / "wlk"


@pytest.mark.parametrize("model", ["micro-whisper", "base"])
async def test_cost_and_lag_against_whisperlivekit(
    model: str, whisperlivekit: Path, clips: list[Clip], tmp_path: Path
) -> None:
    folder = MICRO_WHISPER if model == "micro-whisper" else shape_true.build(tmp_path / "base")
    with ExitStack() as stack:
        ours = stack.enter_context(_molts(folder, tmp_path))
        defaults = stack.enter_context(_whisperlivekit("its defaults", whisperlivekit, folder, tmp_path))
        paced = stack.enter_context(
            _whisperlivekit("every 300 ms", whisperlivekit, folder, tmp_path, "--asr-coalesce-min-s", "0.3")
        )
        sides = [ours, defaults, paced]
        for side in sides:
            await side.hear(clips[0].samples)  # the first time is slower
        for clip in clips:
            for side in sides:
                await side.take(clip)
    detecting = time.process_time()
    for clip in clips:
        speech_probabilities((clip.samples / 32768).astype(np.float32))
    ours.cpu_seconds += time.process_time() - detecting  # where the others detect voice themselves, molts' client does
    _report(f"{UTTERANCES} utterances, {model}, one thread, load average {os.getloadavg()[0]:.1f}", sides, model)
    for other in (defaults, paced):
        assert ours.cost <= GOAL * other.cost
        assert ours.lag <= GOAL * other.lag


def _report(what: str, sides: list[Side], model: str) -> None:
    ours = sides[0]
    print(f"\n{what}")
    print(
        f"{'':32} {'CPU s per s':>12} {'words after the end is told':>28} {'after the voice':>16} {'words wrong':>12}"
    )
    for side in sides:
        wrong = f"{side.errors / side.words:.1%}" if model == "micro-whisper" else "-"
        print(
            f"{side.name:32} {side.cost:12.3f} {side.lag * 1000:25.0f} ms"
            f" {statistics.median(side.after_voice) * 1000:13.0f} ms {wrong:>6}"
        )
    for other in sides[1:]:
        print(f"against {other.name}: CPU {ours.cost / other.cost:.2f}x, lag {ours.lag / other.lag:.2f}x")


# -- molts -------------------------------------------------------------------------------------------------------------
@contextmanager
def _molts(model: Path, folder: Path) -> Iterator[Side]:
    path = folder / "s.sock"
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "molts.settings",
        "MOLTS_DATA_DIR": str(folder),
        "MOLTS_SPEECH_LISTEN": f"unix://{path}",
        "MOLTS_WHISPER_MODEL": str(model),
        "MOLTS_WHISPER_DEVICE": "cpu",
        "MOLTS_SPEECH_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }

    async def hear(samples: Samples) -> tuple[float, float, str]:
        async with talking(path) as talker:
            await talker.hear()
            await talker.say(UtteranceStart(utterance=1))
            await _in_real_time(np.concatenate([silence(BEFORE_SECONDS), samples]), talker.say)
            voice_ended = time.monotonic()
            await asyncio.sleep(PAUSE_SECONDS)
            await talker.say(Pause(utterance=1))
            await asyncio.sleep(SILENCE_SECONDS - PAUSE_SECONDS)
            told = time.monotonic()
            await talker.say(End(utterance=1))
            return voice_ended, told, (await talker.until_final())[1].text

    process = subprocess.Popen([sys.executable, "manage.py", "run_speech"], cwd=ROOT, env=environment)
    try:
        wait_for("the speech server", lambda: speech_state(f"unix://{path}").get("ready"), seconds=60)
        yield Side("molts", psutil.Process(process.pid), hear)
    finally:
        end(process)


# -- WhisperLiveKit ----------------------------------------------------------------------------------------------------
@contextmanager
def _whisperlivekit(how: str, program: Path, model: Path, folder: Path, *options: str) -> Iterator[Side]:
    port = free_port()
    command = [str(program.with_name("python")), str(program), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend", "faster-whisper", "--backend-policy", "localagreement", "--model-path", str(model)]
    command += ["--language", "en", "--pcm-input", "--warmup-file", "", "--log-level", "WARNING", *options]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    async def hear(samples: Samples) -> tuple[float, float, str]:
        async with aiohttp.ClientSession() as http, http.ws_connect(f"http://127.0.0.1:{port}/asr") as socket:
            shown = asyncio.create_task(_read(socket))
            await _in_real_time(np.concatenate([silence(BEFORE_SECONDS), samples]), socket.send_bytes)
            voice_ended = time.monotonic()
            await _in_real_time(silence(SILENCE_SECONDS), socket.send_bytes)
            told = time.monotonic()
            await socket.send_bytes(b"")
            return voice_ended, told, await asyncio.wait_for(shown, ANSWER_SECONDS)

    with (folder / f"whisperlivekit-{port}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for("WhisperLiveKit", lambda: process.poll() is not None or _answers(port), seconds=120)
        assert process.poll() is None, Path(log.name).read_text()[-2000:]
        yield Side(f"WhisperLiveKit, {how}", psutil.Process(process.pid), hear)
    finally:
        end(process)


async def _read(socket: aiohttp.ClientWebSocketResponse) -> str:
    """What it shows when it says that nothing more will come."""
    text = ""
    async for message in socket:
        told = json.loads(message.data)
        if told.get("type") == "ready_to_stop":
            return text
        if "lines" in told:
            text = " ".join([*(line["text"] for line in told["lines"]), told["buffer_transcription"]])
    raise AssertionError("WhisperLiveKit hung up")


def _answers(port: int) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(json.load(answer)["ready"])
    except OSError:
        return False


async def _in_real_time(samples: Samples, send: Callable[[bytes], Awaitable[None]]) -> None:
    began = time.monotonic()
    for begin in range(0, len(samples), FRAME):
        await send(samples[begin : begin + FRAME].tobytes())
        await asyncio.sleep(max(0.0, began + (begin + FRAME) / RATE - time.monotonic()))
