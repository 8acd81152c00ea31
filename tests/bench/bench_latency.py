"""Silence from the last sample a visitor sends to the first audible sample received: molts against bare livekit-agents.

One listener measures both, on one media server, run by run in turn. See README.md in this folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
from django.conf import settings
from livekit import api
from pytest_django import DjangoDbBlocker

from agent_runtime.db import DatabaseThread
from avatars.models import Agent
from molts.percentiles import percentile
from sessions.tokens import visitor_token
from tests.agent_runtime.stack import Stack, running_stack
from tests.agent_runtime.talk import ANSWERS, Desk, agents_in
from tests.bench.bare_worker import AGENT_NAME
from tests.bench.peers import start_bare_worker
from tests.visitor import Visitor

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]
RUNS, TURNS = int(os.environ.get("MOLTS_BENCH_RUNS", "5")), int(os.environ.get("MOLTS_BENCH_TURNS", "10"))
GOAL_MS = 20.0
PAUSE_SECONDS = 0.4


@dataclass
class Side:
    """One of the two that are compared: its waits in milliseconds, one list a run."""

    name: str
    runs: list[list[float]] = field(default_factory=list)
    inside: list[dict[str, int | None]] = field(default_factory=list)

    @property
    def waits(self) -> list[float]:
        return sorted(wait for run in self.runs for wait in run)

    @property
    def median(self) -> float:
        return statistics.median(self.waits)

    def percentile(self, percent: int) -> float:
        return percentile(self.waits, percent) or 0.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("bench")
    with running_stack(folder) as stack:
        stack.start_worker()
        # The recogniser inside the process, as LiveKit's documentation has it.
        start_bare_worker(stack, ANSWERS, MOLTS_SPEECH_URL="")
        yield stack


def test_latency_against_bare_livekit_agents(stack: Stack, django_db_blocker: DjangoDbBlocker) -> None:
    molts, bare = Side("molts"), Side("bare livekit-agents")
    with django_db_blocker.unblock(), stack.in_use():
        asyncio.run(measure(stack, molts, bare))
    report = make_report(molts, bare)
    print(as_table(molts, bare, report))
    if path := os.environ.get("MOLTS_BENCH_JSON"):
        Path(path).write_text(json.dumps(report, indent=2))
    for side in (molts, bare):
        assert [len(run) for run in side.runs] == [TURNS] * RUNS


async def measure(stack: Stack, molts: Side, bare: Side) -> None:
    desk = Desk(stack, DatabaseThread("bench"))
    try:
        agent = await desk.make_agent(greeting="", pipeline={})
        for number in range(RUNS):
            order = [(molts, in_molts_room), (bare, in_bare_room)]
            for side, enter in order if number % 2 == 0 else reversed(order):
                async with enter(desk, agent, side) as visitor:
                    side.runs.append(await hold(visitor, desk))
                last = side.runs[-1]
                print(f"run {number + 1} {side.name:22} median {statistics.median(last):4.0f} ms", flush=True)
    finally:
        await desk.aclose()


@asynccontextmanager
async def in_molts_room(desk: Desk, agent: Agent, side: Side) -> AsyncIterator[Visitor]:
    session = await desk.begin(agent)
    async with desk.visitor(session) as visitor:
        await desk.until_agent_is(session, "listening", seconds=30)
        yield visitor
    await desk.end(session)
    for turn in await desk.turns(session):
        names = ("endpointing_ms", "stt_ms", "llm_ms", "tts_ms", "total_ms")
        side.inside.append({name: getattr(turn, name) for name in names})


@asynccontextmanager
async def in_bare_room(desk: Desk, agent: Agent, side: Side) -> AsyncIterator[Visitor]:
    room = f"bare-{uuid.uuid4().hex[:12]}"
    url = settings.LIVEKIT_URL
    async with api.LiveKitAPI(url, settings.LIVEKIT_API_KEY, settings.LIVEKIT_API_SECRET) as server:
        await server.room.create_room(api.CreateRoomRequest(name=room))  # the media server opens none by itself
        await server.agent_dispatch.create_dispatch(api.CreateAgentDispatchRequest(agent_name=AGENT_NAME, room=room))
        async with Visitor(url, visitor_token(room_name=room, identity="visitor")) as visitor:
            async with asyncio.timeout(30):
                while not any(p.track_publications for p in agents_in(visitor.room)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            yield visitor
        await server.room.delete_room(api.DeleteRoomRequest(room=room))


async def hold(visitor: Visitor, desk: Desk) -> list[float]:
    """Waits of one conversation, in milliseconds."""
    await asyncio.sleep(2)  # joined, and nothing of the start is still going on
    sentences = list(ANSWERS)
    waits: list[float] = []
    for turn in range(TURNS):
        end = await visitor.speak(desk.speech(sentences[turn % len(sentences)]))
        heard = await visitor.wait_for_sound(end)
        waits.append((heard - end) * 1000)
        await visitor.wait_until_quiet()
        await asyncio.sleep(PAUSE_SECONDS)
    return waits


def make_report(molts: Side, bare: Side) -> dict[str, object]:
    difference = molts.median - bare.median
    return {
        "what": "ms from the last sample sent to the first audible sample received",
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg(), "platform": platform.platform()},
        "runs": RUNS,
        "turns": TURNS,
        "sides": [{**asdict(side), "median": side.median} for side in (molts, bare)],
        "difference_ms": difference,
        "run_differences_ms": [
            statistics.median(ours) - statistics.median(theirs)
            for ours, theirs in zip(molts.runs, bare.runs, strict=True)
        ],
        "goal_ms": GOAL_MS,
        "goal_met": difference <= GOAL_MS,
    }


def as_table(molts: Side, bare: Side, report: dict[str, object]) -> str:
    lines = [
        "",
        f"silence before the answer, ms ({RUNS} runs of {TURNS} turns each, in turn)",
        f"{'':22} {'median':>7} {'p10':>6} {'p90':>6} {'worst':>6}   medians of the runs",
    ]
    for side in (molts, bare):
        medians = " ".join(f"{statistics.median(run):4.0f}" for run in side.runs)
        figures = f"{side.median:7.0f} {side.percentile(10):6.0f} {side.percentile(90):6.0f} {side.waits[-1]:6.0f}"
        lines.append(f"{side.name:22} {figures}   {medians}")
    verdict = "met" if report["goal_met"] else "missed"
    lines.append(f"molts is {report['difference_ms']:+.0f} ms; goal at most +{GOAL_MS:.0f} ms: {verdict}")
    load = os.getloadavg()[0]
    if load > (os.cpu_count() or 1):
        lines.append(f"(load average {load:.1f} on {os.cpu_count()} CPUs: measure again on a quiet machine)")
    return "\n".join(lines)
