"""What people meet in the admin every day: where a save leads, what a refused one loses, what is in use and found."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils.html import escape
from pytest_django import Settings

from avatars.models import Agent, AgentRevision, Avatar, PipelineStep, Voice
from projects.models import ApiKey, AuditEntry, Project, ProviderKey
from projects.services import create_api_key
from sessions.models import LiveSession, RoomLink
from tests.forms import admin_url, form_data, form_errors, messages_of
from tests.projects.world import MAKERS, SECRET, make, make_provider_key, make_session

SignIn = Callable[[User], Client]


# -- A new project ---------------------------------------------------------------------------------------------------
def add_project(client: Client, name: str, **more: str) -> str:
    data = form_data(client.get(admin_url(Project, "add"))) | {"name": name, **more}
    response = client.post(admin_url(Project, "add"), data)
    assert response.status_code == 302, form_errors(response)
    return str(response["Location"])


def test_a_new_project_is_gone_to_and_shows_its_steps(agent: Agent, root: User, sign_in: SignIn) -> None:
    make_session(agent)  # all projects together are past the steps
    client = sign_in(root)
    assert client.get("/admin/").context["view"] == "figures"

    assert add_project(client, "Harbour House") == "/admin/"

    page = client.get("/admin/")
    assert page.context["chosen_project"].name == "Harbour House"
    steps = {step.title: step for step in page.context["steps"]}
    assert steps["Make a project"].done
    assert steps["Choose a face"].url == admin_url(Avatar, "add")
    assert [title for title, step in steps.items() if step.done] == ["Make a project"], "the new one's, not the others'"
    assert '<option value="">All projects</option>' in page.content.decode()
    assert client.get(admin_url(Agent, "changelist")).context["cl"].result_count == 0


@pytest.mark.parametrize("button", ["_continue", "_addanother"])
def test_other_ways_of_saving_choose_the_new_project_too(root: User, sign_in: SignIn, button: str) -> None:
    client = sign_in(root)
    assert add_project(client, "Harbour House", **{button: "1"}) != "/admin/"
    assert client.get("/admin/").context["chosen_project"].name == "Harbour House"


# -- Refused saves ---------------------------------------------------------------------------------------------------
def test_a_refused_key_says_that_the_secret_is_to_be_typed_again(
    project: Project, alice: User, sign_in: SignIn
) -> None:
    url = admin_url(ProviderKey, "add")
    client = sign_in(alice)
    data = form_data(client.get(url)) | {"project": str(project.pk), "provider": "openai", "name": "", "secret": SECRET}

    response = client.post(url, data)

    assert set(form_errors(response)) == {"name", "secret"}
    assert form_errors(response)["secret"] == ["What you typed here was not kept: type it again."]
    assert SECRET not in response.content.decode()
    nothing_typed = client.post(url, data | {"secret": "", "provider": "ollama"})
    assert set(form_errors(nothing_typed)) == {"name"}


def test_a_stored_secret_is_neither_sent_nor_said_to_be_lost(project: Project, alice: User, sign_in: SignIn) -> None:
    key = make_provider_key(project)
    client, url = sign_in(alice), admin_url(ProviderKey, "change", key.pk)
    page = client.get(url)
    response = client.post(url, form_data(page) | {"name": ""})
    assert set(form_errors(response)) == {"name"}
    assert SECRET not in page.content.decode() + response.content.decode()


def test_a_refused_user_says_that_the_password_is_to_be_typed_again(root: User, sign_in: SignIn) -> None:
    typed = {"username": "no spaces allowed", "usable_password": "true"} | dict.fromkeys(
        ("password1", "password2"), "quiet-harbour-9"
    )
    errors = form_errors(sign_in(root).post(admin_url(User, "add"), typed))
    assert set(errors) == {"username", "password1", "password2"}
    assert errors["password1"] == ["What you typed here was not kept: type it again."]


def test_a_refused_avatar_says_that_the_picture_is_to_be_chosen_again(
    project: Project, bob: User, sign_in: SignIn
) -> None:
    picture = SimpleUploadedFile("face.jpg", Path("tests/fixtures/portraits/hopper.jpg").read_bytes())
    client, url = sign_in(bob), admin_url(Avatar, "add")
    data = {"project": str(project.pk), "name": "", "engine": "portrait", "portrait": picture}
    response = client.post(url, data)
    assert "The chosen file was not kept: choose it again." in response.content.decode()


def test_the_page_of_a_user_shows_nothing_of_how_the_password_is_kept(root: User, sign_in: SignIn) -> None:
    nina = User.objects.create_user("nina", password="quiet-harbour-9")
    html = sign_in(root).get(admin_url(User, "change", nina.pk)).content.decode()
    assert "A password is set." in html
    assert reverse("admin:auth_user_password_change", args=[nina.pk]) in html
    assert not re.search(r"pbkdf2|md5|iterations|argon2|\bsalt\b|\bhash\b", html)
    nobody = User.objects.create_user("nobody")
    assert "A password is set." not in sign_in(root).get(admin_url(User, "change", nobody.pk)).content.decode()


# -- In use ----------------------------------------------------------------------------------------------------------
def test_a_key_in_use_names_and_links_its_agents(
    project: Project, agent: Agent, alice: User, other_agent: Agent, sign_in: SignIn
) -> None:
    key = make_provider_key(project)
    PipelineStep.objects.create(agent=agent, kind="llm", position=1, provider="openai", provider_key=key)
    PipelineStep.objects.create(agent=agent, kind="stt", position=1, provider="openai", provider_key=key)
    voice = Voice.objects.create(project=project, name="Calm <b>", provider="openai", provider_key=key)
    face = Avatar.objects.create(project=project, name="Mira", engine="heygen", provider_key=key)
    agent.voice, agent.avatar = voice, face
    agent.save()

    client, url = sign_in(alice), admin_url(ProviderKey, "delete", key.pk)
    html = client.get(url).content.decode()
    listed = re.findall(r"<li>((?:Agent|Voice|Avatar): .*?)</li>", html)

    of_agent = f'<a class="m-link" href="{admin_url(Agent, "change", agent.pk)}">Ada</a>'
    assert listed == [
        f"Agent: {of_agent}",
        f'Avatar: <a class="m-link" href="{admin_url(Avatar, "change", face.pk)}">Mira</a>, used by {of_agent}',
        f'Voice: <a class="m-link" href="{admin_url(Voice, "change", voice.pk)}">{escape("Calm <b>")}</a>, '
        f"used by {of_agent}",
    ]
    assert 'name="post"' not in html
    client.post(url, {"post": "yes"})
    assert ProviderKey.objects.filter(pk=key.pk).exists()


def test_a_voice_in_use_names_and_links_its_agents_in_bulk_too(
    project: Project, agent: Agent, alice: User, sign_in: SignIn
) -> None:
    agent.voice = voice = Voice.objects.create(project=project, name="Calm", provider="espeak")
    agent.save()
    client = sign_in(alice)
    link = f'href="{admin_url(Agent, "change", agent.pk)}">Ada</a>'
    assert link in client.get(admin_url(Voice, "delete", voice.pk)).content.decode()
    bulk = {"action": "delete_selected", "_selected_action": [str(voice.pk)]}
    assert link in client.post(admin_url(Voice, "changelist"), bulk).content.decode()


def test_a_key_that_nothing_uses_is_deleted(project: Project, alice: User, sign_in: SignIn) -> None:
    key = make_provider_key(project)
    client, url = sign_in(alice), admin_url(ProviderKey, "delete", key.pk)
    assert "is in use" not in client.get(url).content.decode()
    client.post(url, {"post": "yes"})
    assert not ProviderKey.objects.filter(pk=key.pk).exists()


# -- Revoking --------------------------------------------------------------------------------------------------------
def test_the_page_of_an_api_key_revokes_it(
    project: Project, alice: User, bob: User, sign_in: SignIn, client: Client
) -> None:
    key, plain = create_api_key(project=project, name="Program")
    owner, url = sign_in(alice), reverse("admin:projects_apikey_revoke", args=[key.pk])
    assert f'action="{url}"' in owner.get(admin_url(ApiKey, "change", key.pk)).content.decode()
    assert owner.get(url).status_code == 405
    assert sign_in(bob).post(url).status_code == 403

    done = owner.post(url, follow=True)

    assert messages_of(done) == ["The API key is revoked: it is refused from the next request on."]
    assert f'action="{url}"' not in done.content.decode(), "once is enough"
    assert client.get("/api/v1/agents", headers={"Authorization": f"Bearer {plain}"}).status_code == 401
    assert AuditEntry.objects.filter(object_id=str(key.pk), text="Revoked.").count() == 1


def test_nobody_revokes_the_api_key_of_another_project(
    project: Project, other_project: Project, alice: User, sign_in: SignIn
) -> None:
    key, _ = create_api_key(project=other_project, name="Program")
    assert sign_in(alice).post(reverse("admin:projects_apikey_revoke", args=[key.pk])).status_code == 404
    key.refresh_from_db()
    assert key.revoked_at is None


# -- Searching -------------------------------------------------------------------------------------------------------
@pytest.fixture
def search(alice: User, sign_in: SignIn, settings: Settings) -> Callable[[str], list[tuple[str, str, str]]]:
    """Title, kind and address of what alice finds."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "search"}}
    cache.clear()
    client = sign_in(alice)

    def find(words: str) -> list[tuple[str, str, str]]:
        html = client.get(reverse("admin:search"), {"s": words, "extended": "1"}).content.decode()
        found = re.findall(r'href="([^"]+)"\s+data-title="([^"]+)"\s+data-description="([^"]+)"', html)
        if not found:
            assert "No results" in html
            assert 'id="command-results-list"' in html, "the page's script takes this part alone"
        return [(title, kind, address) for address, title, kind in found]

    return find


