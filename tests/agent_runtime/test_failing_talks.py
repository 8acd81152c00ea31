"""Whole conversations in which a part of the agent does not answer: what the visitor hears, reads and is told."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from agent_runtime.apologies import apologies_for
from avatars.models import Agent, PipelineStep
from projects.models import ProviderKey
from projects.providers.base import Kind
from sessions.models import LiveSession, Segment, SessionNotice
from tests.agent_runtime.broken_vendor import ANSWER, DEAD, HANGS, KEY, REFUSED, RunningBrokenVendor
from tests.agent_runtime.talk import PHONE, Desk, same_words, type_text

pytestmark = pytest.mark.slow
SAYS = apologies_for("en")


@pytest.fixture
def running() -> Iterator[RunningBrokenVendor]:
    with RunningBrokenVendor() as running:
        yield running


async def make_agent(
    desk: Desk, kind: str, url: str, *, provider: str = "openai_compatible", secret: str = KEY
) -> Agent:
    agent = await desk.make_agent(pipeline={k: v for k, v in _LOCAL.items() if k != kind})

    def add() -> None:
        key = ProviderKey(project=agent.project, name="afar", provider=provider, base_url=url)
        if secret:
            key.set_secret(secret)
        key.save()
        PipelineStep.objects.create(
            agent=agent,
            kind=Kind(kind),
            position=0,
            provider=provider,
            provider_key=key,
            options={"model": "m"},
        )

    await desk.query(add)
    return agent


_LOCAL = {"stt": ("faster_whisper",), "llm": ("scripted",), "tts": ("espeak",)}


async def notices(desk: Desk, session: LiveSession) -> list[tuple[str, str, str]]:
    told = SessionNotice.objects.filter(session=session).values_list("level", "code", "reason")
    return await desk.query(lambda: list(told))


async def test_a_talk_with_a_model_that_is_refused_goes_on_by_itself_once_it_is_not(
    desk: Desk, running: RunningBrokenVendor
) -> None:
    running.be(REFUSED)
    session = await desk.begin(await make_agent(desk, "llm", running.vendor.url))
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        end = await visitor.speak(desk.speech(PHONE))
        await visitor.wait_for_sound(end)
        said = await desk.until_said(session, 3)
        await visitor.wait_until_quiet()
        running.be("well")
        await type_text(visitor, "When does the train leave?")
        said = await desk.until_said(session, 5)
        await desk.until("the notice", lambda: session.notices.filter(code="llm_back").exists())
    assert same_words(said[1][1], PHONE)
    assert said[2] == ("agent", SAYS.cannot_answer)
    assert said[3:] == [("user", "When does the train leave?"), ("agent", ANSWER)]
    first, second = await notices(desk, session)
    assert first[:2] == ("error", "llm_lost")
    assert first[2].startswith("OpenAI-compatible server: 401: Incorrect API key provided: ")
    assert KEY not in first[2]
    assert second == ("info", "llm_back", "")
    assert (await desk.session(session)).is_live


async def test_a_visitor_may_speak_on_while_a_model_hangs(desk: Desk, running: RunningBrokenVendor) -> None:
    running.be(HANGS)
    session = await desk.begin(await make_agent(desk, "llm", running.vendor.url))
    async with desk.visitor(session) as visitor:
        await visitor.wait_until_quiet()
        sent = time.time()
        await type_text(visitor, "hello")
        await visitor.wait_for_sound(sent + 0.5)  # "One moment"
        running.be("well")
        await type_text(visitor, "When does the train leave?")
        await desk.until(
            "the answer", lambda: Segment.objects.filter(session=session, role="agent", text=ANSWER).exists()
        )
    assert await notices(desk, session) == []


@pytest.mark.soak
async def test_a_voice_that_is_dead_from_the_start_is_heard_in_another_voice(
    desk: Desk, running: RunningBrokenVendor
) -> None:
    running.be(DEAD)
    session = await desk.begin(await make_agent(desk, "tts", running.vendor.url))
    async with desk.visitor(session) as visitor:
        await visitor.wait_for_sound(0)
        await desk.until("the greeting", lambda: Segment.objects.filter(session=session).count() >= 2)
    assert await desk.said(session) == [("agent", SAYS.cannot_speak), ("agent", "Hello, this is Ada.")]
    ((level, code, reason),) = await notices(desk, session)
    assert (level, code) == ("warning", "tts_lost")
    assert reason.startswith("OpenAI-compatible server: ")


@pytest.mark.soak
async def test_an_agent_whose_only_model_has_no_key_says_so_before_it_leaves(desk: Desk) -> None:
    session = await desk.begin(await make_agent(desk, "llm", "", provider="openai", secret=""))
    async with desk.visitor(session) as visitor:
        await visitor.wait_for_sound(0)
        await desk.until("the end", lambda: LiveSession.objects.filter(pk=session.pk, state="failed").exists())
        await desk.until("the words", lambda: Segment.objects.filter(session=session).exists())
    assert await desk.said(session) == [("agent", SAYS.cannot_answer)]
    ((level, code, reason),) = await notices(desk, session)
    assert (level, code) == ("error", "llm_lost")
    assert "needs an API key" in reason
    assert (await desk.session(session)).reason == "error"
