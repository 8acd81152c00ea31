from __future__ import annotations

import json
import threading

import pytest
from django.contrib.auth.models import User
from django.db import connection

from avatars.models import Agent, AgentAnswer, AgentRevision, Avatar, PipelineStep, Voice
from avatars.services import (
    default_pipeline,
    resolve_pipeline,
    save_agent_revision,
    snapshot_agent,
    validate_agent,
    validate_rung,
)
from avatars.snapshots import Rung
from molts.errors import BadInput
from projects.models import Project, ProviderKey
from projects.providers import get_provider
from projects.providers.base import Kind


def make_key(project: Project, provider: str = "openai") -> ProviderKey:
    key = ProviderKey(project=project, name="Key", provider=provider)
    key.set_secret("sk-canary-0123456789")
    key.save()
    return key


def chains(agent: Agent) -> dict[Kind, tuple[Rung, ...]]:
    return resolve_pipeline(snapshot=snapshot_agent(agent))


def test_it_snapshots_the_documented_keys_as_plain_json(agent: Agent) -> None:
    agent.voice = Voice.objects.create(project=agent.project, name="Low", provider="espeak", options={"voice": "en-us"})
    agent.avatar = Avatar.objects.create(project=agent.project, name="Face", builtin="mira")
    agent.save()

    snapshot = snapshot_agent(agent).as_json()

    assert json.loads(json.dumps(snapshot)) == snapshot
    assert snapshot["answers"] == [["What is your name?", "My name is Ada."]]
    assert snapshot["voice"] == {
        "name": "Low",
        "provider": "espeak",
        "options": {"voice": "en-us"},
        "provider_key": None,
    }
    assert snapshot["avatar"] == {
        "name": "Face",
        "engine": "puppet",
        "options": {},
        "provider_key": None,
        "builtin": "mira",
        "portrait": "",
    }
    assert snapshot["limits"] == {"max_minutes": 30, "silence_seconds": 120}
    assert set(snapshot) == {
        "name", "slug", "description", "language", "instructions", "greeting", "knowledge", "answers",
        "voice", "avatar", "pipeline", "turn", "limits",
    }  # fmt: skip


def test_it_keeps_no_secret_in_a_snapshot(agent: Agent) -> None:
    key = make_key(agent.project)
    PipelineStep.objects.create(agent=agent, kind="llm", provider="openai", provider_key=key, options={"model": "m"})

    text = json.dumps(save_agent_revision(agent=agent).snapshot)

    assert str(key.pk) in text
    assert "canary" not in text
    assert key.secret_cipher not in text
    assert key.last_four not in text


def test_it_runs_on_local_parts_when_nothing_was_chosen(agent: Agent) -> None:
    assert chains(agent) == default_pipeline()
    assert [rung.provider for rung in default_pipeline()[Kind.STT]] == ["faster_whisper", "pocketsphinx"]
    assert [rung.provider for rung in default_pipeline()[Kind.LLM]] == ["scripted"]
    assert [rung.provider for rung in default_pipeline()[Kind.TTS]] == ["supertonic", "espeak"]


def test_it_replaces_the_default_of_a_kind_by_the_agents_steps_in_order(agent: Agent) -> None:
    PipelineStep.objects.create(agent=agent, kind="llm", position=2, provider="scripted")
    PipelineStep.objects.create(agent=agent, kind="llm", position=1, provider="ollama", options={"model": "small"})

    pipeline = chains(agent)

    assert [rung.provider for rung in pipeline[Kind.LLM]] == ["ollama", "scripted"]
    assert pipeline[Kind.LLM][0].options == {"model": "small"}
    assert pipeline[Kind.STT] == default_pipeline()[Kind.STT]


def test_it_lets_the_voice_speak_first(agent: Agent) -> None:
    agent.voice = Voice.objects.create(project=agent.project, name="Cloud", provider="openai", options={"voice": "x"})
    assert [rung.provider for rung in chains(agent)[Kind.TTS]] == ["openai", "espeak"]

    PipelineStep.objects.create(agent=agent, kind="tts", provider="supertonic")
    assert [rung.provider for rung in chains(agent)[Kind.TTS]] == ["openai", "supertonic"]


