"""How quickly a face falls silent when the visitor speaks, and how often coughs and clicks cut it by mistake.

pytest tests/bench/bench_barge_in.py -m bench -s          BENCH_ROUNDS=20 interruptions, BENCH_COUGHS=50
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_django import DjangoDbBlocker

from agent_runtime.db import DatabaseThread
from avatars.engines.base import Face, VideoFormat
from avatars.engines.cache import keep_in
from sessions.models import LiveSession
from tests.agent_runtime.avatar.round_faces import Round
from tests.agent_runtime.avatar.test_conversation import QUESTION, agent_with_face, ask, until_seen, watching
from tests.agent_runtime.stack import Stack, running_stack
from tests.agent_runtime.talk import TABLE, Desk
from tests.visitor import LOUD_RMS, RATE, Visitor, rms

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "20"))
COUGHS = int(os.environ.get("BENCH_COUGHS", "50"))
MINIMUM = 0.5  # seconds of speech that LiveKit takes for an interruption
OPEN = 300.0  # dark pixels of the round face's open mouth more than of its closed one
COUGH_EVERY = 2.5
SETTLING = 5.0  # seconds until the processes that stand ready for the next conversation have started


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("barge-in")
    with running_stack(folder) as stack:
        keep_in(stack.folder / "faces")
        Round().prepare(Face("round"), VideoFormat())
        stack.start_avatars(slots=3, command=("-m", "tests.agent_runtime.avatar.round_faces"))
        stack.start_worker()
        yield stack


def test_interruptions(stack: Stack, django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.unblock(), stack.in_use():
        asyncio.run(_interrupt(Desk(stack, DatabaseThread("bench"))))


async def _interrupt(desk: Desk) -> None:
    """All in one conversation: every new one starts processes, which would be measured too."""
    sounds, lips = [], []
    try:
        session = await desk.begin(await agent_with_face(desk, greeting=""))
        async with watching(desk.visitor(session)) as visitor:
            await asyncio.sleep(SETTLING)
            for _ in range(ROUNDS):
                await _until_it_tells(desk, session, visitor)
                sound, lip = await _interrupt_once(desk, visitor)
                sounds.append(sound * 1000)
                lips.append(lip * 1000)
                await visitor.wait_for_sound(time.time())  # it answers
                await visitor.wait_until_quiet(quiet=1.5)
        await desk.end(session)
    finally:
        await desk.aclose()
    print(
        f"\n{ROUNDS} interruptions, load {os.getloadavg()[0]:.1f}: sound ends p50 {np.median(sounds):.0f} "
        f"p95 {np.percentile(sounds, 95):.0f} ms after {MINIMUM:.1f} s of speech; "
        f"mouth closes p50 {np.median(lips):+.0f} p95 {np.percentile(lips, 95):+.0f} ms after the sound"
    )


async def _interrupt_once(desk: Desk, visitor: Visitor) -> tuple[float, float]:
    """Seconds from the interruption's minimum to the last sound, and from there to the closed mouth."""
    words = desk.speech(TABLE)
    began = time.time()
    end = await visitor.speak(words)
    began = max(began, end - len(words) / RATE)
    last = max(at for at, frame in visitor.heard.frames if began < at < end and rms(frame) > LOUD_RMS)
    seen = visitor.seen.since(last - 0.5)
    closed = min(value for at, value in seen if at > last)
    opened = [at for at, value in seen if value > closed + OPEN]
    lip = next((at for at, _ in seen if at > opened[-1]), opened[-1]) - last if opened else 0.0
    return last - began - MINIMUM, lip


def test_coughs(stack: Stack, django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.unblock(), stack.in_use():
        asyncio.run(_cough(Desk(stack, DatabaseThread("bench"))))


async def _cough(desk: Desk) -> None:
    cut = heard = 0
    rng = np.random.default_rng(1)
    try:
        while heard < COUGHS:
            session = await desk.begin(await agent_with_face(desk, greeting=""))
            async with desk.visitor(session) as visitor:
                await _until_it_tells(desk, session, visitor)
                for _ in range(3):
                    began = time.time()
                    await visitor.speak(cough(rng) if heard % 2 else click(rng))
                    await asyncio.sleep(max(0.0, began + COUGH_EVERY - time.time()))
                    heard += 1
                    cut += _was_cut(visitor, began, began + COUGH_EVERY)
            await desk.end(session)
    finally:
        await desk.aclose()
    print(f"\n{heard} coughs and clicks: {cut} false cuts, {cut / heard:.0%}")


async def _until_it_tells(desk: Desk, session: LiveSession, visitor: Visitor) -> None:
    """Until the agent is in the midst of a long answer."""
    await desk.until_agent_is(session, "listening")
    await until_seen(visitor, time.time() - 1)
    began = await visitor.wait_for_sound(await ask(visitor, QUESTION))
    await asyncio.sleep(max(0.0, began + 2 - time.time()))


def _was_cut(visitor: Visitor, began: float, until: float) -> bool:
    """Whether the voice was silent for longer than between two sentences."""
    loud = [at for at, frame in visitor.heard.frames if began < at < until and rms(frame) > LOUD_RMS]
    return bool(np.diff([began, *loud, until]).max() > 1.0)


def cough(rng: np.random.Generator) -> NDArray[np.int16]:
    """A third of a second of noise that dies away, as loud as speech."""
    time_axis = np.arange(round(0.35 * RATE)) / RATE
    noise = np.convolve(rng.normal(size=len(time_axis)), np.ones(8) / 8, mode="same")
    return (
        (20_000 * noise * np.exp(-9 * time_axis) * np.minimum(1, time_axis / 0.01)).clip(-32_000, 32_000).astype("<i2")
    )


def click(rng: np.random.Generator) -> NDArray[np.int16]:
    """A key or a cup: a few milliseconds."""
    time_axis = np.arange(round(0.05 * RATE)) / RATE
    ring = np.sin(2 * np.pi * rng.uniform(1_500, 4_000) * time_axis)
    return (25_000 * ring * np.exp(-200 * time_axis)).astype(np.int16)
