"""What a job does apart from talking: who may serve which session, and what the visitor is told."""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from agent_runtime import entrypoint
from agent_runtime.entrypoint import Conversation, run_job
from avatars.models import Agent
from molts import beats, redact
from molts.errors import HIDDEN, BadConfiguration
from projects.providers.base import Credentials, KeyedRung, Kind
from projects.providers.chains import AvailabilityChange, BuiltRung
from sessions import presence, services
from sessions.models import LiveSession, SessionNotice
from sessions.presence import AgentBeat
from sessions.spec import FaceSpec, build_spec

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_redis")]


class Context:
    """A JobContext as far as the entry point looks at it before it joins the room."""

    def __init__(self, metadata: str) -> None:
        self.job = type("Job", (), {"metadata": metadata})()
        self.local_participant_identity = "agent-one"
        self.proc = type("Process", (), {"userdata": {}})()
        self.shut_down: list[str] = []
        self.callbacks: list[Any] = []

    def shutdown(self, reason: str = "") -> None:
        self.shut_down.append(reason)

    def add_shutdown_callback(self, callback: Any) -> None:
        self.callbacks.append(callback)


class FakeChain:
    """A chain whose rungs fail when a test says so."""

    def __init__(self, active: str) -> None:
        self.active = BuiltRung(0, active, None)
        self.callback: Any = None

    def on_change(self, callback: Any) -> None:
        self.callback = callback


@pytest.fixture
def session(agent: Agent) -> LiveSession:
    session = services._create_session(agent=agent, link=None, visitor_name="", source="link")
    LiveSession.objects.filter(pk=session.pk).update(dispatch_generation=2, claimed_generation=1)
    session.refresh_from_db()
    return session


@pytest.fixture
def unattached(session: LiveSession) -> Conversation:
    from agent_runtime.db import DatabaseThread

    context: Any = Context(str(session.pk))
    return Conversation(context=context, spec=build_spec(session), database=DatabaseThread())


@pytest_asyncio.fixture
async def conversation(unattached: Conversation) -> AsyncIterator[Conversation]:
    from livekit import rtc

    emitter: Any = rtc.EventEmitter()
    unattached._recorder.attach(emitter)
    yield unattached
    await unattached.aclose()


async def notices(conversation: Conversation) -> list[tuple[str, str, str]]:
    await conversation._recorder.aclose()
    return await conversation._database.run(
        lambda: list(SessionNotice.objects.order_by("pk").values_list("level", "code", "text"))
    )


def change(kind: Kind, failed: str, active: str | None, *, available: bool = False) -> AvailabilityChange:
    return AvailabilityChange(
        kind, BuiltRung(0, failed, None), available, BuiltRung(1, active, None) if active else None
    )


# -- who may serve -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("metadata", ["", "nonsense", "00000000-0000-4000-8000-000000000000"])
async def test_a_job_without_a_session_goes_away(metadata: str) -> None:
    context: Any = Context(metadata)
    await run_job(context)
    assert context.shut_down == ["no session to serve"]
    assert context.callbacks == []


