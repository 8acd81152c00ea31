"""What a conversation costs its agent's job, by who speaks, in processor time; bare livekit-agents beside it.

pytest tests/bench/bench_job.py -m bench -s          BENCH_ROUNDS=2, BENCH_SECONDS=15, BENCH_SIDES="molts,molts-face"
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
import uuid
from asyncio.subprocess import DEVNULL
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import psutil
import pytest
from django.conf import settings
from livekit import api
from numpy.typing import NDArray
from pytest_django import DjangoDbBlocker

from agent_runtime.db import DatabaseThread
from avatars.engines.base import Face, VideoFormat
from avatars.engines.cache import keep_in
from sessions.tokens import visitor_token
from tests.agent_runtime.avatar.round_faces import Round
from tests.agent_runtime.avatar.test_conversation import agent_with_face, ask, until_seen
from tests.agent_runtime.stack import ROOT, Stack, running_stack
from tests.agent_runtime.talk import ANSWERS, STORY, Desk
from tests.bench.bare_worker import AGENT_IDENTITY, AGENT_NAME
from tests.bench.bench_avatar import token
from tests.bench.peers import start_bare_worker
from tests.visitor import RATE, Visitor

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "2"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "15"))
SETTLING = 6.0  # seconds until the processes that stand ready for the next conversation have started
JOINING = 30.0
NOBODY, VISITOR, AGENT = PHASES = ("nobody speaks", "the visitor speaks", "the agent speaks")
QUESTION, TALE = STORY


Joined = tuple[Visitor, psutil.Process]


@dataclass
class Side:
    """One of those that are compared. `shares`: of one core, for each phase, what the job took."""

    name: str
    enter: Callable[[Desk], AbstractAsyncContextManager[Joined]]
    shares: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def measured(self, phase: str, job: psutil.Process) -> Iterator[None]:
        """Note what the job takes within the block; programs that it starts are not counted."""
        used, began = _cpu_seconds(job), time.monotonic()
        yield
        self.shares[phase].append((_cpu_seconds(job) - used) / (time.monotonic() - began))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("job")
    with running_stack(folder) as stack:
        keep_in(stack.folder / "faces")
        Round().prepare(Face("round"), VideoFormat())
        stack.start_avatars(slots=2, command=("-m", "tests.agent_runtime.avatar.round_faces"))
        stack.start_worker()
        start_bare_worker(stack, dict([*ANSWERS.items(), STORY]))
        yield stack


def test_processor_time_of_a_job(stack: Stack, django_db_blocker: DjangoDbBlocker) -> None:
    wanted = os.environ.get("BENCH_SIDES", ",".join(SIDES)).split(",")
    sides = [Side(name, SIDES[name]) for name in wanted]
    with django_db_blocker.unblock(), stack.in_use():
        asyncio.run(_measure(stack, sides))
    print(_as_table(sides))
    for side in sides:
        assert [len(side.shares[phase]) for phase in PHASES] == [ROUNDS] * len(PHASES)


async def _measure(stack: Stack, sides: list[Side]) -> None:
    desk = Desk(stack, DatabaseThread("bench"))
    try:
        for _ in range(ROUNDS):
            for side in sides:
                async with side.enter(desk) as (visitor, job):
                    await _hold(desk, side, visitor, job)
    finally:
        await desk.aclose()


async def _hold(desk: Desk, side: Side, visitor: Visitor, job: psutil.Process) -> None:
    await asyncio.sleep(SETTLING)
    with side.measured(NOBODY, job):
        await asyncio.sleep(SECONDS)
    with side.measured(VISITOR, job):
        end = await visitor.speak(_long_sentence(desk))
    await visitor.wait_for_sound(end)
    await visitor.wait_until_quiet(quiet=2)
    with side.measured(AGENT, job):
        await visitor.wait_for_sound(await ask(visitor, QUESTION))
        await visitor.wait_until_quiet(quiet=1)


def _long_sentence(desk: Desk) -> NDArray[np.int16]:
    """Words without a pause for about `SECONDS`."""
    words = np.concatenate([desk.speech(sentence) for sentence in ANSWERS])
    return np.tile(words, max(1, round(SECONDS * RATE / len(words))))


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


# -- How a conversation begins -----------------------------------------------------------------------------------------
@asynccontextmanager
async def _molts(desk: Desk, *, with_face: bool) -> AsyncIterator[Joined]:
    make = agent_with_face if with_face else Desk.make_agent
    session = await desk.begin(await make(desk, greeting="", pipeline={}))
    async with desk.visitor(session) as visitor:
        await desk.until_agent_is(session, "listening", seconds=JOINING)
        if with_face:
            await until_seen(visitor, 0)
        (job,) = desk.stack.busy_jobs()
        yield visitor, job
    await desk.end(session)
    if with_face:
        await desk.until("the face gone", lambda: not desk.stack.busy_jobs("avatar"))


@asynccontextmanager
async def _bare(desk: Desk, *, with_face: bool) -> AsyncIterator[Joined]:
    room, face = f"bare-{uuid.uuid4().hex[:12]}", "avatar-bare" if with_face else ""
    url = settings.LIVEKIT_URL
    async with api.LiveKitAPI(url, settings.LIVEKIT_API_KEY, settings.LIVEKIT_API_SECRET) as server:
        await server.room.create_room(api.CreateRoomRequest(name=room))  # the media server opens none by itself
        async with (
            Visitor(url, visitor_token(room_name=room, identity="visitor")) as visitor,
            _runner(desk.stack, room, face),
        ):
            await server.agent_dispatch.create_dispatch(
                api.CreateAgentDispatchRequest(agent_name=AGENT_NAME, room=room, metadata=face)
            )
            await desk.until("the bare agent", lambda: desk.stack.busy_jobs("bare"), seconds=JOINING)
            if with_face:
                await until_seen(visitor, 0, seconds=JOINING)
            (job,) = desk.stack.busy_jobs("bare")
            yield visitor, job
        await server.room.delete_room(api.DeleteRoomRequest(room=room))
    await desk.until("the bare agent gone", lambda: not desk.stack.busy_jobs("bare"), seconds=JOINING)


@asynccontextmanager
async def _runner(stack: Stack, room: str, identity: str) -> AsyncIterator[None]:
    """LiveKit's `AvatarRunner` for the bare agent, in a process of its own; nothing without a name."""
    if not identity:
        yield
        return
    jwt = token(stack, room, identity, **{"lk.publish_on_behalf": AGENT_IDENTITY})
    program = ["-m", "tests.bench.avatar_process", "runner", "face", settings.LIVEKIT_URL, jwt]
    process = await asyncio.create_subprocess_exec(sys.executable, *program, AGENT_IDENTITY, cwd=ROOT, stdout=DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), JOINING)


SIDES: dict[str, Callable[[Desk], AbstractAsyncContextManager[Joined]]] = {
    "molts": partial(_molts, with_face=False),
    "bare": partial(_bare, with_face=False),
    "molts-face": partial(_molts, with_face=True),
    "bare-face": partial(_bare, with_face=True),
}


def _as_table(sides: list[Side]) -> str:
    width = max(len(phase) for phase in PHASES)
    lines = [
        "",
        f"processor time of the agent's job, % of one core (median of {ROUNDS}; load {os.getloadavg()[0]:.1f})",
        " ".join([" " * width, *(f"{side.name:>12}" for side in sides)]),
    ]
    for phase in PHASES:
        figures = (f"{statistics.median(side.shares[phase]):12.1%}" for side in sides)
        lines.append(" ".join([f"{phase:{width}}", *figures]))
    return "\n".join(lines)