def test_the_search_looks_into_titles_names_and_words(
    agent: Agent, other_agent: Agent, search: Callable[[str], list[tuple[str, str, str]]]
) -> None:
    Agent.objects.filter(pk=agent.pk).update(knowledge="The kitchen closes at ten.")
    talk, foreign = make_session(agent), make_session(other_agent)
    address = admin_url(LiveSession, "change", talk.pk)
    assert ("Provider keys", "Build", admin_url(ProviderKey, "changelist")) in search("provider")
    assert search("check this")[0][:2] == ("Check this browser", "Help")
    assert search("users") == [], "a page that alice may not open"
    assert [address for _, _, address in search("kitchen")] == [admin_url(Agent, "change", agent.pk)]
    for words in ("line 2 of ada", "vince"):
        ((title, kind, found),) = search(words)
        assert (kind, found) == ("Conversation", address)
        assert re.fullmatch(r"Ada with Vince, \d+ \w+ \d{4}, \d\d:\d\d", title)
    assert str(foreign.pk) not in str(search("line"))
    assert search("nobody ever said so") == []


def test_superusers_find_people_and_nobody_else_does(
    project: Project, alice: User, root: User, sign_in: SignIn, search: Callable[[str], list[tuple[str, str, str]]]
) -> None:
    assert {kind for _, kind, _ in search("alice")} == {"Project"}, "hers, by her membership"
    html = sign_in(root).get(reverse("admin:search"), {"s": "alice", "extended": "1"}).content.decode()
    assert admin_url(User, "change", alice.pk) in html


# -- Dates -----------------------------------------------------------------------------------------------------------
def test_every_page_names_its_zone_and_writes_dates_in_one_way(
    project: Project, link: RoomLink, alice: User, root: User, sign_in: SignIn
) -> None:
    client, other_way = (
        sign_in(root),
        re.compile(r"\d (?:a|p)\.m\.|\b\w{3}\. \d{1,2}, \d{4}|>[^<]*\b\d{4}-\d\d-\d\d \d"),
    )
    for model in MAKERS:
        obj = make(model, project)
        if model is Project:
            continue
        addresses = [admin_url(model, "changelist"), admin_url(model, "change", obj.pk)]
        for address in [*addresses, admin_url(model, "history", obj.pk), admin_url(Agent, "changelist"), "/admin/"]:
            html = client.get(address).content.decode()
            assert html.count("All times are UTC.") == 1, address
            assert not other_way.findall(html), address
    assert re.search(r"\d \w{3} \d{4}, \d\d:\d\d", client.get(admin_url(AgentRevision, "changelist")).content.decode())
