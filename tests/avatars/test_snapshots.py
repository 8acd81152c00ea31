"""Snapshots: as they are stored, and read whatever release stored them.

The files in `snapshots/` are what each version wrote of one agent, and with a session of it; `agent_later.json` is what
a later release might write.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from avatars.models import Agent, AgentAnswer, AgentRevision, Avatar, AvatarVersion, PipelineStep, Voice
from avatars.revisions import compare_snapshots, describe_snapshot, roll_back
from avatars.services import resolve_snapshot, save_agent_revision, snapshot_agent, snapshot_avatar
from avatars.snapshots import VERSION, AgentSnapshot, AvatarSnapshot, Rung, version_of
from projects.models import ProviderKey
from projects.providers.base import Kind
from sessions.services import _create_session
from sessions.spec import build_spec
from tests.sessions.factories import make_session

FILES = Path(__file__).parent / "snapshots"
KEY_ID = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")


def stored(name: str) -> Any:
    return json.loads((FILES / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def full(agent: Agent) -> Agent:
    """An agent with all that one can have: the one of the files."""
    project = agent.project
    key = ProviderKey(id=KEY_ID, project=project, name="Key", provider="openai")
    key.set_secret("sk-canary-0123456789")
    key.save()
    values = {
        "description": "Answers questions.",
        "language": "de",
        "instructions": "Be brief.\nBe kind.",
        "knowledge": "# Hours\nNine to five. ä é 你好",
        "voice": Voice.objects.create(
            project=project, name="Nova", provider="openai", options={"voice": "nova", "speed": 1.25}, provider_key=key
        ),
        "avatar": Avatar.objects.create(
            project=project,
            name="Photo",
            engine="portrait",
            options={"motion": 0.5, "marks": {"left_eye": [0.25, 0.5]}},
            portrait="portraits/photo.png",
        ),
        "end_of_turn_model": True,
        "min_endpointing_ms": 700,
        "max_endpointing_ms": 4500,
        "allow_interruptions": False,
        "max_minutes": 12,
        "silence_seconds": 0,
    }
    for name, value in values.items():
        setattr(agent, name, value)
    agent.save()
    AgentAnswer.objects.create(agent=agent, position=2, question="Where?\nWhich street?", answer="Here.")
    options = {"model": "big", "temperature": 0.5}
    PipelineStep.objects.create(
        agent=agent, kind="llm", position=1, provider="openai", provider_key=key, options=options
    )
    PipelineStep.objects.create(agent=agent, kind="llm", position=2, provider="scripted")
    return agent


# -- As they are stored -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["agent_2", "session_2", "agent_later"])
def test_a_round_trip_keeps_the_json(name: str) -> None:
    before = stored(name)

    after = AgentSnapshot.read(before).as_json()

    assert after == before
    if name != "agent_later":  # what this release does not know stands last
        assert json.dumps(after) == json.dumps(before), "in the same order too"


def test_a_round_trip_keeps_an_avatar() -> None:
    assert json.dumps(AvatarSnapshot.read(stored("avatar_2")).as_json()) == json.dumps(stored("avatar_2"))


@pytest.mark.django_db
def test_it_stores_what_it_always_stored(full: Agent) -> None:
    revision = save_agent_revision(agent=full)
    assert json.dumps(revision.snapshot) == json.dumps(stored("agent_2"))
    assert full.avatar is not None
    assert json.dumps(snapshot_avatar(full.avatar).as_json()) == json.dumps(stored("avatar_2"))
    session = _create_session(agent=full, link=None, visitor_name="", source="link")
    assert json.dumps(session.spec) == json.dumps(stored("session_2"))
    revision.refresh_from_db()
    assert revision.snapshot == stored("agent_2")
    assert save_agent_revision(agent=full) == revision


def test_a_snapshot_cannot_be_changed() -> None:
    snapshot = AgentSnapshot.read(stored("agent_2"))
    with pytest.raises(ValidationError):
        snapshot.name = "Other"
    with pytest.raises(ValidationError):
        snapshot.pipeline["llm"][0].provider = "other"


# -- Every version that was ever stored -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "version"), [("agent_1", 1), ("session_1", 1), ("agent_2", 2), ("session_2", 2), ("agent_later", 3)]
)
def test_it_knows_the_version_by_what_is_stored(name: str, version: int) -> None:
    assert version_of(stored(name)) == version


def test_every_version_before_this_one_has_its_file() -> None:
    assert {version_of(stored(path.stem)) for path in FILES.glob("agent_[0-9].json")} == set(range(1, VERSION + 1))


@pytest.mark.parametrize("name", ["agent_1", "agent_2", "agent_later"])
def test_every_version_says_the_same_of_an_agent(name: str) -> None:
    snapshot = AgentSnapshot.read(stored(name))

    assert (snapshot.name, snapshot.language, snapshot.greeting) == ("Ada", "de", "Hello, this is Ada.")
    assert snapshot.answers[1] == ("Where?\nWhich street?", "Here.")
    assert snapshot.voice is not None
    assert snapshot.voice.rung == Rung(
        provider="openai", options={"voice": "nova", "speed": 1.25}, provider_key=str(KEY_ID)
    )
    assert snapshot.avatar is not None
    assert (snapshot.avatar.engine, snapshot.avatar.portrait) == ("portrait", "portraits/photo.png")
    assert [rung.provider for rung in snapshot.steps(Kind.LLM)] == ["openai", "scripted"]
    assert snapshot.steps(Kind.STT) == ()
    assert (snapshot.turn.min_endpointing_ms, snapshot.turn.allow_interruptions) == (700, False)
    assert (snapshot.limits.max_minutes, snapshot.limits.silence_seconds) == (12, 0)


def test_a_row_that_lacks_parts_is_read_as_far_as_it_goes() -> None:
    """Only its name may be wanted, for a list."""
    snapshot = AgentSnapshot.read({"name": "Ada", "limits": {}})
    assert (snapshot.name, snapshot.voice, snapshot.limits.silence_seconds) == ("Ada", None, 0)


@pytest.mark.django_db
def test_a_revision_of_version_1_is_shown_compared_and_gone_back_to(full: Agent) -> None:
    Avatar.objects.update(options={})  # there were none to set
    full.refresh_from_db()
    revision = save_agent_revision(agent=full)
    AgentRevision.objects.update(snapshot=stored("agent_1"))
    revision.refresh_from_db()
    assert save_agent_revision(agent=full) == revision, "nothing changed since"
    assert compare_snapshots(before=revision.agent_snapshot, after=snapshot_agent(full), names={}) == []
    assert "Photo" in describe_snapshot(snapshot=revision.agent_snapshot, names={})["Avatar"]
    full.greeting = "Other."
    full.save()
    save_agent_revision(agent=full)

    made = roll_back(revision=revision)

    assert made.snapshot == AgentSnapshot.read(stored("agent_1")).as_json()
    assert version_of(made.snapshot) == VERSION


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["session_1", "session_2"])
def test_a_conversation_of_every_version_is_resolved(full: Agent, name: str) -> None:
    session = make_session(full, spec=stored(name))

    spec = build_spec(session)

    assert spec.persona.answers[0] == ("What is your name?", "My name is Ada.")
    assert [rung.provider for rung in spec.chains[Kind.TTS]] == ["openai", "espeak"]
    assert spec.chains[Kind.LLM][0].credentials.api_key == "sk-canary-0123456789"
    assert spec.turn_taking.max_endpointing == 4.5
    assert spec.face is not None
    assert spec.face.engine == "portrait"


# -- What a later release stored --------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_what_is_not_known_here_is_stored_again_with_a_conversation(agent: Agent) -> None:
    later = stored("agent_later")

    spec = resolve_snapshot(AgentSnapshot.read(later)).as_json()

    assert spec["tools"] == later["tools"]
    assert spec["version"] == 3
    assert spec["limits"]["budget_usd"] == "2.50"
    assert spec["avatar"]["identity"] == "id-1"
    assert spec["pipeline"]["image"] == later["pipeline"]["image"]
    assert spec["pipeline"]["llm"] == later["pipeline"]["llm"]
    assert [rung["provider"] for rung in spec["pipeline"]["stt"]] == ["faster_whisper", "pocketsphinx"]


@pytest.mark.django_db
def test_an_avatar_of_every_version_is_read(full: Agent) -> None:
    assert full.avatar is not None
    for content in (stored("avatar_2"), stored("agent_1")["avatar"]):
        version = AvatarVersion(avatar=full.avatar, number=1, snapshot=content)
        assert (version.avatar_snapshot.name, version.avatar_snapshot.engine) == ("Photo", "portrait")
