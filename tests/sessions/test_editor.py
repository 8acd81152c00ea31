"""The agent's editor: rows with fields of their own, presets, defaults, and what stands beside the form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from avatars.models import Agent, AgentAnswer, Avatar, PipelineStep, Voice
from avatars.revisions import roll_back
from avatars.services import save_agent_revision
from projects.models import AuditEntry, Project
from projects.providers import providers_for
from projects.providers.base import Kind
from sessions.models import RoomLink
from tests.conftest import make_agent
from tests.forms import admin_url, form_data, form_errors, messages_of
from tests.projects.world import make_provider_key
from tests.sessions.factories import make_session

SignIn = Callable[[User], Client]


def edit(client: Client, agent: Agent, **changes: Any) -> Any:
    """Post the agent's page with `changes`; `__` in a name stands for `-`."""
    data = form_data(client.get(admin_url(Agent, "change", agent.pk)))
    data |= {name.replace("__", "-"): value for name, value in changes.items()}
    return client.post(admin_url(Agent, "change", agent.pk), data)


def row(place: int, **values: Any) -> dict[str, Any]:
    return {f"pipeline_steps__{place}__{name}": value for name, value in values.items()}


def page_of(client: Client, agent: Agent) -> str:
    return str(client.get(admin_url(Agent, "change", agent.pk)).content.decode())


