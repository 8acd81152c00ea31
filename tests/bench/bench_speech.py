"""What streamed recognition costs and how soon it is done: molts' speech server against plain faster-whisper.

Both hear the same utterances with the same model, threads and precision, partial words every 300 ms. Plain is what a
program does with faster-whisper alone: decode the utterance so far every 300 ms, and all of it when the voice detector
says that it is over. See README.md in this folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from projects.providers.speech_protocol import End, Pause, Start
from tests.agent_runtime.speech.live_server import talking
from tests.agent_runtime.speech.voices import SENTENCES, say, silence
from tests.agent_runtime.stack import ROOT, end, speech_state, wait_for
from tests.bench import shape_true

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

UTTERANCES = int(os.environ.get("MOLTS_BENCH_UTTERANCES", "8"))
MOST_STREAMS = int(os.environ.get("MOLTS_BENCH_STREAMS", "24"))
RATE = 16_000
PARTIAL_SECONDS, FIRST_SECONDS = 0.3, 0.8
PAUSE_SECONDS, SILENCE_SECONDS = 0.096, 0.256  # when a pause is noticed, and when the detector calls it the end
SPEECH_SHARE = 0.3
LAG_GOAL = 1.0
MEMORY_GOAL = 15e6


@dataclass
class Arm:
    """One of the two, and its figures."""

    name: str
    speech_seconds: float = 0.0
    cpu_seconds: float = 0.0
    partials: int = 0
    lags: list[float] = field(default_factory=list)
    """Seconds from the last sample of speech to the final words."""

    @property
    def cost(self) -> float:
        return self.cpu_seconds / self.speech_seconds

    @property
    def lag(self) -> float:
        return statistics.median(self.lags)

    def quantile(self, share: float) -> float:
        return sorted(self.lags)[min(len(self.lags) - 1, int(share * len(self.lags)))]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper that costs what `base` costs."""
    return shape_true.build(tmp_path_factory.mktemp("shape") / "base")


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[NDArray[np.int16]]:
    folder = tmp_path_factory.mktemp("said")
    return [np.concatenate([silence(0.5), say(SENTENCES[n % len(SENTENCES)], folder)]) for n in range(UTTERANCES)]


@pytest.fixture
def server(base: Path, tmp_path: Path) -> Iterator[tuple[psutil.Process, Path]]:
    path = tmp_path / "s.sock"
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "molts.settings",
        "MOLTS_DATA_DIR": str(tmp_path),
        "MOLTS_SPEECH_LISTEN": f"unix://{path}",
        "MOLTS_WHISPER_MODEL": str(base),
        "MOLTS_WHISPER_COMPUTE_TYPE": "int8",
        "MOLTS_WHISPER_DEVICE": "cpu",
        "MOLTS_SPEECH_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen([sys.executable, "manage.py", "run_speech"], cwd=ROOT, env=environment)
    try:
        wait_for("the speech server", lambda: speech_state(f"unix://{path}").get("ready"), seconds=60)
        yield psutil.Process(process.pid), path
    finally:
        end(process)


def test_cost_and_lag_of_one_conversation(
    server: tuple[psutil.Process, Path], base: Path, utterances: list[NDArray[np.int16]]
) -> None:
    process, path = server
    ours, plain = Arm("molts"), Arm("plain faster-whisper")
    before = sum(process.cpu_times()[:2])
    asyncio.run(hold(path, utterances, ours))
    ours.cpu_seconds = sum(process.cpu_times()[:2]) - before
    ours.partials = speech_state(f"unix://{path}")["partials"]
    redecode(base, utterances, plain)
    report(
        f"{UTTERANCES} utterances, a Whisper of base shape, int8, one thread",
        [ours, plain],
        {"CPU": ours.cost / plain.cost, "lag of finals": ours.lag / plain.lag},
    )
    assert ours.cost <= 0.25 * plain.cost
    assert ours.lag <= 0.5 * plain.lag


def test_conversations_at_once(
    server: tuple[psutil.Process, Path], base: Path, utterances: list[NDArray[np.int16]]
) -> None:
    """How many streams with 30 % speech get their final words within a second, 95 times of 100."""
    process, path = server
    held, memory = 0, process.memory_info().rss
    for streams in steps():
        arm = Arm(f"molts, {streams} streams")
        asyncio.run(crowd(streams, utterances, arm, lambda sound, mine: hold(path, [sound], mine)))
        print(f"{arm.name}: p95 {arm.quantile(0.95) * 1000:.0f} ms", flush=True)
        if arm.quantile(0.95) > LAG_GOAL:
            break
        held, a_stream = streams, (process.memory_info().rss - memory) / streams
    alone = 0
    for streams in steps():
        arm = Arm(f"plain, {streams} streams")
        asyncio.run(crowd(streams, utterances, arm, PlainQueue(base).hear))
        print(f"{arm.name}: p95 {arm.quantile(0.95) * 1000:.0f} ms", flush=True)
        if arm.quantile(0.95) > LAG_GOAL:
            break
        alone = streams
    print(f"held: molts {held}, plain {alone}; memory of a stream {a_stream / 1e6:.1f} MB")
    assert held >= 2 * max(alone, 1)
    assert a_stream <= MEMORY_GOAL


