from __future__ import annotations

import json
import uuid

import pytest
from pytest_django import Settings

from avatars.models import Agent, PipelineStep, Voice
from molts.errors import BadConfiguration, NotFound
from projects.models import Project, ProviderKey
from projects.providers.base import PIPELINE, Kind
from sessions import lines, services
from sessions.models import LiveSession, Segment, Turn
from sessions.spec import HISTORY_SEGMENTS, build_spec, load_spec

pytestmark = pytest.mark.django_db
CANARY = "sk-canary-0123456789abcdef"


def make_key(project: Project, secret: str = CANARY) -> ProviderKey:
    key = ProviderKey(project=project, name="key", provider="openai", base_url="https://models.example/v1")
    key.set_secret(secret)
    key.save()
    return key


def begin(agent: Agent) -> LiveSession:
    return services._create_session(agent=agent, link=None, visitor_name="", source="link")


def test_it_opens_keys_in_memory_and_stores_none(agent: Agent) -> None:
    key = make_key(agent.project)
    agent.voice = Voice.objects.create(project=agent.project, name="Nova", provider="openai", provider_key=key)
    agent.save()
    PipelineStep.objects.create(agent=agent, kind="llm", provider="openai", provider_key=key)
    session = begin(agent)
    spec = load_spec(session.pk)
    assert spec.chains[Kind.LLM][0].credentials.api_key == CANARY
    assert spec.chains[Kind.LLM][0].credentials.base_url == "https://models.example/v1"
    assert spec.chains[Kind.TTS][0].credentials.api_key == CANARY
    assert CANARY not in json.dumps(LiveSession.objects.get(pk=session.pk).spec)
    assert CANARY not in repr(spec)


def test_it_does_not_open_a_key_of_another_project(agent: Agent, other_project: Project) -> None:
    foreign = make_key(other_project)
    session = begin(agent)
    session.spec["pipeline"]["llm"] = [{"provider": "openai", "options": {}, "provider_key": str(foreign.pk)}]
    session.save()
    (rung,) = load_spec(session.pk).chains[Kind.LLM]
    assert (rung.credentials.api_key, rung.credentials.base_url) == ("", "")


def test_a_key_that_was_deleted_meanwhile_leaves_the_rung_without_one(agent: Agent) -> None:
    session = begin(agent)
    session.spec["pipeline"]["llm"] = [{"provider": "openai", "options": {}, "provider_key": str(uuid.uuid4())}]
    session.save()
    assert load_spec(session.pk).chains[Kind.LLM][0].credentials.api_key == ""


def test_a_key_that_cannot_be_decrypted_is_an_error_that_says_what_to_do(agent: Agent, settings: Settings) -> None:
    from cryptography.fernet import Fernet

    key = make_key(agent.project)
    PipelineStep.objects.create(agent=agent, kind="llm", provider="openai", provider_key=key)
    session = begin(agent)
    settings.MOLTS_FIELD_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(BadConfiguration, match="MOLTS_FIELD_KEYS"):
        load_spec(session.pk)


def test_it_is_what_the_agent_was_at_the_start(agent: Agent) -> None:
    Agent.objects.filter(pk=agent.pk).update(
        greeting="Welcome.", min_endpointing_ms=300, max_endpointing_ms=1500, allow_interruptions=False
    )
    agent.refresh_from_db()
    session = begin(agent)
    Agent.objects.filter(pk=agent.pk).update(greeting="Changed.", min_endpointing_ms=900)
    spec = load_spec(session.pk)
    assert spec.persona.greeting == "Welcome."
    assert spec.persona.answers == (("What is your name?", "My name is Ada."),)
    assert spec.turn_taking.min_endpointing == 0.3
    assert spec.turn_taking.max_endpointing == 1.5
    assert not spec.turn_taking.allow_interruptions
    assert all(spec.chains[kind] for kind in PIPELINE)
    assert not spec.is_resumed


def test_a_replacement_is_told_the_latest_words_in_order(agent: Agent) -> None:
    session = begin(agent)
    for number in range(HISTORY_SEGMENTS + 5):
        role = "user" if number % 2 else "agent"
        line = {"segment_id": str(number), "role": role, "text": f"line {number}", "start_ms": 0, "end_ms": 0}
        Segment.objects.create(session=session, seq=number + 1, **line)
    Turn.objects.create(session=session, index=1)
    Turn.objects.create(session=session, index=7)
    LiveSession.objects.filter(pk=session.pk).update(dispatch_generation=3)
    session.refresh_from_db()
    spec = build_spec(session)
    assert [line.text for line in spec.history] == [f"line {number}" for number in range(5, HISTORY_SEGMENTS + 5)]
    assert spec.history[0].role == "user"
    assert (spec.last_turn, spec.generation, spec.is_resumed) == (7, 3, True)


def test_an_unknown_session_is_not_found() -> None:
    with pytest.raises(NotFound):
        load_spec(uuid.uuid4())


def test_a_replacement_is_told_which_lines_are_open(agent: Agent) -> None:
    """They are asked again, and must not stand twice before the model, whatever was said beside them."""
    session = begin(agent)
    said = (
        ("a1", "agent", "Hello."),
        ("u1", "user", "hi"),
        ("a2", "agent", "How are you?"),
        ("u2", "user", "how much"),
    )
    for seq, (name, role, text) in enumerate((*said, (lines.aside_id(), "agent", "One moment, please.")), start=1):
        line = {"segment_id": name, "role": role, "text": text, "start_ms": 0, "end_ms": 0}
        Segment.objects.create(session=session, seq=seq, **line)
    spec = build_spec(session)
    assert [line.text for line in spec.history if line.is_open] == ["how much"]
    assert [line.text for line in spec.answered_history] == ["Hello.", "hi", "How are you?", "One moment, please."]