# -- A new agent ------------------------------------------------------------------------------------------------------
def test_a_name_and_a_click_make_an_agent_that_works(project: Project, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    data = form_data(client.get(admin_url(Agent, "add"))) | {"name": "Nora Ümlaut"}

    response = client.post(admin_url(Agent, "add"), data)

    agent = Agent.objects.get()
    assert response["Location"].startswith(admin_url(Agent, "change", agent.pk))
    assert (agent.slug, agent.language, agent.greeting) == ("nora-umlaut", "en", "Hello! How can I help you today?")
    assert agent.revisions.count() == 1


def test_a_second_one_of_the_name_gets_another_slug(project: Project, agent: Agent, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    data = form_data(client.get(admin_url(Agent, "add"))) | {"name": "Ada"}

    assert client.post(admin_url(Agent, "add"), data).status_code == 302

    assert set(Agent.objects.values_list("slug", flat=True)) == {"ada", "ada-2"}


def test_a_language_from_elsewhere_stays_a_choice(agent: Agent, bob: User, sign_in: SignIn) -> None:
    Agent.objects.update(language="gsw")

    assert edit(sign_in(bob), agent, greeting="Grüezi.").status_code == 302

    agent.refresh_from_db()
    assert agent.language == "gsw"


# -- Two editors at once ----------------------------------------------------------------------------------------------
def test_what_someone_else_saved_is_not_overwritten_unasked(
    agent: Agent, alice: User, bob: User, sign_in: SignIn
) -> None:
    client, url = sign_in(bob), admin_url(Agent, "change", agent.pk)
    opened = client.get(url)
    number = re.search(r'<input type="hidden" name="seen_revision" value="(\d+)"', opened.content.decode())
    assert number is not None
    assert number[1] == "1"
    mine = form_data(opened) | {"greeting": "Bob's."}
    assert edit(sign_in(alice), agent, knowledge="Alice's.").status_code == 302

    page = client.post(url, mine).content.decode()

    assert f"{alice} saved this agent as r2 just now, while it was open here." in page
    agent.refresh_from_db()
    assert (agent.greeting, agent.knowledge) == ("Hello, this is Ada.", "Alice's.")
    assert re.search(r'<input type="checkbox"[^>]* name="overwrite" value="2"', page)
    assert '<input type="hidden" name="seen_revision" value="1"' in page, "only the tick lets it through"
    assert client.post(url, mine | {"overwrite": "2"}).status_code == 302
    agent.refresh_from_db()
    assert (agent.greeting, agent.knowledge) == ("Bob's.", "")
    assert client.post(url, mine | {"overwrite": "2"}).status_code == 200, "a tick is for what was there then"


def test_a_voice_that_was_set_up_anew_meanwhile_hinders_nobody(agent: Agent, bob: User, sign_in: SignIn) -> None:
    agent.voice = Voice.objects.create(project=agent.project, name="Low", provider="espeak")
    agent.save()
    save_agent_revision(agent=agent)
    client = sign_in(bob)
    mine = form_data(client.get(admin_url(Agent, "change", agent.pk))) | {"greeting": "Bob's."}
    Voice.objects.update(options={"pitch": 9})
    assert save_agent_revision(agent=agent).number == 3

    assert client.post(admin_url(Agent, "change", agent.pk), mine).status_code == 302


# -- The pipeline -----------------------------------------------------------------------------------------------------
def test_options_are_fields_made_from_the_providers_schema(agent: Agent, bob: User, sign_in: SignIn) -> None:
    PipelineStep.objects.create(
        agent=agent, kind="stt", position=1, provider="faster_whisper", options={"beam_size": 3}
    )

    page = page_of(sign_in(bob), agent)

    field = re.search(r'<input type="number" name="pipeline_steps-0-option_beam_size"[^>]*>', page)
    assert field is not None
    for part in ('value="3"', 'min="1"', 'max="10"', 'placeholder="1"'):
        assert part in field[0]
    assert "1 is fastest; 5 is a little more exact (1 to 10)." in page
    assert re.search(r'<select name="pipeline_steps-0-option_device"', page)
    assert "{&quot;" not in page.replace("data-prepopulated", "")


def test_every_provider_has_its_fields_on_the_page(agent: Agent, bob: User, sign_in: SignIn) -> None:
    page = page_of(sign_in(bob), agent)

    for kind in Kind:
        for provider in providers_for(kind):
            found = re.search(f'<template data-options-of="{kind.value}:{provider.key}">(.*?)</template>', page, re.S)
            assert found is not None
            for name in provider.options[kind].model_fields:
                assert f'name="__prefix__-option_{name}"' in found[1]


def test_it_stores_what_was_filled_in_and_nothing_else(agent: Agent, bob: User, sign_in: SignIn) -> None:
    values = {
        "kind": "tts", "position": "1", "provider": "espeak",
        "option_voice": "en-gb", "option_rate": "", "option_pitch": "0",
    }  # fmt: skip

    assert edit(sign_in(bob), agent, pipeline_steps__TOTAL_FORMS=1, **row(0, **values)).status_code == 302

    assert agent.pipeline_steps.get(provider="espeak").options == {"voice": "en-gb", "pitch": 0}


def chain(agent: Agent, kind: str) -> list[str]:
    return list(agent.pipeline_steps.filter(kind=kind).values_list("provider", flat=True))


def test_the_first_row_of_a_kind_keeps_what_served_until_then_below_it(
    agent: Agent, bob: User, sign_in: SignIn
) -> None:
    client = sign_in(bob)
    chosen = {"llm": "ollama", "stt": "pocketsphinx", "tts": "espeak"}
    rows = {
        name: value
        for at, (kind, provider) in enumerate(chosen.items())
        for name, value in row(at, kind=kind, position="1", provider=provider).items()
    }

    assert edit(client, agent, pipeline_steps__TOTAL_FORMS=3, **rows).status_code == 302

    assert chain(agent, "llm") == ["ollama", "scripted"]
    assert chain(agent, "stt") == ["pocketsphinx", "faster_whisper"], "what is chosen already is not added again"
    assert chain(agent, "tts") == ["espeak", "supertonic"]
    assert [rung["provider"] for rung in agent.revisions.all()[0].snapshot["pipeline"]["llm"]] == ["ollama", "scripted"]

    agent.pipeline_steps.filter(provider="scripted").delete()
    assert edit(client, agent, description="Without it.").status_code == 302
    assert chain(agent, "llm") == ["ollama"], "once removed it stays away"


def test_below_a_chosen_voice_stays_the_simplest_one(agent: Agent, bob: User, sign_in: SignIn) -> None:
    agent.voice = Voice.objects.create(project=agent.project, name="Warm", provider="supertonic")
    agent.save()
    chosen = row(0, kind="tts", position="1", provider="supertonic", option_voice="F2")

    assert edit(sign_in(bob), agent, pipeline_steps__TOTAL_FORMS=1, **chosen).status_code == 302

    assert chain(agent, "tts") == ["supertonic", "espeak"]


def test_another_provider_drops_the_options_of_the_old_one(agent: Agent, bob: User, sign_in: SignIn) -> None:
    PipelineStep.objects.create(agent=agent, kind="tts", provider="espeak", options={"rate": 100, "voice": "en"})

    changes = {"provider": "supertonic", "option_voice": "F2", "option_speed": "1.5"}
    assert edit(sign_in(bob), agent, **row(0, **changes)).status_code == 302

    step = agent.pipeline_steps.get()
    assert (step.provider, step.options) == ("supertonic", {"voice": "F2", "speed": 1.5})


def test_an_error_stands_at_its_field_of_its_row_and_at_its_tab(agent: Agent, bob: User, sign_in: SignIn) -> None:
    changes = row(0, kind="llm", position=1, provider="scripted") | row(
        1, kind="llm", position=2, provider="scripted", option_timezone="Moon/Base"
    )

    response = edit(sign_in(bob), agent, pipeline_steps__TOTAL_FORMS=2, **changes)

    assert list(form_errors(response)) == ["pipeline_steps-1-option_timezone"]
    page = response.content.decode()
    assert re.search(r'data-tab="pipeline" data-errors', page)
    assert 'id="id_pipeline_steps-1-option_timezone_error"' in page


def test_rows_keep_their_order_and_new_ones_go_last(agent: Agent, bob: User, sign_in: SignIn) -> None:
    changes = (
        row(0, kind="llm", position=2, provider="scripted", option_delay_ms=1)
        | row(1, kind="llm", position=1, provider="scripted", option_delay_ms=2)
        | row(2, kind="llm", position="", provider="scripted", option_delay_ms=3)
    )

    assert edit(sign_in(bob), agent, pipeline_steps__TOTAL_FORMS=3, **changes).status_code == 302

    assert [step.options["delay_ms"] for step in agent.pipeline_steps.all()] == [2, 1, 3]


def test_a_row_is_removed(agent: Agent, bob: User, sign_in: SignIn) -> None:
    PipelineStep.objects.create(agent=agent, kind="llm", provider="scripted")

    assert edit(sign_in(bob), agent, **row(0, DELETE="on")).status_code == 302

    assert not agent.pipeline_steps.exists()


def test_it_says_what_a_conversation_would_use(agent: Agent, bob: User, sign_in: SignIn) -> None:
    PipelineStep.objects.create(agent=agent, kind="llm", position=1, provider="openai")
    PipelineStep.objects.create(agent=agent, kind="llm", position=2, provider="scripted")

    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page_of(sign_in(bob), agent)))

    assert "Right now: Scripted answers (no model needed)" in page
    assert "Skipped: its key is not set. Add a provider key of this vendor and choose it here." in page


