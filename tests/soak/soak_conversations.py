"""Many conversations in a row, in each of which the job is killed at a random moment.

At most the turn in progress may be lost, nothing may be written twice, and `seq` has no gap. `MOLTS_SOAK_CONVERSATIONS`
and `MOLTS_SOAK_SEED` choose how many and which.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from agent_runtime.db import DatabaseThread
from sessions.models import LiveSession, Segment
from tests.agent_runtime.stack import Stack, kill, running_stack
from tests.agent_runtime.talk import ANSWERS, Desk, dense
from tests.visitor import Visitor

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]
CONVERSATIONS = int(os.environ.get("MOLTS_SOAK_CONVERSATIONS", "20"))
SEED = int(os.environ.get("MOLTS_SOAK_SEED", "7"))
TURNS = 4
BACK_SECONDS = 25.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("soak")
    with running_stack(folder) as stack:
        stack.start_celery()
        stack.start_worker()
        yield stack


def test_a_kill_at_any_moment_costs_one_turn_at_most(stack: Stack, django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.unblock(), stack.in_use():
        asyncio.run(_hold_all(stack))


async def _hold_all(stack: Stack) -> None:
    desk, dice = Desk(stack, DatabaseThread("soak")), random.Random(SEED)
    absences: list[float] = []
    try:
        for number in range(CONVERSATIONS):
            absences.append(await _hold_one(desk, dice, number))
    finally:
        await desk.aclose()
    absences.sort()
    print(
        f"{len(absences)} kills; agent back after {absences[len(absences) // 2]:.1f} s (median), {absences[-1]:.1f} s"
    )


async def _hold_one(desk: Desk, dice: random.Random, number: int) -> float:
    """One conversation of `TURNS` heard turns around one kill; returns the seconds without an agent."""
    session = await desk.begin(await desk.make_agent())
    kill_at, moment = dice.randrange(TURNS), dice.uniform(0, 4)
    heard: list[str] = []
    absence = 0.0
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        for turn in range(TURNS):
            sentence = dice.choice(list(ANSWERS))
            if turn == kill_at:
                absence = await _ask_and_kill(desk, visitor, session, sentence, moment)
            else:
                await _ask(desk, visitor, sentence)
                heard.append(ANSWERS[sentence])
        await desk.until("the last answer", lambda: _answers(session)[-1:] == heard[-1:] or kill_at == TURNS - 1)
    await desk.end(session)
    segments = await desk.segments(session)
    turns = await desk.turns(session)
    told = [segment.text for segment in segments if segment.role == "agent"]
    print(f"{number + 1}: killed {moment:.1f} s into turn {kill_at + 1}, agent back after {absence:.1f} s", flush=True)
    assert dense(segments)
    assert len({segment.segment_id for segment in segments}) == len(segments)
    assert told.count("Hello, this is Ada.") == 1
    # Every turn that was heard to its end is there; the one with the kill may be.
    assert len(told) - 1 in (TURNS - 1, TURNS)
    assert _is_part_of(heard, told)
    assert [turn.index for turn in turns] == list(range(1, len(turns) + 1))
    assert len(turns) >= TURNS - 1
    return absence


async def _ask(desk: Desk, visitor: Visitor, sentence: str) -> None:
    end = await visitor.speak(desk.speech(sentence))
    await visitor.wait_for_sound(end)
    await visitor.wait_until_quiet()


async def _ask_and_kill(desk: Desk, visitor: Visitor, session: LiveSession, sentence: str, moment: float) -> float:
    (job,) = desk.stack.busy_jobs()
    generation = (await desk.session(session)).claimed_generation
    asking = asyncio.create_task(visitor.speak(desk.speech(sentence)))
    await asyncio.sleep(moment)
    kill(job)
    killed = time.monotonic()
    await asking
    await desk.until(
        "another agent",
        lambda: LiveSession.objects.filter(
            pk=session.pk, claimed_generation__gt=generation, agent_state="listening"
        ).exists(),
        seconds=BACK_SECONDS,
    )
    absence = time.monotonic() - killed
    await asyncio.sleep(1.5)  # it listens; if it heard the rest of the sentence, it answers that now
    await visitor.wait_until_quiet()
    return absence


def _answers(session: LiveSession) -> list[str]:
    return list(Segment.objects.filter(session=session, role="agent").values_list("text", flat=True))


def _is_part_of(wanted: list[str], told: list[str]) -> bool:
    """Whether `wanted` stands in `told` in this order."""
    rest = iter(told)
    return all(answer in rest for answer in wanted)