async def test_a_job_beats_before_it_claims(conversation: Conversation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reconciler must never see a claimed session without a beat: it would call another agent."""
    generations: list[int | None] = []
    claim = services.claim_session

    def look_then_claim(**names: Any) -> bool:
        generations.append(presence.presence(names["session_id"]).agent_generation)
        return claim(**names)

    monkeypatch.setattr(services, "claim_session", look_then_claim)
    assert await conversation.claim()
    assert generations == [2]


async def test_a_job_that_comes_too_late_withdraws_its_beat(conversation: Conversation, session: LiveSession) -> None:
    await conversation._database.run(lambda: LiveSession.objects.filter(pk=session.pk).update(claimed_generation=2))
    assert not await conversation.claim()
    assert (await asyncio.to_thread(presence.presence, session.pk)).agent_generation is None


async def test_a_job_that_comes_too_late_leaves_the_beat_of_the_one_in_time(
    conversation: Conversation, session: LiveSession
) -> None:
    newer = str(AgentBeat(3, "agent-two"))
    await asyncio.to_thread(beats.client().set, presence.agent_key(session.pk), newer)
    await conversation._database.run(
        lambda: LiveSession.objects.filter(pk=session.pk).update(claimed_generation=3, dispatch_generation=3)
    )
    assert not await conversation.claim()
    assert await asyncio.to_thread(beats.client().get, presence.agent_key(session.pk)) == newer


async def test_a_secret_that_cannot_be_opened_ends_the_session_instead_of_calling_agents_forever(
    conversation: Conversation, session: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: uuid.UUID) -> None:
        raise BadConfiguration("A stored secret cannot be decrypted.")

    monkeypatch.setattr(entrypoint, "load_spec", unreadable)
    monkeypatch.setattr(services, "close_room", lambda **_: True)
    context: Any = Context(str(session.pk))
    await run_job(context)
    assert context.shut_down == ["no session to serve"]
    ended = await conversation._database.run(lambda: LiveSession.objects.get(pk=session.pk))
    assert (ended.state, ended.reason) == ("failed", "error")


async def test_the_keys_of_its_talk_are_known_in_all_threads_of_a_job(
    conversation: Conversation, session: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that were there before know nothing of what the one knows that opened them; this key is words."""
    monkeypatch.setattr(redact, "_live", redact.Redactor())
    rung = KeyedRung("openai_compatible", {}, Credentials(api_key="correct horse"))
    spec = await conversation._database.run(build_spec, session)
    face = FaceSpec("Mira", "liveavatar", {}, "", Credentials(api_key="battery staple"))
    spec = replace(spec, chains={**spec.chains, Kind.LLM: (rung,)}, face=face)
    monkeypatch.setattr(entrypoint, "load_spec", lambda _: spec)
    assert await entrypoint._load(str(session.pk), conversation._database) is spec
    shown = contextvars.Context().run(redact.hide_secrets, "a correct horse and a battery staple")
    assert shown == f"a {HIDDEN} and a {HIDDEN}"


async def test_an_agent_that_cannot_talk_as_it_is_set_up_ends_the_session(
    session: LiveSession, unattached: Conversation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unusable(*_: Any, **__: Any) -> None:
        raise BadConfiguration("Voice: nothing can serve.")

    monkeypatch.setattr(entrypoint, "build_pipeline", unusable)
    monkeypatch.setattr(services, "close_room", lambda **_: True)
    await unattached.start()
    context: Any = unattached._context
    assert context.shut_down == ["bad configuration"]
    ended = await unattached._database.run(lambda: LiveSession.objects.get(pk=session.pk))
    await unattached.aclose()
    assert (ended.state, ended.reason) == ("failed", "error")
    assert "Voice: nothing can serve." in caplog.text


# -- what the visitor is told ------------------------------------------------------------------------------------------
async def test_it_tells_when_a_part_falls_back_and_when_it_recovers(conversation: Conversation) -> None:
    chains = {Kind.STT: FakeChain("openai"), Kind.LLM: FakeChain("ollama"), Kind.TTS: FakeChain("openai")}
    pipeline: Any = type("Pipeline", (), {"chains": chains})()
    conversation._watch_chains(pipeline)
    chains[Kind.STT].callback(change(Kind.STT, "openai", "faster_whisper"))
    chains[Kind.LLM].callback(change(Kind.LLM, "ollama", "scripted"))
    chains[Kind.TTS].callback(change(Kind.TTS, "openai", None))
    chains[Kind.STT].callback(change(Kind.STT, "openai", "openai", available=True))
    told = await notices(conversation)
    assert [(level, code) for level, code, _ in told] == [
        ("warning", "stt_fallback"),
        ("warning", "llm_fallback"),
        ("warning", "tts_fallback"),
        ("info", "stt_fallback"),
    ]
    assert "Whisper on this machine" in told[0][2]
    assert told[2][2] == "The voice is out of service."


async def test_a_fallback_names_its_reason_to_admins_alone(conversation: Conversation) -> None:
    chain = FakeChain("openai")
    pipeline: Any = type("Pipeline", (), {"chains": {Kind.LLM: chain}})()
    conversation._watch_chains(pipeline)
    reason = "OpenAI: 401: Incorrect API key provided."
    chain.callback(replace(change(Kind.LLM, "openai", "scripted"), reason=reason))
    ((_, code, text),) = await notices(conversation)
    kept = await conversation._database.run(lambda: SessionNotice.objects.get().reason)
    assert (code, kept) == ("llm_fallback", reason)
    assert "401" not in text


async def test_it_says_once_that_a_simple_recogniser_listens(conversation: Conversation) -> None:
    chains = {Kind.STT: FakeChain("pocketsphinx")}
    pipeline: Any = type("Pipeline", (), {"chains": chains})()
    conversation._watch_chains(pipeline)
    chains[Kind.STT].callback(change(Kind.STT, "openai", "pocketsphinx"))
    chains[Kind.STT].callback(change(Kind.STT, "openai", "pocketsphinx"))
    codes = [code for _, code, _ in await notices(conversation)]
    assert codes.count("offline_recogniser") == 1
    assert codes.count("stt_fallback") == 2


async def test_it_takes_typed_words_as_fast_as_people_type_and_says_once_when_it_takes_no_more(
    conversation: Conversation,
) -> None:
    conversation._typing._seconds = 0.3
    assert [conversation._may_type() for _ in range(25)] == [True] * 20 + [False] * 5
    await asyncio.sleep(0.35)
    assert conversation._may_type()
    assert [code for _, code, _ in await notices(conversation)] == ["too_fast"]
