"""Faces at length: half an hour of talk without drift or growth, and faces killed and frozen in mid-sentence.

`MOLTS_SOAK_MINUTES` and `MOLTS_SOAK_KILLS` choose how long and how many.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from pytest_django import DjangoDbBlocker

from agent_runtime.db import DatabaseThread
from avatars.engines.base import Face, VideoFormat
from avatars.engines.cache import keep_in
from sessions.models import SessionNotice
from tests.agent_runtime.avatar.round_faces import Round
from tests.agent_runtime.avatar.test_conversation import QUESTION, TALE, agent_with_face, ask, until_seen
from tests.agent_runtime.stack import Stack, kill, running_stack
from tests.agent_runtime.talk import Desk
from tests.bench.bench_avatar import Talk, beeps, read

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]
MINUTES = float(os.environ.get("MOLTS_SOAK_MINUTES", "30"))
KILLS = int(os.environ.get("MOLTS_SOAK_KILLS", "20"))
DRIFT_SECONDS = 0.040
GROWTH = 0.03
VOICE_SECONDS = 10.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("soak")
    with running_stack(folder) as stack:
        yield stack


async def test_long_talk_neither_drifts_nor_grows(stack: Stack) -> None:
    """One utterance after another, each a minute long; the first minute is the measure of the last."""
    skews, memory = [], []
    async with Talk(stack, "ours", "pattern", "long") as talk:
        await asyncio.sleep(3)
        for _ in range(max(2, round(MINUTES))):
            began = time.time()
            await talk.say(beeps(60.0))
            figures = read(talk, began + 1, time.time() - 0.5, 0.0, pattern=True)
            skews.append(float(np.median(figures.skew)))
            memory.append(psutil.Process(talk.process.pid).memory_full_info().uss)
            talk.visitor.heard.frames.clear()
            talk.visitor.seen.at.clear()
            talk.visitor.seen.values.clear()
    drift, settled = skews[-1] - skews[0], memory[min(2, len(memory) - 2)]
    growth = memory[-1] / settled - 1
    print(f"\n{len(skews)} minutes: drift {drift * 1000:+.1f} ms, memory {memory[-1] / 1e6:.0f} MB, {growth:+.1%}")
    assert abs(drift) < DRIFT_SECONDS
    assert growth < GROWTH


def test_every_lost_face_comes_back(stack: Stack, django_db_blocker: DjangoDbBlocker) -> None:
    keep_in(stack.folder / "faces")
    Round().prepare(Face("round"), VideoFormat())
    stack.start_avatars(command=("-m", "tests.agent_runtime.avatar.round_faces"))
    stack.start_worker()
    with django_db_blocker.unblock(), stack.in_use():
        asyncio.run(_lose_faces(stack))


async def _lose_faces(stack: Stack) -> None:
    desk, voices, faces = Desk(stack, DatabaseThread("soak")), [], []
    try:
        for number in range(KILLS):
            voice, face = await _lose_one(desk, signal.SIGSTOP if number % 2 else signal.SIGKILL)
            voices.append(voice)
            faces.append(face)
    finally:
        await desk.aclose()
        print(f"\n{len(voices)} of {KILLS}; voice after {max(voices):.1f} s, face after {max(faces):.1f} s at most")


async def _lose_one(desk: Desk, number: int) -> tuple[float, float]:
    """Seconds until the voice went on, and until the face was back."""
    session = await desk.begin(await agent_with_face(desk, greeting=""))
    async with desk.visitor(session) as visitor:
        await desk.until_agent_is(session, "listening")
        await until_seen(visitor, 0, seconds=40)  # the slot of the round before may be freed late
        began = await visitor.wait_for_sound(await ask(visitor, QUESTION))
        await asyncio.sleep(max(0.0, began + 3 - time.time()))
        (job,) = desk.stack.busy_jobs("avatar")
        known = (await desk.notices(session)).count("avatar_back")  # the slot of the round before may be freed late
        lost_at = time.time()
        kill(job, number)
        voice = await visitor.wait_for_sound(lost_at + 0.5) - lost_at
        said = await desk.until_said(session, 2, seconds=40)
        backs = SessionNotice.objects.filter(session=session, code="avatar_back")
        await desk.until("the face", lambda: backs.count() > known, seconds=60)
        face = time.time() - lost_at
        await until_seen(visitor, time.time())
    await desk.end(session)
    await desk.until("a free slot", lambda: not desk.stack.busy_jobs("avatar"), seconds=30)
    segments = await desk.segments(session)
    assert said[1] == ("agent", TALE)
    assert not segments[1].interrupted
    assert voice < VOICE_SECONDS
    return voice, face