def test_a_viewer_sees_the_pipeline_without_fields(agent: Agent, vera: User, project: Project, sign_in: SignIn) -> None:
    key = make_provider_key(project)
    PipelineStep.objects.create(agent=agent, kind="llm", provider="openai", provider_key=key, options={"model": "big"})

    page = page_of(sign_in(vera), agent)

    assert f"1. OpenAI: model big, key {key.name}" in page
    assert "option_model" not in page
    assert "data-trial" not in page


def test_it_says_that_rows_were_changed_elsewhere(agent: Agent, bob: User, sign_in: SignIn) -> None:
    PipelineStep.objects.create(agent=agent, kind="llm", provider="scripted")
    wanted = save_agent_revision(agent=agent)
    client = sign_in(bob)
    data = form_data(client.get(admin_url(Agent, "change", agent.pk)))
    roll_back(revision=wanted)

    page = client.post(admin_url(Agent, "change", agent.pk), data).content.decode()

    assert page.count("This row was changed elsewhere meanwhile: load the page again.") == 2
    assert "Rows of this agent were changed elsewhere meanwhile. Nothing is saved: load the page again." in page
    assert "were changed elsewhere" not in page_of(client, agent)


# -- Turn-taking ------------------------------------------------------------------------------------------------------
def test_a_chosen_preset_sets_the_values(agent: Agent, bob: User, sign_in: SignIn) -> None:
    assert edit(sign_in(bob), agent, turn_preset="patient").status_code == 302

    agent.refresh_from_db()
    assert (agent.end_of_turn_model, agent.min_endpointing_ms, agent.max_endpointing_ms) == (True, 700, 4500)


def test_values_of_ones_own_stay(agent: Agent, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)

    assert edit(client, agent, min_endpointing_ms="555").status_code == 302

    agent.refresh_from_db()
    assert agent.min_endpointing_ms == 555
    page = page_of(client, agent)
    assert re.search(r'value="custom" checked', page)
    presets = re.search(r'<script id="turn-presets"[^>]*>(.*?)</script>', page)
    assert presets is not None
    assert json.loads(presets[1])["snappy"]["min_endpointing_ms"] == 250


# -- Knowledge --------------------------------------------------------------------------------------------------------
def ask(client: Client, question: str, **values: Any) -> Any:
    posted = {"question": question, "name": "Ada", "language": "en", **values}
    return client.post(reverse("admin:avatars_agent_ask"), posted)


