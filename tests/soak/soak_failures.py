"""Every kind of an agent's parts fails in every way, again and again in one talk, and recovers each time.

What fails at once is said within four seconds of the visitor's last word, in a sentence and in a notice. What hangs is
bridged within four seconds, and said once its deadline has passed. The question after it is answered as if nothing had
been. `MOLTS_SOAK_ROUNDS` says how often (20), `MOLTS_SOAK_CASES` which ones ("llm dead,tts hangs").
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

import pytest
from pytest_django import DjangoDbBlocker

from agent_runtime.apologies import apologies_for
from agent_runtime.db import DatabaseThread
from avatars.models import Agent, PipelineStep
from projects.models import ProviderKey
from projects.providers.base import Kind
from sessions import services
from sessions.choices import EndReason
from sessions.models import LiveSession, Segment, SessionNotice
from tests.agent_runtime.broken_vendor import DEAD, DONE, EMPTY, HANGS, KEY, PAGE, REFUSED, RunningBrokenVendor
from tests.agent_runtime.stack import Stack, running_stack
from tests.agent_runtime.talk import LOCAL_PIPELINE, PHONE, Desk, type_text
from tests.visitor import Visitor, synthesize

pytestmark = [pytest.mark.soak, pytest.mark.timeout(4 * 3600)]
ROUNDS = int(os.environ.get("MOLTS_SOAK_ROUNDS", "20"))
CHOSEN = [name.strip() for name in os.environ.get("MOLTS_SOAK_CASES", "").split(",") if name.strip()]
SAYS = apologies_for("en")
AT_ONCE = int(os.environ.get("MOLTS_SOAK_AT_ONCE", "3"))  # talks; each takes about a sixth of a core
SOON = 4.0
DEADLINE = 6.0
SLACK = 3.0  # after a deadline: a voice begins, a row is written
OPTIONS = {"llm": "first_chunk_timeout", "tts": "first_audio_timeout", "stt": "timeout"}
SENTENCES = {"llm": SAYS.cannot_answer, "tts": SAYS.cannot_speak, "stt": SAYS.cannot_hear}


@dataclass(frozen=True)
class Case:
    kind: str
    mood: str
    rungs: int = 1

    @property
    def name(self) -> str:
        return f"{self.kind} {self.mood}" + (f" x{self.rungs}" if self.rungs > 1 else "")


@dataclass
class Score:
    """Seconds after the visitor's last word, of each round."""

    sound: list[float] = field(default_factory=list)
    sentence: list[float] = field(default_factory=list)
    notice: list[float] = field(default_factory=list)
    back: int = 0


