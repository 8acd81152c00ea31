"""What a live face costs and how well it keeps time, seen by a Python subscriber; LiveKit's `AvatarRunner` beside it.

pytest tests/bench/bench_avatar.py -m bench -s          BENCH_SECONDS=60 is the length of each measurement
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
from livekit import api, rtc
from livekit.agents.voice.avatar import DataStreamAudioOutput
from numpy.typing import NDArray

from agent_runtime.face.addressed_streams import address_streams
from agent_runtime.face.route import LEAD_SECONDS
from tests.agent_runtime.conftest import redis_server  # noqa: F401 - a fixture
from tests.agent_runtime.stack import ROOT, RedisServer, Stack
from tests.bench.avatar_process import FPS, GREY, RATE, WHITE
from tests.visitor import LOUD_RMS, Heard, Seen, Visitor, read_wav, rms, synthesize

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]
SECONDS = float(os.environ.get("BENCH_SECONDS", "60"))
BEEP_EVERY = 1.0
ROUNDS = 4
HUM = 3_000.0
FRAME_MS = 10.0
SETTLED = 10
AGENT = "bench-agent"
TALE = (
    "In the morning the sun comes over the sea and the day is warm and bright. At noon a little wind comes from the "
    "west and brings some clouds. In the evening it may rain for an hour, and the night is clear again. "
)


@pytest.fixture(scope="module")
def media(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:  # noqa: F811
    stack = Stack(tmp_path_factory.mktemp("bench"), redis_url=redis_server.url)
    yield stack
    stack.stop()


def token(stack: Stack, room: str, identity: str, **attributes: str) -> str:
    grant = api.VideoGrants(room_join=True, room=room, can_update_own_metadata=True)
    made = api.AccessToken(stack.env["LIVEKIT_API_KEY"], stack.env["LIVEKIT_API_SECRET"]).with_identity(identity)
    return made.with_grants(grant).with_attributes(attributes).to_jwt()


def beeps(seconds: float) -> NDArray[np.int16]:
    """A tone of five frames' length at the end of each second, on whole frames; silence between."""
    time_axis = np.arange(round(seconds * RATE)) / RATE
    tone = (9_000 * np.sin(2 * np.pi * 600 * time_axis)).astype(np.int16)
    return np.where(time_axis % BEEP_EVERY >= BEEP_EVERY - 5 / FPS - 1e-9, tone, 0).astype(np.int16)


def speech(seconds: float, folder: Path) -> NDArray[np.int16]:
    once = read_wav(synthesize(TALE, folder / "tale.wav"), rate=RATE)
    return np.tile(once, int(seconds * RATE / len(once)) + 1)[: round(seconds * RATE)]


def with_hum(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """The same over a steady tone: where nothing of it is heard, sound is missing."""
    hum = HUM * np.sin(2 * np.pi * 1_000 * np.arange(len(samples)) / RATE)
    return (samples * 0.7 + hum).clip(-32_768, 32_767).astype(np.int16)


class VisitorApart:
    """A visitor in a process of its own. After `collect` it has what came when; of the sound, only how loud it was."""

    def __init__(self, stack: Stack, room_name: str) -> None:
        self._file = stack.folder / f"{room_name}.npz"
        program = [sys.executable, "-m", "tests.bench.avatar_visitor", stack.env["LIVEKIT_URL"]]
        self._program = [*program, token(stack, room_name, "visitor"), str(self._file)]
        self._env = stack.env
        self.seen, self.heard = Seen(), Heard()

    async def __aenter__(self) -> VisitorApart:
        self._process = await asyncio.to_thread(subprocess.Popen, self._program, cwd=ROOT, env=self._env)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, 15)

    async def collect(self) -> None:
        await self.__aexit__()
        found = np.load(self._file)
        self.seen.at, self.seen.values = list(found["video"]), [0.0] * len(found["video"])
        loudness = found["loudness"].astype(np.int16)
        for at, loud in zip(found["audio"], loudness, strict=True):
            self.heard.note(at, loud[None])


