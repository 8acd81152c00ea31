"""What streamed recognition costs and how soon it is done: molts' speech server against plain faster-whisper.

Both hear the same utterances with the same model, threads and precision, partial words every 300 ms. Plain is what a
program does with faster-whisper alone: decode the utterance so far every 300 ms, and all of it when the voice detector
says that it is over. See README.md in this folder.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import selectors
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from agent_runtime.speech.engine import Engine
from agent_runtime.speech.scheduler import Scheduler
from agent_runtime.speech.stream import DecodingPace, RecognitionStream, StreamFigures
from molts.percentiles import percentile
from projects.providers.faster_whisper.protocol import Cancel, End, Final, Message, Open, Partial, Pause, UtteranceStart
from tests.agent_runtime.speech.live_server import STEP, talking
from tests.agent_runtime.speech.voices import SENTENCES, say, silence
from tests.agent_runtime.stack import ROOT, end, speech_state, wait_for
from tests.bench import shape_true
from tests.visitor import trim_silence

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

UTTERANCES = int(os.environ.get("MOLTS_BENCH_UTTERANCES", "8"))
MOST_STREAMS = int(os.environ.get("MOLTS_BENCH_STREAMS", "24"))
LAGS_A_STEP = 20
RATE = 16_000
PARTIAL_SECONDS, FIRST_SECONDS = 0.3, 0.8
BEFORE_SECONDS = 0.5  # the detector hands over what came before the voice, too
PAUSE_SECONDS, SILENCE_SECONDS = 0.096, 0.256  # when a pause is noticed, and when the detector calls it the end
SPEECH_SHARE = 0.3
LAG_GOAL, LATE_SHARE = 1.0, 0.05
MEMORY_GOAL = 15e6
T = TypeVar("T")


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

    def percentile(self, percent: int) -> float:
        return percentile(self.lags, percent) or 0.0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper that costs what `base` costs."""
    return shape_true.build(tmp_path_factory.mktemp("shape") / "base")


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[NDArray[np.int16]]:
    folder = tmp_path_factory.mktemp("said")
    spoken = [trim_silence(say(SENTENCES[n % len(SENTENCES)], folder)) for n in range(UTTERANCES)]
    return [np.concatenate([silence(BEFORE_SECONDS), voice]) for voice in spoken]


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
    base: Path, utterances: list[NDArray[np.int16]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many conversations with 30 % speech get their final words within a second, 95 times of 100.

    On a clock of its own: waiting takes no time, and a decode as long as its processor seconds, whoever else works.
    """
    ours, plain = ServerOnWorkClock(base, monkeypatch), load(base)
    transcribe(plain, utterances[0])
    hearing: dict[str, Callable[[], Hear]] = {
        "molts": ours.open,
        "plain": lambda: PlainQueue(plain).hear,
        "plain, without partials": lambda: PlainQueue(plain, partials=False).hear,
    }
    held = dict.fromkeys(hearing, 0)
    searches = {name: search(MOST_STREAMS) for name in hearing}
    trying = {name: next(searching) for name, searching in searches.items()}
    while trying:  # in turn, so that what else happens on the machine meets all of them
        for name, streams in list(trying.items()):
            try:
                trying[name] = searches[name].send(holds(name, streams, utterances, hearing[name]))
            except StopIteration as found:
                held[name] = found.value
                del trying[name]
    print(f"held: {', '.join(f'{name} {streams}' for name, streams in held.items())}")
    assert held["molts"] >= 2 * max(held["plain"], held["plain, without partials"], 1)


def test_memory_of_further_streams(server: tuple[psutil.Process, Path], utterances: list[NDArray[np.int16]]) -> None:
    """All speak at once, and are in the middle of it."""
    process, path = server
    few, many = 4, MOST_STREAMS
    peaks = {}
    for streams in (few, few, many):
        with watched(process) as peak:
            asyncio.run(_all_at_once(path, streams, utterances))
        peaks[streams] = peak[0]
    further = (peaks[many] - peaks[few]) / (many - few)
    print(f"memory: {peaks[few] / 1e6:.0f} MB with {few} streams, {further / 1e6:.1f} MB for each of {many - few} more")
    assert further <= MEMORY_GOAL


async def _all_at_once(path: Path, streams: int, sounds: list[NDArray[np.int16]]) -> None:
    async def one(number: int) -> None:
        async with talking(path) as talker:
            await talker.hear()
            for again in range(3):
                await talker.say(UtteranceStart(utterance=again))
                await talker.sound(np.concatenate([sounds[(number + each) % len(sounds)] for each in range(3)]))
                await asyncio.sleep(1)
                await talker.say(Cancel(utterance=again))

    await asyncio.gather(*map(one, range(streams)))


Hear = Callable[[NDArray[np.int16], Arm], Awaitable[None]]
"""One utterance of one conversation, as it is spoken."""


def search(most: int) -> Generator[int, bool, int]:
    """Numbers of streams to try, doubling, then halving; told whether each was held, it returns the largest held."""
    low, high, streams = 0, most + 1, 2
    while high - low > 1:
        if (yield streams):
            low = streams
        else:
            high = streams
        streams = min(2 * low, most) if high > most else (low + high) // 2
    return low


def holds(name: str, streams: int, sounds: list[NDArray[np.int16]], hearing: Callable[[], Hear]) -> bool:
    arm = Arm(f"{name}, {streams} streams")
    crowd = Crowd(streams, sounds, arm)
    with asyncio.Runner(loop_factory=WorkClock) as runner:
        runner.run(crowd.run(hearing))
    late = f"{crowd.late} of {len(arm.lags)} late{'' if crowd.is_held else ': not held'}"
    print(f"{arm.name}: median {arm.lag * 1000:.0f} ms, p95 {arm.percentile(95) * 1000:.0f} ms, {late}", flush=True)
    return crowd.is_held


class WorkClock(asyncio.SelectorEventLoop):
    """An event loop whose waits are over at once: its clock goes on to when something is due."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Impatient(self._pass))

    def time(self) -> float:
        return self._now

    def _pass(self, seconds: float) -> None:
        self._now += seconds


class _Impatient(selectors.DefaultSelector):
    def __init__(self, tell: Callable[[float], None]) -> None:
        super().__init__()
        self._tell = tell

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is due: everybody waits for somebody else"
        self._tell(max(0.0, timeout))
        return super().select(0)


async def work(what: Callable[[], T]) -> T:
    """Do it now; it takes as long as the processor needed."""
    began = time.process_time()
    result = what()
    await asyncio.sleep(time.process_time() - began)
    return result


class ServerOnWorkClock:
    """What `run_speech` has behind its sockets: engine, queue and streams."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = Engine(device="cpu", compute_type="int8", threads=1)
        self.engine.use(asyncio.run(self.engine.load(str(base))).name)
        monkeypatch.setattr(self.engine, "decode", lambda model, tasks: work(lambda: model.decode(tasks)))

        def now() -> float:
            return asyncio.get_running_loop().time()

        for module in ("scheduler", "stream"):
            clock = SimpleNamespace(monotonic=now, perf_counter=now)
            monkeypatch.setattr(f"agent_runtime.speech.{module}.time", clock)

    def open(self) -> Hear:
        scheduler, figures = Scheduler(self.engine), StreamFigures()
        serving = asyncio.create_task(scheduler.run())

        async def hear(sound: NDArray[np.int16], arm: Arm) -> None:
            loop = asyncio.get_running_loop()
            final: asyncio.Future[Message] = loop.create_future()

            def take(message: Message) -> None:
                if not isinstance(message, Partial) and not final.done():
                    final.set_result(message)

            before = int(BEFORE_SECONDS * RATE)
            stream = RecognitionStream(
                opening=Open(language="en"), scheduler=scheduler, pace=DecodingPace(), figures=figures, send=take
            )
            stream.start(1, 0.0)
            stream.hear(sound[:before].tobytes())
            for begin in range(before, len(sound), STEP):
                stream.hear(sound[begin : begin + STEP].tobytes())
                await asyncio.sleep(STEP / RATE)
            over = loop.time()
            await asyncio.sleep(PAUSE_SECONDS)
            stream.pause(1)
            await asyncio.sleep(SILENCE_SECONDS - PAUSE_SECONDS)
            stream.end(1)
            answer = await final
            arm.lags.append(loop.time() - over if isinstance(answer, Final) else math.inf)  # refused: never

        hear.serving = serving  # type: ignore[attr-defined]
        return hear


class Crowd:
    """`streams` conversations that speak 30 % of the time, out of step; the same for everybody who hears them."""

    def __init__(self, streams: int, sounds: list[NDArray[np.int16]], arm: Arm) -> None:
        self.streams, self.sounds, self.arm = streams, sounds, arm
        self.rounds = max(2, math.ceil(LAGS_A_STEP / streams))
        self._chance = np.random.default_rng(streams)

    @property
    def late(self) -> int:
        return sum(lag > LAG_GOAL for lag in self.arm.lags)

    @property
    def is_held(self) -> bool:
        return self.late <= LATE_SHARE * self.rounds * self.streams

    async def run(self, hearing: Callable[[], Hear]) -> None:
        """Until all has been said, or so many words came late that the end is clear."""
        hear = hearing()
        talking = [asyncio.create_task(self._talk(number, hear)) for number in range(self.streams)]
        while any(not each.done() for each in talking) and self.is_held:
            await asyncio.wait(talking, timeout=0.5)
        if not self.is_held:
            for each in talking:
                each.cancel()
        for ended in await asyncio.gather(*talking, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _talk(self, number: int, hear: Hear) -> None:
        now = asyncio.get_running_loop().time
        sound = self.sounds[number % len(self.sounds)]
        speech = len(sound) / RATE - BEFORE_SECONDS
        pauses = self._chance.uniform(0.5, 1.5, self.rounds) * speech * (1 / SPEECH_SHARE - 1)
        await asyncio.sleep(self._chance.uniform(0, 1) * speech / SPEECH_SHARE)
        for pause in pauses:
            over = now() + speech
            await hear(sound, self.arm)
            await asyncio.sleep(max(0.0, over + pause - now()))


@contextmanager
def watched(process: psutil.Process) -> Iterator[list[float]]:
    """The most memory that the process has meanwhile, in bytes."""
    peak, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            peak[0] = max(peak[0], process.memory_info().rss)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield peak
    finally:
        over.set()
        looking.join()


# -- molts -------------------------------------------------------------------------------------------------------------
async def hold(path: Path, sounds: list[NDArray[np.int16]], arm: Arm) -> None:
    """One conversation in real time, as the client of the protocol does it."""
    before = int(BEFORE_SECONDS * RATE)
    async with talking(path) as talker:
        await talker.hear()
        for number, sound in enumerate(sounds, 1):
            await talker.say(UtteranceStart(utterance=number))
            await talker.sound(sound[:before])
            await talker.sound(sound[before:], paced=True)
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

    def __init__(self, model: Any, *, partials: bool = True) -> None:
        self._model = model
        self._wants_partials = partials
        self._free = asyncio.Semaphore(1)
        self._finals = 0

    async def hear(self, sound: NDArray[np.int16], arm: Arm) -> None:
        partials = asyncio.create_task(self._partials(sound)) if self._wants_partials else None
        await asyncio.sleep(len(sound) / RATE - BEFORE_SECONDS)
        over = asyncio.get_running_loop().time()
        if partials is not None:
            partials.cancel()
        await asyncio.sleep(SILENCE_SECONDS)
        self._finals += 1
        try:
            await self._decode(sound)
        finally:
            self._finals -= 1
        arm.lags.append(asyncio.get_running_loop().time() - over)
        arm.speech_seconds += len(sound) / RATE

    async def _partials(self, sound: NDArray[np.int16]) -> None:
        now = asyncio.get_running_loop().time
        began = now() - BEFORE_SECONDS
        await asyncio.sleep(FIRST_SECONDS - BEFORE_SECONDS)
        while True:
            while self._finals or self._free.locked():  # noqa: ASYNC110 - of other streams
                await asyncio.sleep(0.02)
            await self._decode(sound[: int((now() - began) * RATE)])
            await asyncio.sleep(PARTIAL_SECONDS)

    async def _decode(self, sound: NDArray[np.int16]) -> None:
        async with self._free:
            await work(lambda: transcribe(self._model, sound))


def report(what: str, arms: list[Arm], ratios: dict[str, float]) -> None:
    print(f"\n{what}")
    print(f"{'':24} {'CPU s per s of speech':>22} {'final after speech':>19} {'p95':>8} {'partials':>9}")
    for arm in arms:
        print(
            f"{arm.name:24} {arm.cost:22.2f} {arm.lag * 1000:16.0f} ms {arm.percentile(95) * 1000:5.0f} ms"
            f" {arm.partials:9}"
        )
    print(", ".join(f"{name}: {ratio:.2f}x" for name, ratio in ratios.items()))
    if (load := os.getloadavg()[0]) > (os.cpu_count() or 1):
        print(f"(load average {load:.1f} on {os.cpu_count()} CPUs: measure again on a quiet machine)")
    if path := os.environ.get("MOLTS_BENCH_JSON"):
        Path(path).write_text(json.dumps({"what": what, "arms": [asdict(arm) for arm in arms], **ratios}, indent=2))
