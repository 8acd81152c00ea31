"""The frame of the admin: sidebar, project choice, empty lists, histories, audit trail, users."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, reverse
from pytest_django import Settings

from avatars.models import Agent
from molts.admin.frame import CHECK_URL, DOCS_URL, GREEN, PAPER
from projects.audit import record_action
from projects.choices import MemberRole
from projects.models import ApiKey, AuditEntry, Member, Project, ProviderKey
from projects.services import add_member
from sessions.models import RoomLink
from tests.forms import admin_url, form_data, form_errors, messages_of

SignIn = Callable[[User], Client]
PASSWORD = "quiet-harbour-9"
NEW_USER = {"username": "nina", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}


def sidebar(client: Client) -> dict[str, str]:
    groups = client.get("/admin/").context["sidebar_navigation"]
    return {item["title"]: str(item["link"]) for group in groups for item in group["items"] if item["has_permission"]}


# -- Sidebar ---------------------------------------------------------------------------------------------------------
def test_every_page_of_the_sidebar_opens(project: Project, root: User, alice: User, sign_in: SignIn) -> None:
    for user in (root, alice):
        client = sign_in(user)
        pages = sidebar(client)
        assert ("Users" in pages) is user.is_superuser
        for title, url in pages.items():
            if url not in (DOCS_URL, CHECK_URL):
                assert client.get(url).status_code == 200, title


def test_it_marks_where_one_is_and_asks_the_database_little(project: Project, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    client.get(admin_url(Agent, "changelist"))
    with CaptureQueriesContext(connection) as queries:
        html = client.get(admin_url(Agent, "changelist")).content.decode()
    assert html.count('aria-current="page"') == 1
    assert len(queries) <= 11


def test_the_style_sheets_name_what_the_pages_hold(
    project: Project, agent: Agent, alice: User, sign_in: SignIn
) -> None:
    """The theme's own overlays and buttons are restyled by name; a new version of it may rename them."""
    noscript = Path("static/src/admin/noscript.css").read_text()
    page = sign_in(alice).get(admin_url(Agent, "changelist")).content.decode()
    assert '<noscript><link rel="stylesheet" href="/static/src/admin/noscript.css"></noscript>' in page
    assert '[x-data="searchCommand()"]' in noscript
    assert 'x-data="searchCommand()"' in page
    assert "#changelist-filter" in noscript
    assert 'id="changelist-filter"' in page

    frame = Path("static/src/admin/frame.css").read_text()
    form = sign_in(alice).get(admin_url(Agent, "change", agent.pk)).content.decode().split('id="submit-row"')[1]
    assert "#submit-row .flex-col-reverse" in frame
    assert "flex-col-reverse" in form
    assert "#submit-row a.bg-red-600" in frame
    assert "bg-red-600" in form
    assert form.index('name="_save"') < form.index("bg-red-600"), "shown in this order where the row is a column"


def test_its_colours_are_those_of_the_room_page(project: Project, alice: User, sign_in: SignIn) -> None:
    """The style sheets read the palette; the theme takes colours as figures, and has to be given them once more."""
    page = sign_in(alice).get("/admin/").content.decode()
    assert page.index("/static/dist/palette.css") < page.index("/static/src/admin/frame.css")

    palette = Path("static/src/shared/palette.css").read_text()
    shared = {
        "paper": (PAPER, "50 100 200 500 800 900 950"),
        "green": (GREEN, "100 300 400 500 600 700 900 950"),
    }
    for name, (colours, steps) in shared.items():
        for step in steps.split():
            assert f": {colours[step]};" in palette, f"{name} {step}"


def test_every_colour_that_its_style_sheets_read_is_there() -> None:
    palette = Path("static/src/shared/palette.css").read_text()
    sheets = "".join(sheet.read_text() for sheet in Path("static/src/admin").glob("*.css"))
    named = set(re.findall(r"(--[a-z0-9-]+):", palette + sheets))
    read = set(re.findall(r"var\((--[a-z0-9-]+)\)", sheets))  # not those with a value for when it is unset
    assert {name for name in read - named if not name.startswith("--color-")} == set(), "the theme's own apart"


