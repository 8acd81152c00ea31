"""Revisions as people read them, and the way back to one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from avatars.models import Agent, AgentAnswer, AgentRevision, Avatar, PipelineStep, Voice
from avatars.revisions import compare_snapshots, roll_back
from avatars.services import save_agent_revision, snapshot_agent
from molts.errors import BadInput
from projects.models import AuditEntry, Project
from tests.conftest import make_agent
from tests.forms import admin_url, messages_of
from tests.projects.world import make_provider_key
from tests.sessions.factories import make_session

SignIn = Callable[[User], Client]


def changed(agent: Agent, **fields: object) -> AgentRevision:
    for name, value in fields.items():
        setattr(agent, name, value)
    agent.save()
    return save_agent_revision(agent=agent)


def first(agent: Agent) -> AgentRevision:
    return agent.revisions.get(number=1)


# -- Reading ----------------------------------------------------------------------------------------------------------
def test_it_shows_old_and_new(agent: Agent) -> None:
    before = snapshot_agent(agent)
    after = changed(agent, greeting="Good day.", max_minutes=5).agent_snapshot

    changes = compare_snapshots(before=before, after=after, names={})

    assert [(change.label, change.old, change.new) for change in changes] == [
        ("Greeting", "Hello, this is Ada.", "Good day."),
        ("Longest conversation", "30 minutes", "5 minutes"),
    ]


def test_it_compares_long_texts_by_line(agent: Agent) -> None:
    changed(agent, knowledge="One.\nTwo.\nThree.")
    before = snapshot_agent(agent)
    after = changed(agent, knowledge="One.\nThree.\nFour.").agent_snapshot

    (change,) = compare_snapshots(before=before, after=after, names={})

    assert [(line.mark, line.text) for line in change.lines] == [
        (" ", "One."), ("-", "Two."), (" ", "Three."), ("+", "Four."),
    ]  # fmt: skip


def test_it_compares_two_thousand_changed_lines_at_once_and_says_where_it_ends(agent: Agent) -> None:
    text = "\n".join(f"Room {place} is open from nine to five on working days." for place in range(2_001))
    before = snapshot_agent(agent).model_copy(update={"knowledge": text})
    after = before.model_copy(update={"knowledge": text.replace("nine", "ten").replace("five", "six")})

    begun = time.monotonic()
    (change,) = compare_snapshots(before=before, after=after, names={})

    assert time.monotonic() - begun < 5, "minutes, if it looked for changed words too"
    assert Counter(line.mark for line in change.lines) == {"-": 2_000, "+": 2_000, "…": 1}
    assert change.lines[-1].text == "Only the first 2,000 lines are compared here."


def test_it_names_providers_and_keys(agent: Agent, project: Project) -> None:
    key = make_provider_key(project)
    before = snapshot_agent(agent)
    PipelineStep.objects.create(agent=agent, kind="llm", provider="openai", provider_key=key, options={"model": "big"})

    (change,) = compare_snapshots(before=before, after=snapshot_agent(agent), names={str(key.pk): key.name})

    assert (change.label, change.new) == ("Pipeline: language model", f"1. OpenAI: model big, key {key.name}")


def test_it_says_when_a_part_changed_under_the_same_name(agent: Agent) -> None:
    agent.avatar = Avatar.objects.create(project=agent.project, name="Face", portrait="portraits/a.png")
    before = changed(agent).agent_snapshot
    Avatar.objects.update(portrait="portraits/b.png")

    (change,) = compare_snapshots(before=before, after=snapshot_agent(Agent.objects.get()), names={})

    assert (change.label, change.new) == ("Avatar", "another one of the same name")


# -- Going back -------------------------------------------------------------------------------------------------------
def test_it_goes_back_to_everything_that_was(agent: Agent, bob: User, project: Project) -> None:
    agent.voice = Voice.objects.create(project=project, name="Low", provider="espeak")
    agent.avatar = Avatar.objects.create(project=project, name="Face", builtin="mira")
    key = make_provider_key(project)
    PipelineStep.objects.create(agent=agent, kind="llm", position=1, provider="openai", provider_key=key)
    PipelineStep.objects.create(agent=agent, kind="llm", position=2, provider="scripted", options={"delay_ms": 5})
    wanted = changed(agent, knowledge="It knows.")
    agent.pipeline_steps.all().delete()
    agent.answers.all().delete()
    changed(agent, name="Other", slug="other", voice=None, avatar=None, knowledge="", min_endpointing_ms=900)

    made = roll_back(revision=wanted, user=bob)

    assert made.snapshot == wanted.snapshot
    assert (made.number, made.created_by) == (4, bob)
    assert snapshot_agent(Agent.objects.get(pk=agent.pk)).as_json() == wanted.snapshot


def test_going_back_to_what_is_makes_nothing_new(agent: Agent) -> None:
    assert roll_back(revision=first(agent)) == first(agent)
    assert agent.revisions.count() == 1


def test_conversations_keep_their_revision(agent: Agent) -> None:
    session = make_session(agent)
    changed(agent, greeting="New.")
    roll_back(revision=first(agent))

    session.refresh_from_db()
    assert session.revision == first(agent)


def test_it_refuses_when_the_key_is_gone(agent: Agent, project: Project) -> None:
    key = make_provider_key(project)
    PipelineStep.objects.create(agent=agent, kind="llm", provider="openai", provider_key=key)
    old = save_agent_revision(agent=agent)
    agent.pipeline_steps.all().delete()
    key.delete()
    changed(agent, greeting="New.")

    with pytest.raises(BadInput, match="Language model, row 1: the key of this revision was deleted"):
        roll_back(revision=old)

    agent.refresh_from_db()
    assert agent.greeting == "New."
    assert agent.answers.count() == 1


@pytest.mark.parametrize("change", ["deleted", "changed"])
def test_it_refuses_when_the_voice_is_not_what_it_was(agent: Agent, project: Project, change: str) -> None:
    voice = Voice.objects.create(project=project, name="Low", provider="espeak")
    old = changed(agent, voice=voice)
    changed(agent, voice=None)
    if change == "deleted":
        voice.delete()
    else:
        Voice.objects.update(options={"pitch": 99})

    with pytest.raises(BadInput, match="The voice Low of this revision was deleted or changed since"):
        roll_back(revision=old)


def test_it_finds_no_voice_of_another_project(agent: Agent, project: Project, other_project: Project) -> None:
    voice = Voice.objects.create(project=project, name="Low", provider="espeak")
    old = changed(agent, voice=voice)
    changed(agent, voice=None)
    voice.delete()
    Voice.objects.create(project=other_project, name="Low", provider="espeak")

    with pytest.raises(BadInput, match="voice Low"):
        roll_back(revision=old)


def test_it_refuses_a_name_for_programs_that_another_agent_has_taken(agent: Agent, project: Project) -> None:
    changed(agent, slug="renamed")
    make_agent(project, "Ada")

    with pytest.raises(BadInput, match="does not fit any more"):
        roll_back(revision=first(agent))


# -- The page ---------------------------------------------------------------------------------------------------------
def page_of(revision: AgentRevision) -> str:
    return reverse("admin:avatars_agentrevision_roll_back", args=[revision.pk])


def test_an_editor_goes_back_after_being_asked(agent: Agent, bob: User, sign_in: SignIn) -> None:
    changed(agent, greeting="<b>New</b>")
    client = sign_in(bob)

    asked = client.get(page_of(first(agent))).content.decode()
    assert "&lt;b&gt;New&lt;/b&gt;" in asked
    assert agent.revisions.count() == 2, "asking changes nothing"
    response = client.post(page_of(first(agent)), follow=True)

    assert messages_of(response) == ["Ada is as in r1 again. It is saved as r3."]
    agent.refresh_from_db()
    assert agent.greeting == "Hello, this is Ada."
    assert AuditEntry.objects.filter(object_id=str(agent.pk), text="Rolled back to r1 as r3.", user=bob).exists()


def test_the_page_says_why_it_cannot_go_back(agent: Agent, project: Project, bob: User, sign_in: SignIn) -> None:
    voice = Voice.objects.create(project=project, name="Low", provider="espeak")
    old = changed(agent, voice=voice)
    changed(agent, voice=None)
    voice.delete()

    response = sign_in(bob).post(page_of(old))

    assert response.status_code == 409
    assert "The voice Low of this revision was deleted" in response.content.decode()


def test_a_viewer_and_a_stranger_cannot_go_back(
    agent: Agent, vera: User, charlie: User, other_project: Project, sign_in: SignIn
) -> None:
    changed(agent, greeting="New.")
    for ask in ("get", "post"):
        assert getattr(sign_in(vera), ask)(page_of(first(agent))).status_code == 403
        assert getattr(sign_in(charlie), ask)(page_of(first(agent))).status_code == 404
        assert getattr(Client(), ask)(page_of(first(agent))).status_code == 302
    assert agent.revisions.count() == 2


def test_the_revision_page_has_no_json(agent: Agent, bob: User, sign_in: SignIn) -> None:
    AgentAnswer.objects.create(agent=agent, question="Where?", answer="Here.")
    PipelineStep.objects.create(agent=agent, kind="llm", provider="scripted", options={"delay_ms": 5})
    revision = save_agent_revision(agent=agent)

    page = sign_in(bob).get(admin_url(AgentRevision, "change", revision.pk)).content.decode()

    assert "Where? → Here." in page
    assert "1. Scripted answers (no model needed): delay ms 5" in page
    assert "&quot;delay_ms&quot;" not in page
