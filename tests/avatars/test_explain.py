"""What a conversation would use right now, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from avatars.explain import ChainState, describe_rung, explain_pipeline
from avatars.models import Agent, PipelineStep, Voice
from avatars.snapshots import Rung
from projects.models import Project, ProviderKey
from projects.providers.base import Kind
from tests.projects.world import SECRET, make_provider_key


@pytest.fixture(autouse=True)
def _nothing_fetched(settings: Settings, tmp_path: Path) -> None:
    settings.MOLTS_DATA_DIR = tmp_path
    settings.MOLTS_WHISPER_MODEL = ""


def chain(agent: Agent, kind: str) -> ChainState:
    return next(chain for chain in explain_pipeline(agent=agent) if chain.kind == kind)


def add_step(agent: Agent, provider: str, key: ProviderKey | None = None, **options: Any) -> None:
    position = agent.pipeline_steps.count() + 1
    PipelineStep.objects.create(
        agent=agent, kind="llm", position=position, provider=provider, provider_key=key, options=options
    )


def test_the_first_rung_that_can_serve_does(agent: Agent) -> None:
    hears = chain(agent, "stt")

    assert [(rung.state, rung.label.split()[0]) for rung in hears.rungs] == [
        ("skipped", "Whisper"),
        ("serves", "PocketSphinx"),
    ]
    assert hears.rungs[0].reason == "Whisper model base is not here"
    assert hears.rungs[0].fix == "Ask whoever runs this server to set it up.", "editors set no variables"
    assert "usual parts" in hears.why


def test_the_rungs_below_wait(agent: Agent, project: Project) -> None:
    add_step(agent, "openai", make_provider_key(project), temperature=0.5)
    add_step(agent, "scripted")

    thinks = chain(agent, "llm")

    assert [rung.state for rung in thinks.rungs] == ["serves", "next"]
    assert thinks.rungs[0].details == f"model gpt-4.1-mini, temperature 0.5, key Vendor of {project.name}"
    assert SECRET not in str(thinks)


@pytest.mark.parametrize(
    ("provider", "options", "reason"),
    [
        ("openai", {}, "its key is not set"),
        ("vllm", {"model": "m"}, "its base URL is not set"),
        ("scripted", {"delay_ms": 9999}, "delay_ms"),
        ("gone_vendor", {}, "no provider 'gone_vendor'"),
    ],
)
def test_it_says_why_a_rung_is_skipped(agent: Agent, provider: str, options: dict[str, Any], reason: str) -> None:
    add_step(agent, provider, **options)

    thinks = chain(agent, "llm")

    assert thinks.rungs[0].state == "skipped"
    assert reason in thinks.rungs[0].reason
    assert not thinks.serves


def test_a_key_that_cannot_be_decrypted_is_a_reason(agent: Agent, project: Project) -> None:
    key = make_provider_key(project)
    ProviderKey.objects.filter(pk=key.pk).update(secret_cipher="broken")
    add_step(agent, "openai", key)

    assert chain(agent, "llm").rungs[0].state == "skipped"


def test_a_server_without_a_model_is_skipped(agent: Agent, project: Project) -> None:
    key = ProviderKey.objects.create(project=project, name="Box", provider="vllm", base_url="http://box:8000/v1")
    add_step(agent, "vllm", key)

    assert chain(agent, "llm").rungs[0].reason == "no model is chosen"


def test_the_voice_speaks_first(agent: Agent) -> None:
    agent.voice = Voice.objects.create(project=agent.project, name="Low", provider="espeak", options={"pitch": 20})
    agent.save()

    speaks = chain(agent, "tts")

    assert speaks.rungs[0].details == "pitch 20"
    assert "The voice Low speaks first" in speaks.why


def test_a_deleted_key_is_named_as_such() -> None:
    rung = Rung(provider="openai", provider_key="no-such-id")

    assert describe_rung(Kind.LLM, rung, {}) == "OpenAI: model gpt-4.1-mini, key a key that no longer exists"