def steps() -> Iterator[int]:
    streams = 1
    while streams <= MOST_STREAMS:
        yield streams
        streams = max(streams + 1, int(streams * 1.5))


# -- molts -------------------------------------------------------------------------------------------------------------
async def hold(path: Path, sounds: list[NDArray[np.int16]], arm: Arm) -> None:
    """One conversation in real time, as the client of the protocol does it."""
    async with talking(path) as talker:
        await talker.hear()
        for number, sound in enumerate(sounds, 1):
            await talker.say(Start(utterance=number))
            await talker.sound(sound, paced=True)
            over = time.monotonic()
            await asyncio.sleep(PAUSE_SECONDS)
            await talker.say(Pause(utterance=number))
            await asyncio.sleep(SILENCE_SECONDS - PAUSE_SECONDS)
            await talker.say(End(utterance=number))
            await talker.until_final()
            arm.lags.append(time.monotonic() - over)
            arm.speech_seconds += len(sound) / RATE


# -- plain faster-whisper ----------------------------------------------------------------------------------------------
def load(base: Path) -> Any:
    import logging

    from faster_whisper import WhisperModel

    logging.getLogger("faster_whisper").setLevel(logging.WARNING)
    return WhisperModel(str(base), device="cpu", compute_type="int8", cpu_threads=1)


def transcribe(model: Any, sound: NDArray[np.int16]) -> str:
    segments, _ = model.transcribe(
        sound.astype(np.float32) / 32768,
        language="en",
        beam_size=1,
        temperature=0.0,
        condition_on_previous_text=False,
    )
    return " ".join(segment.text for segment in segments)


def redecode(base: Path, sounds: list[NDArray[np.int16]], arm: Arm) -> None:
    """Every 300 ms of speech, whatever it costs; only its work is timed, so it need not keep up."""
    model = load(base)
    transcribe(model, sounds[0])
    began = time.process_time()
    for sound in sounds:
        for until in np.arange(FIRST_SECONDS, len(sound) / RATE, PARTIAL_SECONDS):
            transcribe(model, sound[: int(until * RATE)])
            arm.partials += 1
        over = time.monotonic()
        transcribe(model, sound)
        arm.lags.append(SILENCE_SECONDS + time.monotonic() - over)
        arm.speech_seconds += len(sound) / RATE
    arm.cpu_seconds = time.process_time() - began


class PlainQueue:
    """Plain faster-whisper for many: one model, finals first, at most one partial of a stream waiting."""

    def __init__(self, base: Path) -> None:
        self._model = load(base)
        self._worker = ThreadPoolExecutor(1)
        self._free = asyncio.Semaphore(1)
        self._finals = 0

    async def hear(self, sound: NDArray[np.int16], arm: Arm) -> None:
        began = time.monotonic()
        partials = asyncio.create_task(self._partials(sound, began))
        await asyncio.sleep(len(sound) / RATE)
        over = time.monotonic()
        partials.cancel()
        await asyncio.sleep(SILENCE_SECONDS)
        self._finals += 1
        await self._decode(sound)
        self._finals -= 1
        arm.lags.append(time.monotonic() - over)
        arm.speech_seconds += len(sound) / RATE

    async def _partials(self, sound: NDArray[np.int16], began: float) -> None:
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            if not self._finals:
                await self._decode(sound[: int((time.monotonic() - began) * RATE)])
            await asyncio.sleep(PARTIAL_SECONDS)

    async def _decode(self, sound: NDArray[np.int16]) -> None:
        async with self._free:
            await asyncio.get_running_loop().run_in_executor(self._worker, transcribe, self._model, sound)


async def crowd(streams: int, sounds: list[NDArray[np.int16]], arm: Arm, hear: Any) -> None:
    """`streams` conversations that speak 30 % of the time, out of step."""

    async def one(number: int) -> None:
        sound = sounds[number % len(sounds)]
        round_seconds = len(sound) / RATE / SPEECH_SHARE
        await asyncio.sleep(round_seconds * number / streams)
        for _ in range(2):
            began = time.monotonic()
            await hear(sound, arm)
            await asyncio.sleep(max(0.0, round_seconds - (time.monotonic() - began)))

    await asyncio.gather(*map(one, range(streams)))


def report(what: str, arms: list[Arm], ratios: dict[str, float]) -> None:
    print(f"\n{what}")
    print(f"{'':24} {'CPU s per s of speech':>22} {'final after speech':>19} {'p95':>8} {'partials':>9}")
    for arm in arms:
        print(
            f"{arm.name:24} {arm.cost:22.2f} {arm.lag * 1000:16.0f} ms {arm.quantile(0.95) * 1000:5.0f} ms"
            f" {arm.partials:9}"
        )
    print(", ".join(f"{name}: {ratio:.2f}x" for name, ratio in ratios.items()))
    if (load := os.getloadavg()[0]) > (os.cpu_count() or 1):
        print(f"(load average {load:.1f} on {os.cpu_count()} CPUs: measure again on a quiet machine)")
    if path := os.environ.get("MOLTS_BENCH_JSON"):
        Path(path).write_text(json.dumps({"what": what, "arms": [asdict(arm) for arm in arms], **ratios}, indent=2))