def test_it_answers_from_rows_that_are_not_saved(bob: User, sign_in: SignIn) -> None:
    rows = {"asked": ["When are you open?", ""], "answered": ["From nine to five.", "lost"]}

    said = ask(sign_in(bob), "when are you open", **rows).json()

    assert said["answer"] == "From nine to five."
    assert said["sure"] == 100
    assert said["question"] == "When are you open?"


def test_an_agent_may_have_hundreds_of_answers(agent: Agent, bob: User, sign_in: SignIn) -> None:
    AgentAnswer.objects.bulk_create(
        AgentAnswer(agent=agent, position=place, question=f"Question {place}?", answer="Yes.")
        for place in range(2, 401)
    )

    assert edit(sign_in(bob), agent, answers__399__answer="No.").status_code == 302

    last = agent.answers.last()
    assert last is not None
    assert last.answer == "No."


@pytest.mark.parametrize(
    ("name", "limit"),
    [("instructions", 20_000), ("greeting", 2_000), ("knowledge", 200_000), ("answers-0-answer", 4_000)],
)
def test_a_text_may_be_so_long_and_no_longer(agent: Agent, bob: User, sign_in: SignIn, name: str, limit: int) -> None:
    client = sign_in(bob)

    errors = form_errors(edit(client, agent, **{name: "x" * (limit + 1)}))

    assert errors == {name: [f"Shorten this to {limit:,} characters; it has {limit + 1}."]}
    assert edit(client, agent, **{name: "x" * limit}).status_code == 302


def test_it_says_when_nothing_fits(bob: User, sign_in: SignIn) -> None:
    said = ask(sign_in(bob), "how deep is the ocean").json()

    assert (said["sure"], said["source"]) == (0, "nothing fits")


def test_it_asks_for_a_question(bob: User, sign_in: SignIn) -> None:
    response = ask(sign_in(bob), "  ")

    assert response.status_code == 400
    assert response.json()["errors"][0]["detail"] == "Write a question."


# -- Links and talking ------------------------------------------------------------------------------------------------
def test_it_lists_open_links_alone(agent: Agent, link: RoomLink, bob: User, sign_in: SignIn) -> None:
    over = RoomLink.objects.create(
        project=agent.project, agent=agent, name="Over", expires_at=timezone.now() - timedelta(hours=1)
    )

    page = page_of(sign_in(bob), agent)

    assert link.url in page
    assert over.url not in page