CASES = [
    *(Case("llm", mood, rungs) for mood in (DEAD, REFUSED, EMPTY, PAGE, DONE) for rungs in (1, 2)),
    *(Case(kind, mood) for kind in ("tts", "stt") for mood in (DEAD, REFUSED, EMPTY, PAGE)),
    *(Case(kind, HANGS) for kind in ("llm", "tts", "stt")),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("soak")
    with running_stack(folder, slots=4 * AT_ONCE) as stack:  # one that has ended still takes a place for seconds
        stack.start_worker()
        yield stack


def test_whatever_fails_is_said_in_time_and_comes_back(stack: Stack, django_db_blocker: DjangoDbBlocker) -> None:
    cases = [case for case in CASES if not CHOSEN or case.name in CHOSEN]
    with django_db_blocker.unblock(), stack.in_use():
        scores = asyncio.run(_talk_of_all(stack, cases))
    print("\n".join(["", f"{'case':24} of {ROUNDS}: said  back   sound     sentence  notice   (median/slowest, s)"]))
    for case in cases:
        print(_row(case.name, scores[case.name]))
    for case in cases:
        score = scores[case.name]
        assert len(score.sentence) == len(score.notice) == score.back == ROUNDS, case.name
        assert max(score.sound) <= SOON, case.name
        late = SOON if case.mood != HANGS else DEADLINE + SLACK
        assert max(score.sentence) <= late, case.name
        assert max(score.notice) <= late, case.name


async def _talk_of_all(stack: Stack, cases: list[Case]) -> dict[str, Score]:
    voice = synthesize("This is the voice from afar.", stack.folder / "afar.wav").read_bytes()
    scores: dict[str, Score] = {}
    places = asyncio.Semaphore(AT_ONCE)

    async def talk(case: Case) -> None:
        async with places:
            score = scores[case.name] = Score()
            try:
                with RunningBrokenVendor() as running:
                    running.vendor.audio = voice
                    await _talk(stack, running, case, score)
            except Exception as error:  # the others go on; what is missing fails the test in the end
                print(f"{case.name}: {error!r}", flush=True)
            print(_row(case.name, score), flush=True)

    await asyncio.gather(*map(talk, cases))
    return scores


async def _talk(stack: Stack, running: RunningBrokenVendor, case: Case, score: Score) -> None:
    database = DatabaseThread("soak")
    desk = Desk(stack, database)
    try:
        running.be("well")
        agent = await _make_agent(desk, running, case)
        session = await desk.begin(agent)
        async with desk.visitor(session) as visitor:
            await desk.until_agent_is(session, "listening")
            for _ in range(ROUNDS):
                await _break_and_mend(desk, running, visitor, session, case, score)
        assert (await desk.session(session)).is_live
        await desk.query(lambda: services.end_session(session_id=session.pk, reason=EndReason.ENDED_BY_API))
    finally:
        database.close()  # not the desk: it would wait until nobody talks any more


async def _make_agent(desk: Desk, running: RunningBrokenVendor, case: Case) -> Agent:
    pipeline = {kind: rungs for kind, rungs in LOCAL_PIPELINE.items() if kind != case.kind}
    agent = await desk.make_agent(pipeline=pipeline, greeting="")

    def add_rungs() -> None:
        key = ProviderKey(project=agent.project, name="afar", provider="openai_compatible", base_url=running.vendor.url)
        key.set_secret(KEY)
        key.save()
        options = {"model": "m"} | ({OPTIONS[case.kind]: DEADLINE} if case.mood == HANGS else {})
        for position in range(case.rungs):
            PipelineStep.objects.create(
                agent=agent,
                kind=Kind(case.kind),
                position=position,
                provider="openai_compatible",
                provider_key=key,
                options=options,
            )

    await desk.query(add_rungs)
    return agent


async def _break_and_mend(
    desk: Desk, running: RunningBrokenVendor, visitor: Visitor, session: LiveSession, case: Case, score: Score
) -> None:
    running.be(case.mood)
    lines, asked_at = await _ask(desk, visitor, session, case)
    score.sound.append(await visitor.wait_for_sound(asked_at + 0.05, timeout=SOON + DEADLINE) - asked_at)
    wanted = SENTENCES[case.kind]
    sentences = Segment.objects.filter(session=session, role="agent", seq__gt=lines, text__contains=wanted)
    notices = SessionNotice.objects.filter(session=session, code=f"{case.kind}_lost")
    await desk.until(f"{case.name}: the sentence", sentences.exists, seconds=DEADLINE + 20)
    await desk.until(f"{case.name}: the notice", lambda: notices.count() > len(score.notice), seconds=10)
    told = await desk.query(lambda: notices.order_by("-pk").first())
    assert told is not None
    assert KEY not in told.reason
    score.notice.append(told.created_at.timestamp() - asked_at)
    said = await desk.query(lambda: sentences.first())
    assert said is not None
    starts_with_it = said.text.startswith(wanted)
    begun = session.created_at.timestamp() + said.start_ms / 1000
    score.sentence.append((begun if starts_with_it else told.created_at.timestamp()) - asked_at)
    await visitor.wait_until_quiet(quiet=1.2)
    running.be("well")
    back = SessionNotice.objects.filter(session=session, code=f"{case.kind}_back", pk__gt=told.pk)
    for _ in range(3):  # a voice that was passed over is tried beside the next answer
        lines, asked_at = await _ask(desk, visitor, session, case)
        await visitor.wait_for_sound(asked_at + 0.05)
        await visitor.wait_until_quiet(quiet=1.2)
        if await desk.query(back.exists):
            score.back += 1
            return


async def _ask(desk: Desk, visitor: Visitor, session: LiveSession, case: Case) -> tuple[int, float]:
    """(lines so far, when the last word was said or sent)."""
    lines = (await desk.session(session)).last_seq
    if case.kind == "stt":
        return lines, await visitor.speak(desk.speech(PHONE))
    asked_at = time.time()  # before: the answer may sound before a busy loop learns that the line was sent
    await type_text(visitor, PHONE)
    return lines, asked_at


def _row(name: str, score: Score) -> str:
    def times(seconds: list[float]) -> str:
        return f"{median(seconds):.1f}/{max(seconds):.1f}" if seconds else "-"

    return (
        f"{name:24}        {len(score.sentence):4}  {score.back:4}   {times(score.sound):9} {times(score.sentence):9} "
        f"{times(score.notice)}"
    )
