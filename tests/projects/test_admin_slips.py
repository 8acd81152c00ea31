"""What people ran into in the admin: a form sent twice, an address refused, counts and choices that disagreed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import ForeignKey, Model
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from avatars.models import Agent, Avatar, Voice
from molts.http import setting_that_allows
from projects.models import ApiKey, Member, Project, ProviderKey
from sessions.models import LiveSession, RoomLink, SessionNotice
from tests.conftest import make_agent
from tests.forms import admin_url as url
from tests.forms import form_data, form_errors, messages_of
from tests.projects.world import make, make_provider_key, make_session

SignIn = Callable[[User], Client]
PASSWORD = "quiet-harbour-9"
OLLAMA = "http://127.0.0.1:11434/v1"


# -- A form that is sent twice -----------------------------------------------------------------------------------------
def test_a_key_page_that_is_loaded_again_makes_no_second_key(project: Project, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    once = re.search(r'name="_once" value="([^"]+)"', client.get(url(ApiKey, "add")).content.decode())
    assert once
    form = {"project": str(project.pk), "name": "Robot", "_once": once[1]}

    first = client.post(url(ApiKey, "add"), form)
    again = client.post(url(ApiKey, "add"), form, follow=True)

    key = ApiKey.objects.get()
    assert key.prefix in first.content.decode()
    assert again.redirect_chain == [(url(ApiKey, "change", key.pk), 302)]
    assert "made already" in messages_of(again)[0]


def test_each_opened_form_makes_a_key_and_nobody_elses_mark_counts(
    project: Project, alice: User, root: User, sign_in: SignIn
) -> None:
    marks = []
    for user in (alice, alice, root):
        found = re.search(r'name="_once" value="([^"]+)"', sign_in(user).get(url(ApiKey, "add")).content.decode())
        assert found
        marks.append(found[1])
    client = sign_in(alice)

    for mark in (*marks, "forged"):
        assert client.post(url(ApiKey, "add"), {"project": str(project.pk), "name": "Robot", "_once": mark})
    assert ApiKey.objects.count() == 4


def test_every_other_form_that_makes_something_answers_with_another_page(
    project: Project, agent: Agent, alice: User, root: User, sign_in: SignIn
) -> None:
    """So that loading the page again repeats nothing."""
    key = make_provider_key(project)
    made: dict[type[Model], dict[str, Any]] = {
        Project: {"name": "New"},
        ProviderKey: {"project": project.pk, "name": "New", "provider": "openai", "secret": "sk-new-0123456789"},
        Voice: {"project": project.pk, "name": "New", "provider": "espeak"},
        Agent: {"project": project.pk, "name": "New"},
        RoomLink: {"agent": agent.pk, "name": "New"},
    }
    for model, values in made.items():
        client = sign_in(root if model is Project else alice)
        data = form_data(client.get(url(model, "add"))) | values
        assert client.post(url(model, "add"), data).status_code == 302, model
    client = sign_in(alice)
    revision = agent.revisions.get()
    link = RoomLink.objects.create(project=project, agent=agent)
    for page in (
        url(Agent, "duplicate", agent.pk),
        url(RoomLink, "revoke", link.pk),
        f"/admin/avatars/agentrevision/{revision.pk}/roll-back/",
        url(ProviderKey, "delete", key.pk),
    ):
        assert client.post(page, {"post": "yes"}).status_code == 302, page


# -- Addresses ---------------------------------------------------------------------------------------------------------
def add_key(client: Client, project: Project, provider: str, base_url: str) -> Any:
    data = {"project": str(project.pk), "name": "Own", "provider": provider, "base_url": base_url, "secret": "x" * 12}
    return client.post(url(ProviderKey, "add"), data)


def test_an_address_in_the_list_goes_on_in_the_next_line_after_a_slash(
    project: Project, alice: User, sign_in: SignIn
) -> None:
    ProviderKey.objects.create(project=project, name="Own", provider="vllm", base_url="https://a.example.org:8443/v1?<")
    html = sign_in(alice).get(url(ProviderKey, "changelist")).content.decode()
    assert "https:/<wbr>/<wbr>a.example.org:8443/<wbr>v1?&lt;" in html


@pytest.mark.parametrize(
    "typed", [OLLAMA, f"{OLLAMA}/", "http://127.0.0.1:11434", "http://localhost:11434/v1", "HTTP://LOCALHOST:11434/"]
)
def test_ollamas_own_address_may_be_typed(
    typed: str, project: Project, alice: User, sign_in: SignIn, settings: Settings
) -> None:
    settings.MOLTS_ALLOWED_NETWORKS = []
    assert add_key(sign_in(alice), project, "ollama", typed).status_code == 302
    assert ProviderKey.objects.get().base_url == OLLAMA


@pytest.mark.parametrize(
    ("provider", "typed"),
    [
        ("ollama", "http://127.0.0.1:11435/v1"),
        ("ollama", "http://127.0.0.1:11434/other"),
        ("llama_cpp", "http://127.0.0.1:8080/v1"),
        ("openai_compatible", OLLAMA),
        ("vllm", "http://192.168.1.20:8000/v1"),
    ],
)
def test_a_refused_address_says_who_may_allow_it_and_the_operator_how(
    provider: str, typed: str, project: Project, alice: User, root: User, sign_in: SignIn, settings: Settings
) -> None:
    settings.MOLTS_ALLOWED_NETWORKS = ["10.8.0.0/24"]
    (owners,) = form_errors(add_key(sign_in(alice), project, provider, typed))["base_url"]
    (operators,) = form_errors(add_key(sign_in(root), project, provider, typed))["base_url"]

    assert "Whoever runs this server can allow it" in owners
    assert "MOLTS_ALLOWED_NETWORKS" in owners
    assert "10.8.0.0" not in owners
    host = typed.split("/")[2].split(":")[0]
    assert operators.endswith(f"MOLTS_ALLOWED_NETWORKS=10.8.0.0/24,{host}")
    page = sign_in(alice).get(url(ProviderKey, "add")).content.decode()
    assert 'href="/docs/providers.html#keys-and-addresses"' in page
    settings.MOLTS_ALLOWED_NETWORKS = operators.rsplit("=", 1)[1].split(",")
    assert add_key(sign_in(alice), project, provider, typed).status_code == 302


def test_a_connection_test_tells_the_operator_what_a_refused_name_leads_to(
    project: Project, alice: User, root: User, sign_in: SignIn, settings: Settings
) -> None:
    settings.MOLTS_ALLOWED_NETWORKS = []
    key = make_provider_key(project)
    ProviderKey.objects.filter(pk=key.pk).update(provider="vllm", base_url="http://localhost:9/v1")
    address = f"/admin/projects/providerkey/{key.pk}/test/"

    def told(user: User) -> str:
        answer = sign_in(user).post(address, headers={"Accept": "application/json"}).json()
        return " ".join([answer["error"], *(result["text"] for result in answer["results"])])

    assert "127.0.0.1" not in told(alice)
    assert setting_that_allows("http://localhost:9/v1") in told(root)
    assert "127.0.0.1" in told(root)


# -- Signing in --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("user", "password", "words"),
    [
        ({}, PASSWORD, "you are in no project yet"),
        ({"is_staff": True, "is_active": False}, PASSWORD, "switched off"),
        ({}, "wrong", "enter the correct"),
        ({"is_active": False}, "wrong", "enter the correct"),
    ],
)
def test_a_right_password_is_not_called_wrong(
    user: dict[str, bool], password: str, words: str, client: Client, db: None, settings: Settings
) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "slips"}}
    User.objects.create_user("nina", None, PASSWORD, **user)

    page = client.post("/admin/login/", {"username": "nina", "password": password})

    assert words in str(page.context["form"].non_field_errors())


# -- Choices -----------------------------------------------------------------------------------------------------------
def test_choices_of_several_projects_say_whose_they_are(
    project: Project, other_project: Project, charlie: User, sign_in: SignIn
) -> None:
    """The page offers those of the chosen project alone; tests/avatars/test_editor_browser.py sees it do so."""
    Member.objects.create(project=project, user=charlie, role="owner")
    parts = [make(kind, one) for kind in (Voice, Avatar, ProviderKey) for one in (project, other_project)]
    client = sign_in(charlie)
    seen = set()
    for model in (Agent, Voice, Avatar):
        page = client.get(url(model, "add"))
        forms = [page.context["adminform"].form, *(each.formset.empty_form for each in _inlines(page))]
        for form in forms:
            for field in model._meta.fields:
                if isinstance(field, ForeignKey) and field.name in form.fields and field.name != "project":
                    seen.add(field.name)
                    html = str(form[field.name])
                    for part in parts:
                        if isinstance(part, field.related_model):
                            assert re.search(rf'value="{part.pk}"[^>]*data-project="{part.project_id}"', html)  # type: ignore[attr-defined]
    assert seen == {"voice", "avatar", "provider_key"}


def _inlines(page: Any) -> list[Any]:
    return list(page.context["inline_admin_formsets"])


def test_a_saved_object_is_offered_parts_of_its_own_project_alone(
    project: Project, other_project: Project, charlie: User, sign_in: SignIn
) -> None:
    Member.objects.create(project=project, user=charlie, role="owner")
    foreign = [make(kind, other_project) for kind in (Voice, Avatar, ProviderKey)]
    for model in (Agent, Voice, Avatar, RoomLink):
        page = sign_in(charlie).get(url(model, "change", make(model, project).pk)).content.decode()
        for part in foreign:
            assert f'value="{part.pk}"' not in page, (model, part)


def test_a_face_can_be_looked_at_before_its_project_is_chosen(
    project: Project, other_project: Project, root: User, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avatars.admin.faces.start_preview", lambda **_: "ticket")
    client = sign_in(root)
    data = form_data(client.get(url(Avatar, "add")))
    assert not data.get("project")

    answer = client.post("/admin/avatars/avatar/preview/", data)

    assert (answer.status_code, list(answer.json())) == (202, ["news"])


# -- Counts ------------------------------------------------------------------------------------------------------------
def test_first_page_lists_and_links_count_the_same_conversations(
    project: Project, agent: Agent, alice: User, vera: User, sign_in: SignIn
) -> None:
    link = RoomLink.objects.create(project=project, agent=agent, name="Door")
    trial = RoomLink.objects.create(project=project, agent=agent, trial_by=alice)
    made = [make_session(agent, link=link) for _ in range(3)] + [make_session(agent, link=trial)]
    made += [make_session(agent) for _ in range(2)]
    LiveSession.objects.filter(pk=made[4].pk).update(source="check", state="ended")
    LiveSession.objects.filter(pk=made[0].pk).update(state="failed", reason="agent_lost")
    LiveSession.objects.filter(pk=made[1].pk).update(created_at=timezone.now() - timedelta(days=10))
    SessionNotice.objects.create(session=made[2], level="warning", code="agent_late", text="Late.")
    client = sign_in(vera)

    def listed(address: str) -> int:
        return int(client.get(address).context["cl"].result_count)

    for span, held in (("24h", 3), ("7d", 3), ("30d", 4)):
        cards = {card.title: card for card in client.get(f"/admin/?range={span}").context["cards"]}
        assert cards["Conversations"].value == str(held)
        assert "2 trials or self checks not counted" in cards["Conversations"].note
        assert listed(cards["Conversations"].url) == held, span
        assert listed(cards["Failed"].url) == int(cards["Failed"].value) == 1
        assert f"in {listed(cards['Warnings'].url)} conversations" in cards["Warnings"].note
    assert listed(url(LiveSession, "changelist")) == 6
    agents = client.get(url(Agent, "changelist"))
    shown = re.search(r'href="(/admin/live_sessions/livesession/\?[^"]*)">(\d+)<', agents.content.decode())
    assert shown
    assert listed(shown[1].replace("&amp;", "&")) == int(shown[2]) == 3
    door = client.get(url(RoomLink, "change", link.pk)).context
    assert listed(door["share"]["conversations_url"]) == door["original"].total_count == 3


# -- The pages' scripts ------------------------------------------------------------------------------------------------
def test_every_page_without_a_form_has_the_words_that_the_themes_scripts_ask_for(
    project: Project, root: User, sign_in: SignIn
) -> None:
    client = sign_in(root)
    for model in admin.site._registry:
        thing = User.objects.create_user("lee") if model is User else make(model, project)
        client.get(url(model, "changelist"))  # the theme remembers filters of the last list for every page's scripts
        for name in ("change", "delete", "history"):
            page = client.get(url(model, name, thing.pk))
            if page.status_code == 200:
                assert page.content.decode().count("/admin/jsi18n/") == 1, (model, name)
    assert "/admin/jsi18n/" not in Client().get("/admin/login/").content.decode()


def test_a_viewer_is_shown_no_presets_to_choose(agent: Agent, vera: User, bob: User, sign_in: SignIn) -> None:
    assert 'name="turn_preset"' in sign_in(bob).get(url(Agent, "change", agent.pk)).content.decode()
    page = sign_in(vera).get(url(Agent, "change", agent.pk)).content.decode()
    assert 'name="turn_preset"' not in page
    assert "Preset: <b>" in page


def test_an_agent_of_a_chosen_project_begins_in_it(project: Project, alice: User, sign_in: SignIn) -> None:
    assert make_agent(project, "Ada")
    assert sign_in(alice).get(url(Agent, "add")).context["adminform"].form["project"].initial == project.pk


# -- A new object ------------------------------------------------------------------------------------------------------
def test_forms_of_new_objects_show_no_facts(project: Project, root: User, sign_in: SignIn) -> None:
    """There are none yet: a row "Created at: -" tells nobody anything."""
    client = sign_in(root)
    looked_at = set()
    for model in admin.site._registry:
        answer = client.get(url(model, "add"))
        if answer.status_code != 200:
            assert answer.status_code == 403  # nobody adds conversations, revisions or entries of the audit trail
            continue
        looked_at.add(model)
        sheets = [
            answer.context["adminform"],
            *(form for rows in answer.context["inline_admin_formsets"] for form in rows),
        ]
        for sheet in sheets:
            shown = [field for fieldset in sheet for line in fieldset for field in line if hasattr(field, "contents")]
            assert [field.field["name"] for field in shown] == [], model.__name__
    assert {Agent, Avatar, Voice, ProviderKey, ApiKey, Project, RoomLink, User} <= looked_at