def test_it_does_not_fall_from_a_voice_to_the_same_voice(agent: Agent) -> None:
    agent.voice = Voice.objects.create(project=agent.project, name="Robot", provider="espeak", options={"voice": "en"})

    assert [rung.options for rung in chains(agent)[Kind.TTS]] == [{"voice": "en"}]


def test_it_numbers_changes_and_skips_saves_without_any(agent: Agent, alice: User) -> None:
    first = agent.revisions.get()
    assert first.number == 1
    assert save_agent_revision(agent=agent).pk == first.pk

    AgentAnswer.objects.create(agent=agent, position=2, question="How old are you?", answer="New.")
    second = save_agent_revision(agent=agent, user=alice)
    assert (second.number, second.created_by) == (2, alice)

    agent.answers.filter(position=2).delete()
    third = save_agent_revision(agent=agent)
    assert third.number == 3
    assert third.snapshot == first.snapshot


def test_it_snapshots_what_is_stored_not_what_is_in_memory(agent: Agent) -> None:
    agent.greeting = "Never saved."

    assert save_agent_revision(agent=agent).number == 1


@pytest.mark.django_db(transaction=True)
def test_it_numbers_revisions_once_when_many_save_at_a_time(project: Project) -> None:
    agent = Agent.objects.create(project=project, name="Race", slug="race")
    workers, errors = 8, []
    barrier = threading.Barrier(workers)

    def change_and_save(index: int) -> None:
        try:
            barrier.wait(timeout=10)
            AgentAnswer.objects.create(agent=agent, position=index, question=f"Question {index}?", answer="Yes.")
            save_agent_revision(agent=agent)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=change_and_save, args=(index,)) for index in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert errors == []
    numbers = list(AgentRevision.objects.filter(agent=agent).order_by("number").values_list("number", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))
    assert 1 <= len(numbers) <= workers
    last = AgentRevision.objects.get(agent=agent, number=numbers[-1])
    assert len(last.snapshot["answers"]) == workers


def test_it_accepts_an_agent_as_it_is_made(agent: Agent) -> None:
    validate_agent(agent)


def test_it_refuses_a_wait_that_ends_before_it_begins(agent: Agent) -> None:
    agent.min_endpointing_ms, agent.max_endpointing_ms = 2000, 500

    with pytest.raises(BadInput) as caught:
        validate_agent(agent)
    assert caught.value.attr == "max_endpointing_ms"


def test_it_refuses_parts_of_another_project(agent: Agent, other_project: Project) -> None:
    agent.voice = Voice.objects.create(project=other_project, name="Theirs", provider="espeak")

    with pytest.raises(BadInput) as caught:
        validate_agent(agent)
    assert caught.value.attr == "voice"


@pytest.mark.parametrize(
    ("provider", "options", "attr", "words"),
    [
        ("nobody", {}, "provider", "Known providers"),
        ("faster_whisper", {}, "provider", "cannot be used for voice"),
        ("espeak", {"no_such_option": 1}, "options.no_such_option", "no_such_option"),
        ("espeak", [], "options", "JSON object"),
    ],
)
def test_it_says_which_field_of_a_step_to_mend(
    project: Project, provider: str, options: dict[str, object], attr: str, words: str
) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        validate_rung(project_id=project.pk, kind=Kind.TTS, provider=provider, options=options, provider_key=None)
    assert caught.value.attr == attr


def test_it_asks_for_the_key_a_provider_needs(project: Project) -> None:
    if not get_provider("openai").needs_key:
        pytest.fail("openai is the example of a provider that needs a key")
    with pytest.raises(BadInput, match="needs a key") as caught:
        validate_rung(project_id=project.pk, kind=Kind.LLM, provider="openai", options={}, provider_key=None)
    assert caught.value.attr == "provider_key"


def test_it_refuses_a_key_for_another_vendor_or_project(project: Project, other_project: Project) -> None:
    for key in (make_key(project, provider="groq"), make_key(other_project)):
        with pytest.raises(BadInput) as caught:
            validate_rung(project_id=project.pk, kind=Kind.LLM, provider="openai", options={}, provider_key=key)
        assert caught.value.attr == "provider_key"