class Talk:
    """One avatar process in a room of its own, an agent that sends it speech, and a visitor who looks and listens."""

    def __init__(self, stack: Stack, kind: str, picture: str, room_name: str, *, apart: bool = False) -> None:
        self._stack, self._kind, self._picture, self._room_name = stack, kind, picture, room_name
        self._agent, self._avatar = rtc.Room(), f"avatar-{room_name}"
        self.visitor: Visitor | VisitorApart = (
            VisitorApart(stack, room_name)
            if apart
            else Visitor(stack.env["LIVEKIT_URL"], token(stack, room_name, "visitor"))
        )

    async def __aenter__(self) -> Talk:
        url = self._stack.env["LIVEKIT_URL"]
        await self._agent.connect(
            url, token(self._stack, self._room_name, AGENT), options=rtc.RoomOptions(auto_subscribe=False)
        )
        address_streams(self._agent)
        avatar = token(self._stack, self._room_name, self._avatar, **{"lk.publish_on_behalf": AGENT})
        program = [sys.executable, "-m", "tests.bench.avatar_process", self._kind, self._picture, url, avatar, AGENT]
        environment = {**self._stack.env, "BENCH_FACES": str(self._stack.folder)}
        self.process = await asyncio.to_thread(
            subprocess.Popen, program, cwd=ROOT, env=environment, stdout=subprocess.PIPE
        )
        self.output = DataStreamAudioOutput(
            self._agent, destination_identity=self._avatar, sample_rate=RATE, wait_playback_start=True
        )
        self.visitor.seen.measure = brightness
        await self.visitor.__aenter__()
        assert self.process.stdout is not None
        await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), 120)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.process.terminate()
        await asyncio.to_thread(self.process.wait, 10)
        await self.visitor.__aexit__()
        await self._agent.disconnect()

    async def say(self, samples: NDArray[np.int16]) -> None:
        """Hand speech over a little faster than it is heard, as an agent does, and wait for its end."""
        step = RATE // 5  # what LiveKit's voices give at a time
        for start in range(0, len(samples), step):
            piece = samples[start : start + step]
            await self.output.capture_frame(rtc.AudioFrame(piece.tobytes(), RATE, 1, len(piece)))
            ahead = (start + step) / RATE - (time.monotonic() - self._began) if start else 0.0
            self._began = self._began if start else time.monotonic()
            if ahead > LEAD_SECONDS:
                await asyncio.sleep(ahead - LEAD_SECONDS)
        self.output.flush()
        await asyncio.wait_for(self.output.wait_for_playout(), len(samples) / RATE + 15)

    _began = 0.0

    def cpu_seconds(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system


@dataclass
class Figures:
    fps: float
    p50: float
    p99: float
    skew: NDArray[np.float64]
    first_lip: float
    gaps: int  # times that nothing came to the subscriber for 100 ms
    missing: float | None  # ms of sound that never came, where it can be told
    cpu: float

    def line(self, name: str) -> str:
        skew = self.skew * 1000
        drift = "-"
        if len(skew):
            # A receiver that was short of time when it joined holds more sound back for its first seconds.
            settled = skew[SETTLED:] if len(skew) > SETTLED else skew
            drift = f"mean {skew.mean():+5.1f} worst {_worst(skew):+5.1f}, after {SETTLED} s {_worst(settled):+5.1f}"
        missing = "-" if self.missing is None else f"{self.missing:.0f} ms"
        return (
            f"  {name:<14} {self.fps:5.2f} fps  interval p50 {self.p50:5.1f} p99 {self.p99:5.1f} ms  "
            f"picture after sound {drift} ms  first lip {self.first_lip * 1000:+6.1f} ms  "
            f"late {self.gaps}  missing {missing}  cpu {self.cpu:5.1f} %"
        )


def _worst(skew: NDArray[np.float64]) -> float:
    return float(skew[np.abs(skew).argmax()])


def brightness(luma: NDArray[np.uint8]) -> float:
    return float(luma[luma.shape[0] // 3 : luma.shape[0] * 2 // 3].mean())


def edges(at: Sequence[float], loud: Sequence[bool]) -> NDArray[np.float64]:
    """When it became loud (or white)."""
    flags = np.array(loud)
    rises: NDArray[np.float64] = np.array(at)[1:][flags[1:] & ~flags[:-1]]
    return rises


def read(talk: Talk, since: float, until: float, cpu: float, *, pattern: bool = False, hums: bool = False) -> Figures:
    seen = [(at, value) for at, value in talk.visitor.seen.since(since) if at < until]
    intervals = np.diff([at for at, _ in seen])
    heard = [(at, frame) for at, frame in talk.visitor.heard.frames if since - 1 <= at < until]
    skew, first = np.zeros(0), float("nan")
    if pattern:
        loud = edges([at for at, _ in heard], [rms(frame) > LOUD_RMS for _, frame in heard])
        white = edges([at for at, _ in seen], [value > (WHITE + GREY) / 2 for _, value in seen])
        pairs = [(white[np.abs(white - at).argmin()] - at) for at in loud if len(white)]
        skew = np.array([pair for pair in pairs if abs(pair) < BEEP_EVERY / 2])
        first = float(skew[0]) if len(skew) else float("nan")
    gaps = sum(1 for a, b in pairwise(heard) if b[0] - a[0] > 0.1)
    missing = sum(FRAME_MS for at, frame in heard if at > since and rms(frame) < HUM / 4) if hums else None
    p50, p99 = np.percentile(intervals, (50, 99)) * 1000
    return Figures(len(seen) / (until - since), float(p50), float(p99), skew, first, gaps, missing, cpu)


async def measure(talk: Talk, sound: NDArray[np.int16], *, pattern: bool = False, hums: bool = False) -> Figures:
    """Say it, and look at the time in which it was heard, but for its ends."""
    began, before = time.time(), talk.cpu_seconds()
    await talk.say(sound)
    ended = time.time()
    cpu = (talk.cpu_seconds() - before) / (ended - began) * 100
    if isinstance(talk.visitor, VisitorApart):
        await asyncio.sleep(1)  # the others may not be at their end
        await talk.visitor.collect()
    return read(talk, began + 1, ended - 0.5, cpu, pattern=pattern, hums=hums)


async def idle(talk: Talk, seconds: float) -> tuple[float, float]:
    """(processor percent, frames a second)."""
    began, before = time.time(), talk.cpu_seconds()
    await asyncio.sleep(seconds)
    took = time.time() - began
    return (talk.cpu_seconds() - before) / took * 100, len(talk.visitor.seen.since(began)) / took


@asynccontextmanager
async def talking(stack: Stack, kind: str, picture: str, name: str, *, apart: bool = False) -> AsyncIterator[Talk]:
    async with Talk(stack, kind, picture, name, apart=apart) as talk:
        await asyncio.sleep(6 if apart else 3)  # the first seconds of a connection are its own
        yield talk


async def test_one_face(media: Stack) -> None:
    print(f"\n{SECONDS:.0f} s each, {_surroundings()}")
    for kind in ("ours", "runner"):
        async with talking(media, kind, "pattern", f"pattern-{kind}") as talk:
            print((await measure(talk, beeps(SECONDS), pattern=True)).line(f"{kind} pattern"))
        async with talking(media, kind, "face", f"face-{kind}") as talk:
            share, fps = await idle(talk, SECONDS / 2)
            print(f"  {kind + ' idle':<14} {fps:5.2f} fps  cpu {share:5.1f} %")
            print((await measure(talk, speech(SECONDS, media.folder))).line(f"{kind} speaks"))


async def test_processor_time_beside_the_peer(media: Stack) -> None:
    """In turn, since a processor is not equally fast all day."""
    cpu: dict[str, list[float]] = {"ours": [], "runner": [], "runner-as-it-comes": []}
    for number in range(ROUNDS):
        for kind, shares in cpu.items():
            async with talking(media, kind, "face", f"cpu-{kind}-{number}") as talk:
                figures = await measure(talk, speech(SECONDS / 3, media.folder))
                shares.append(figures.cpu)
    print(f"\nspeaking, {ROUNDS} times {SECONDS / 3:.0f} s in turn, {_surroundings()}")
    for kind, shares in cpu.items():
        ratio = float(np.median(np.array(cpu["ours"]) / np.array(shares)))
        print(f"  {kind:<20} cpu {np.median(shares):5.1f} %   ours / this {ratio:.2f} (at most 0.8)")


async def test_five_faces_at_once(media: Stack) -> None:
    print(f"\nfive rooms at once, {_surroundings()}")

    together = asyncio.Barrier(5)  # none starts its processes while another is measured

    async def one(number: int) -> Figures:
        async with talking(media, "ours", "face", f"five-{number}", apart=True) as talk:
            await together.wait()
            await asyncio.sleep(2)
            return await measure(talk, with_hum(speech(SECONDS / 2, media.folder)), hums=True)

    for number, figures in enumerate(await asyncio.gather(*(one(number) for number in range(5))), 1):
        print(figures.line(f"room {number}"))


async def test_interruptions(media: Stack) -> None:
    """From the order to stop to the end of the sound, and to the closed mouth, at the receiver."""
    sound_ms, lips_ms = [], []
    async with talking(media, "ours", "pattern", "cut") as talk:
        for _ in range(20):
            tone = beeps(3.0)
            tone[:] = (9_000 * np.sin(2 * np.pi * 600 * np.arange(len(tone)) / RATE)).astype(np.int16)
            saying = asyncio.create_task(talk.say(tone))
            await asyncio.sleep(1.0)
            cut_at = time.time()
            talk.output.clear_buffer()
            await saying
            await asyncio.sleep(0.6)
            last = [at for at, frame in talk.visitor.heard.frames if at > cut_at - 0.5 and rms(frame) > LOUD_RMS][-1]
            white = [at for at, value in talk.visitor.seen.since(cut_at - 0.5) if value > (WHITE + GREY) / 2][-1]
            sound_ms.append((last - cut_at) * 1000)
            closed = next((at for at, _ in talk.visitor.seen.since(white + 1e-6)), white)
            lips_ms.append((closed - last) * 1000)
    print(f"\ncut: sound ends p50 {np.median(sound_ms):.0f} p95 {np.percentile(sound_ms, 95):.0f} ms after the order; ")
    print(f"     mouth closes p50 {np.median(lips_ms):.0f} p95 {np.percentile(lips_ms, 95):.0f} ms after the sound")


def _surroundings() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; a percentage is of one core"