def test_the_path_above_a_page_says_what_the_sidebar_says(project: Project, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    for model, title in ((Agent, "Agents"), (ProviderKey, "Provider keys"), (RoomLink, "Links")):
        path = client.get(admin_url(model, "changelist")).content.decode().split("<h1")[1].split("</h1>")[0]
        words = [word.strip() for word in re.findall(r"<a [^>]*>([^<]*)</a>", path)]
        assert words == [title]


def test_staff_in_no_project_sees_no_pages(db: None, sign_in: SignIn) -> None:
    stranger = User.objects.create_user("stranger", is_staff=True)
    assert set(sidebar(sign_in(stranger))) == {"Start", "Documentation", "Check this browser", "REST API"}


def test_a_copy_says_which_one_it_is(project: Project, alice: User, sign_in: SignIn, settings: Settings) -> None:
    client = sign_in(alice)
    assert client.get("/admin/").context["environment"] is None
    settings.MOLTS_INSTANCE = "staging"
    assert client.get("/admin/").context["environment"] == ["staging", "info"]


def test_the_search_finds_the_own_alone(
    agent: Agent, other_agent: Agent, alice: User, sign_in: SignIn, settings: Settings
) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "search"}}
    cache.clear()
    client = sign_in(alice)
    html = client.get(reverse("admin:search"), {"s": "a", "extended": "1"}).content.decode()
    assert "Ada" in html
    assert "Bruno" not in html
    assert "Avatars - " not in html
    assert 'data-description="Agent"' in html, "the kind, as people call it"
    assert client.get(reverse("admin:search"), {"s": "ada", "page": "x"}).status_code == 404
    assert client.get(reverse("admin:search"), {"s": "ada", "page": "99"}).status_code == 404


# -- Project choice --------------------------------------------------------------------------------------------------
@pytest.fixture
def two_projects(alice: User, agent: Agent, other_agent: Agent) -> Project:
    """Alice also edits project B, which is chosen."""
    add_member(project=other_agent.project, user=alice, role=MemberRole.EDITOR)
    return other_agent.project


def test_the_chosen_project_narrows_lists_filters_and_new_objects(
    two_projects: Project, agent: Agent, other_agent: Agent, alice: User, sign_in: SignIn
) -> None:
    client = sign_in(alice)
    agents = admin_url(Agent, "changelist")
    assert set(client.get(agents).context["cl"].result_list) == {agent, other_agent}

    response = client.post(reverse("admin:choose_project"), {"project": str(two_projects.pk), "next": agents})

    assert response["Location"] == agents
    page = client.get(agents)
    assert list(page.context["cl"].result_list) == [other_agent]
    assert page.context["chosen_project"] == two_projects
    assert client.get(admin_url(Agent, "add")).context["adminform"].form["project"].initial == two_projects.pk
    assert "Ada" not in client.get(admin_url(RoomLink, "changelist")).content.decode()
    assert client.get(admin_url(Agent, "change", agent.pk)).status_code == 200, "its own page opens still"


def test_one_project_needs_no_choice(project: Project, alice: User, sign_in: SignIn) -> None:
    assert 'id="project-choice"' not in sign_in(alice).get("/admin/").content.decode()


@pytest.mark.parametrize("project_id", ["nonsense", "00000000-0000-4000-8000-000000000000"])
def test_it_refuses_what_is_no_project_of_ones_own(
    two_projects: Project, alice: User, sign_in: SignIn, project_id: str
) -> None:
    client = sign_in(alice)
    assert client.post(reverse("admin:choose_project"), {"project": project_id}).status_code == 404
    assert client.get(reverse("admin:choose_project")).status_code == 405