def test_it_says_which_revision_answers(agent: Agent, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    edit(client, agent, greeting="Hi.")

    page = page_of(client, agent)

    assert "r2 answers, saved just now." in re.sub(r"<[^>]+>", "", page)
    assert f'action="{reverse("trial-link", args=[agent.pk])}"' in page


def test_the_number_of_who_answers_is_asked_anew(
    agent: Agent, bob: User, vera: User, charlie: User, other_project: Project, sign_in: SignIn
) -> None:
    url = reverse("admin:avatars_agent_newest", args=[agent.pk])
    client = sign_in(bob)
    assert f'data-newest-url="{url}"' in page_of(client, agent)
    edit(client, agent, greeting="Hi.")

    assert sign_in(vera).get(url).json() == {"number": 2, "saved": "just now"}
    assert sign_in(charlie).get(url).status_code == 404
    assert Client().get(url).status_code == 302
    assert client.post(url).status_code == 405


def test_save_and_talk_comes_back_to_talk(agent: Agent, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)

    response = edit(client, agent, greeting="Hi.", _talk="1")

    assert response["Location"] == admin_url(Agent, "change", agent.pk)
    assert "data-refused" not in client.get(response["Location"]).content.decode()
    refused = edit(client, agent, name="", _talk="1").content.decode()
    assert "data-refused" in refused, "its script opens no trial of what was not saved"


def test_an_address_alone_opens_no_trial(agent: Agent, bob: User, sign_in: SignIn) -> None:
    """Whatever a link leads to, only a click on the page itself asks for a conversation."""
    client = sign_in(bob)
    plain, led = (client.get(admin_url(Agent, "change", agent.pk), query) for query in ({}, {"talk": "1"}))

    panels = [re.search(r"<aside[^>]*data-talk[^>]*>", page.content.decode()) for page in (plain, led)]
    assert panels[0] is not None
    assert panels[1] is not None
    assert panels[0][0] == panels[1][0]


def test_nobody_is_led_into_a_conversation_of_someone_else(
    agent: Agent, bob: User, vera: User, sign_in: SignIn
) -> None:
    single = RoomLink.objects.create(project=agent.project, agent=agent, one_session=True)
    trial = RoomLink.objects.create(project=agent.project, agent=agent, trial_by=bob)

    for user in (vera, bob):
        client = sign_in(user)
        pages = page_of(client, agent) + client.get(admin_url(Agent, "changelist")).content.decode()
        assert single.public_id not in pages
        assert trial.public_id not in pages
        assert "no open link" in pages


# -- The list ---------------------------------------------------------------------------------------------------------
def test_the_list_shows_how_much_an_agent_is_used(agent: Agent, bob: User, link: RoomLink, sign_in: SignIn) -> None:
    for age in (60, 3600, 30 * 86400):
        make_session(agent, age_seconds=age)
    make_agent(agent.project, "Unused")

    response = sign_in(bob).get(admin_url(Agent, "changelist"))

    rows = {row.name: row for row in response.context["cl"].result_list}
    assert rows["Ada"].recent_talks == 2
    assert rows["Unused"].recent_talks == 0
    assert rows["Unused"].last_talk_at is None
    page = response.content.decode()
    assert "1 minute ago" in page.replace("\xa0", " ")
    assert link.get_absolute_url() in page
    assert "no open link" in page


def test_the_list_offers_a_trial_to_editors_alone(agent: Agent, bob: User, vera: User, sign_in: SignIn) -> None:
    pages = [sign_in(user).get(admin_url(Agent, "changelist")).content.decode() for user in (bob, vera)]

    assert [">Talk</a>" in page for page in pages] == [True, False]


@pytest.mark.parametrize("order", ["1", "-5", "6", "-6"])
def test_the_list_can_be_put_in_order(agent: Agent, bob: User, sign_in: SignIn, order: str) -> None:
    make_session(agent)

    assert sign_in(bob).get(admin_url(Agent, "changelist"), {"o": order}).status_code == 200


def test_an_agent_is_duplicated_with_all_its_parts(agent: Agent, bob: User, sign_in: SignIn) -> None:
    agent.voice = Voice.objects.create(project=agent.project, name="Low", provider="espeak")
    agent.save()
    PipelineStep.objects.create(agent=agent, kind="llm", provider="scripted", options={"delay_ms": 5})
    client = sign_in(bob)

    response = client.post(reverse("admin:avatars_agent_duplicate", args=[agent.pk]), follow=True)

    copy = Agent.objects.exclude(pk=agent.pk).get()
    assert (copy.name, copy.slug, copy.voice) == ("Ada (copy)", "ada-copy", agent.voice)
    assert copy.answers.get().answer == "My name is Ada."
    assert copy.pipeline_steps.get().options == {"delay_ms": 5}
    assert agent.answers.count() == agent.pipeline_steps.count() == copy.revisions.count() == 1
    assert "Ada (copy)" in messages_of(response)[0]
    assert AuditEntry.objects.filter(object_id=str(copy.pk), text="Made as a copy of Ada.").exists()


def test_selected_agents_are_duplicated(agent: Agent, bob: User, sign_in: SignIn) -> None:
    data = {"action": "duplicate", "_selected_action": [str(agent.pk)]}
    client = sign_in(bob)

    for _ in range(2):
        assert client.post(admin_url(Agent, "changelist"), data).status_code == 302

    assert set(Agent.objects.values_list("slug", flat=True)) == {"ada", "ada-copy", "ada-copy-2"}


def test_only_an_editor_duplicates(
    agent: Agent, vera: User, charlie: User, other_project: Project, sign_in: SignIn
) -> None:
    url = reverse("admin:avatars_agent_duplicate", args=[agent.pk])

    assert sign_in(vera).post(url).status_code == 403
    assert sign_in(charlie).post(url).status_code == 404
    assert Client().post(url).status_code == 302
    assert Agent.objects.count() == 1


def test_every_door_that_writes_wants_a_post_with_a_token(agent: Agent, bob: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(bob)
    names = ("admin:avatars_agent_duplicate", "trial-link")

    for url in (*(reverse(name, args=[agent.pk]) for name in names), reverse("admin:avatars_voice_listen")):
        assert strict.get(url).status_code == 405
        assert strict.post(url).status_code == 403


@pytest.mark.parametrize("model", [Agent, Voice, Avatar])
def test_an_empty_list_names_the_next_step(project: Project, bob: User, sign_in: SignIn, model: Any) -> None:
    response = sign_in(bob).get(admin_url(model, "changelist"))

    assert response.context["cl"].model_admin.empty_text in response.content.decode().replace("&#x27;", "'")
    assert admin_url(model, "add") in response.content.decode()