def test_a_choice_ends_with_the_membership(two_projects: Project, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    client.post(reverse("admin:choose_project"), {"project": str(two_projects.pk)})
    Member.objects.filter(project=two_projects, user=alice).delete()
    assert client.get("/admin/").context["chosen_project"] is None


def test_it_leads_to_no_other_site(two_projects: Project, alice: User, sign_in: SignIn) -> None:
    data = {"project": "", "next": "https://example.org/"}
    assert sign_in(alice).post(reverse("admin:choose_project"), data)["Location"] == "/admin/"


# -- Empty lists -----------------------------------------------------------------------------------------------------
def test_an_empty_list_says_what_it_is_for(project: Project, alice: User, vera: User, sign_in: SignIn) -> None:
    url = admin_url(ProviderKey, "changelist")
    html = sign_in(alice).get(url).content.decode()
    assert "No provider keys yet" in html
    assert "Agents talk without any" in html
    assert admin_url(ProviderKey, "add") in html
    assert admin_url(ProviderKey, "add") not in sign_in(vera).get(url).content.decode()


def test_a_search_without_a_find_is_told_apart_from_an_empty_list(
    project: Project, alice: User, sign_in: SignIn
) -> None:
    ProviderKey.objects.create(project=project, name="Main", provider="openai")
    html = sign_in(alice).get(admin_url(ProviderKey, "changelist"), {"q": "nothing-like-it"}).content.decode()
    assert "Nothing matches" in html
    assert "No keys yet" not in html


# -- History and audit trail -----------------------------------------------------------------------------------------
def test_saves_actions_and_deletions_are_noted(project: Project, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    client.post(admin_url(ApiKey, "add"), {"project": str(project.pk), "name": "Robot"})
    key = ApiKey.objects.get()
    client.post(admin_url(ApiKey, "change", key.pk), {"name": "Android"})
    for _ in range(2):
        client.post(admin_url(ApiKey, "changelist"), {"action": "revoke", "_selected_action": str(key.pk)})
    history = client.get(admin_url(ApiKey, "history", key.pk))
    client.post(admin_url(ApiKey, "delete", key.pk), {"post": "yes"})

    entries = list(AuditEntry.objects.order_by("created_at"))
    assert [(entry.action, entry.text) for entry in entries] == [
        ("add", "Added."),
        ("change", "Changed Name."),
        ("act", "Revoked."),
        ("delete", "Deleted."),
    ], "a key that was revoked already is not revoked again"
    assert {(entry.user_name, entry.project, entry.object_id) for entry in entries} == {("alice", project, str(key.pk))}
    assert [entry.text for entry in history.context["action_list"]] == ["Revoked.", "Changed Name.", "Added."]


def test_a_secret_is_in_no_entry(project: Project, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    secret = "sk-canary-1234567890"
    data = {"project": str(project.pk), "name": "Main", "provider": "openai", "secret": secret}
    assert client.post(admin_url(ProviderKey, "add"), data).status_code == 302
    key = ProviderKey.objects.get()
    page = admin_url(ProviderKey, "change", key.pk)
    assert client.post(page, form_data(client.get(page)) | {"secret": f"{secret}-2"}).status_code == 302
    texts = [entry.text for entry in AuditEntry.objects.order_by("created_at")]
    assert texts == ["Added.", "Changed secret."]


def test_the_trail_is_searched_filtered_and_kept(
    project: Project,
    agent: Agent,
    other_agent: Agent,
    alice: User,
    bob: User,
    charlie: User,
    root: User,
    sign_in: SignIn,
) -> None:
    record_action(request_user=bob, obj=agent, text="Rolled back to revision 1.")
    record_action(request_user=alice, obj=agent.project, text="Looked <b>around</b>.")
    record_action(request_user=charlie, obj=other_agent, text="Elsewhere.")
    record_action(request_user=root, obj=root, text="Of no project.")
    client = sign_in(alice)
    url = admin_url(AuditEntry, "changelist")

    html = client.get(url).content.decode()
    assert "Looked &lt;b&gt;around&lt;/b&gt;." in html
    assert "Elsewhere" not in html
    assert "Of no project" not in html
    assert "Of no project" in sign_in(root).get(url).content.decode()
    assert [entry.user_name for entry in client.get(url, {"q": "rolled"}).context["cl"].result_list] == ["bob"]
    assert client.get(url, {"action__exact": "delete"}).context["cl"].result_count == 0

    bob.delete()
    assert "bob" in client.get(url).content.decode(), "the name outlives the user"


# -- Users -----------------------------------------------------------------------------------------------------------
def test_a_superuser_adds_a_user_who_then_becomes_a_member(project: Project, root: User, sign_in: SignIn) -> None:
    client = sign_in(root)
    response = client.post(admin_url(User, "add"), NEW_USER, follow=True)
    assert response.status_code == 200
    nina = User.objects.get(username="nina")
    assert nina.check_password(PASSWORD)
    assert "add them to a project" in client.get(admin_url(User, "change", nina.pk)).content.decode()

    add_member(project=project, user=nina, role=MemberRole.VIEWER)
    assert "Project A" in client.get(admin_url(User, "change", nina.pk)).content.decode()
    assert Client().login(username="nina", password=PASSWORD)
    assert AuditEntry.objects.filter(object_name="nina", action="add").exists()


def test_a_new_superuser_may_sign_in(root: User, sign_in: SignIn) -> None:
    sign_in(root).post(admin_url(User, "add"), NEW_USER)
    nina = User.objects.get(username="nina")
    page = admin_url(User, "change", nina.pk)
    client = sign_in(root)
    response = client.post(page, form_data(client.get(page)) | {"is_superuser": "on", "is_active": "on"}, follow=True)
    assert response.status_code == 200
    nina.refresh_from_db()
    assert (nina.is_superuser, nina.is_staff, nina.is_active) == (True, True, True)


def test_nobody_takes_their_own_rights_away(root: User, sign_in: SignIn) -> None:
    client = sign_in(root)
    page = admin_url(User, "change", root.pk)
    client.post(page, form_data(client.get(page)))
    root.refresh_from_db()
    assert root.is_superuser
    assert root.is_active
    assert client.post(admin_url(User, "delete", root.pk), {"post": "yes"}).status_code == 403


def test_whom_a_project_needs_stays(project: Project, alice: User, bob: User, root: User, sign_in: SignIn) -> None:
    client = sign_in(root)
    page, delete = admin_url(User, "change", alice.pk), admin_url(User, "delete", alice.pk)

    data = {name: value for name, value in form_data(client.get(page)).items() if name != "is_active"}
    assert "Nobody else owns Project A." in str(form_errors(client.post(page, data))["is_active"])
    assert "Project A (make another member its owner first)" in client.get(delete).content.decode()
    client.post(delete, {"post": "yes"})
    both = {"action": "delete_selected", "_selected_action": [alice.pk, bob.pk], "post": "yes"}
    client.post(admin_url(User, "changelist"), both)
    assert User.objects.filter(pk__in=[alice.pk, bob.pk], is_active=True).count() == 2

    Member.objects.filter(user=bob).update(role=MemberRole.OWNER)
    client.post(admin_url(User, "changelist"), both)
    assert User.objects.filter(pk__in=[alice.pk, bob.pk]).count() == 2, "one of the two has to stay"
    User.objects.filter(pk=bob.pk).update(is_active=False)
    client.post(delete, {"post": "yes"})
    assert User.objects.filter(pk=alice.pk).exists(), "an owner who cannot sign in is none"
    User.objects.filter(pk=bob.pk).update(is_active=True)
    assert client.post(page, data).status_code == 302
    assert client.post(delete, {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=alice.pk).exists()


def test_a_users_history_is_on_their_page(root: User, bob: User, sign_in: SignIn) -> None:
    client = sign_in(root)
    page = admin_url(User, "change", bob.pk)
    client.post(page, form_data(client.get(page)) | {"is_active": "on", "first_name": "Bob"})
    history = client.get(admin_url(User, "history", bob.pk))
    assert [entry.text for entry in history.context["action_list"]] == ["Changed First name."]
    assert "Changed First name." in history.content.decode()
    assert client.get(admin_url(User, "history", 10_000)).status_code == 302


def test_users_are_for_superusers_and_groups_for_nobody(
    project: Project, alice: User, root: User, sign_in: SignIn
) -> None:
    for page in ("changelist", "add"):
        assert sign_in(alice).get(admin_url(User, page)).status_code == 403
    assert sign_in(alice).post(admin_url(User, "change", root.pk), {"is_superuser": "on"}).status_code == 403
    with pytest.raises(NoReverseMatch):
        admin_url(Group, "changelist")


def test_the_admin_says_what_a_role_may_not(project: Project, vera: User, sign_in: SignIn) -> None:
    client = sign_in(vera)
    response = client.get(admin_url(ProviderKey, "add"))
    html = response.content.decode()
    assert response.status_code == 403
    assert "Your role may not do this" in html
    assert 'id="nav-sidebar"' in html
    assert '<a href="/admin/">Back to the start of the admin</a>' in html
    assert client.get(admin_url(ProviderKey, "add"), headers={"Accept": "application/json"}).json()


def test_members_are_explained(project: Project, alice: User, sign_in: SignIn) -> None:
    html = sign_in(alice).get(admin_url(Project, "change", project.pk)).content.decode()
    for words in ("Viewer", "Editor", "Owner", "Changes nothing."):
        assert words in html


def test_signing_in_ends_on_the_start_page(db: None) -> None:
    User.objects.create_superuser("boss", password=PASSWORD)
    client = Client()
    response = client.post("/admin/login/", {"username": "boss", "password": PASSWORD}, follow=True)
    assert response.request["PATH_INFO"] == "/admin/"
    assert not messages_of(response)
