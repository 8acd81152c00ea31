from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from projects.authentication import ProjectKeyAuthentication
from projects.choices import MemberRole
from projects.models import ApiKey, Member, Project, ProviderKey
from projects.services import digest_api_key
from tests.conftest import make_user
from tests.forms import admin_url, form_data, form_errors, messages_of
from tests.projects.world import SECRET, make_provider_key

SignIn = Callable[[User], Client]


# -- Members ----------------------------------------------------------------------------------------------------------
def member_row(client: Client, project: Project, username: str, role: str = "viewer") -> Any:
    page = client.get(admin_url(Project, "change", project.pk))
    data = form_data(page)
    number = int(data["members-TOTAL_FORMS"])
    data |= {
        "members-TOTAL_FORMS": number + 1,
        f"members-{number}-username": username,
        f"members-{number}-role": role,
    }
    return client.post(admin_url(Project, "change", project.pk), data)


def test_an_owner_adds_a_member_who_may_then_sign_in(project: Project, alice: User, sign_in: SignIn) -> None:
    dora = make_user("dora")

    assert member_row(sign_in(alice), project, "dora", "editor").status_code == 302

    dora.refresh_from_db()
    assert Member.objects.get(project=project, user=dora).role == MemberRole.EDITOR
    assert dora.is_staff
    assert sign_in(dora).get(admin_url(Project, "change", project.pk)).status_code == 200


@pytest.mark.parametrize(("username", "words"), [("nobody", "no user of this name"), ("alice", "a member already")])
def test_it_says_why_somebody_cannot_be_added(
    project: Project, alice: User, sign_in: SignIn, username: str, words: str
) -> None:
    errors = form_errors(member_row(sign_in(alice), project, username))

    assert words in str(errors["members-1-username"])
    assert Member.objects.filter(project=project).count() == 1


def test_an_owner_changes_a_role_but_not_who_holds_it(
    project: Project, alice: User, bob: User, charlie: User, sign_in: SignIn
) -> None:
    client = sign_in(alice)
    data = form_data(client.get(admin_url(Project, "change", project.pk)))
    row = next(number for number in (0, 1) if data[f"members-{number}-username"] == "bob")
    data |= {f"members-{row}-role": "viewer", f"members-{row}-username": "charlie"}

    assert client.post(admin_url(Project, "change", project.pk), data).status_code == 302

    assert Member.objects.get(project=project, user=bob).role == MemberRole.VIEWER
    assert not Member.objects.filter(project=project, user=charlie).exists()


@pytest.mark.parametrize("change", [{"members-0-role": "viewer"}, {"members-0-DELETE": "on"}])
def test_it_leaves_no_project_without_an_owner(
    project: Project, alice: User, sign_in: SignIn, change: dict[str, str]
) -> None:
    client = sign_in(alice)
    data = form_data(client.get(admin_url(Project, "change", project.pk))) | change

    errors = form_errors(client.post(admin_url(Project, "change", project.pk), data))

    assert "needs an owner" in str(errors["members"])
    assert Member.objects.get(project=project, user=alice).role == MemberRole.OWNER


def test_a_viewer_sees_the_members_and_no_form(project: Project, vera: User, sign_in: SignIn) -> None:
    page = sign_in(vera).get(admin_url(Project, "change", project.pk)).content.decode()

    assert "alice" in page
    assert 'name="members-0-role"' not in page
    assert 'name="_save"' not in page


def test_a_superuser_adds_a_project_with_its_owner(root: User, sign_in: SignIn) -> None:
    make_user("dora")
    client = sign_in(root)
    data = form_data(client.get(admin_url(Project, "add"))) | {
        "name": "New",
        "members-TOTAL_FORMS": 1,
        "members-0-username": "dora",
        "members-0-role": "owner",
    }

    assert client.post(admin_url(Project, "add"), data).status_code == 302
    assert Member.objects.get(project__name="New").user.username == "dora"


def test_a_project_without_members_belongs_to_whoever_added_it(root: User, sign_in: SignIn) -> None:
    client = sign_in(root)
    data = form_data(client.get(admin_url(Project, "add"))) | {"name": "New"}
    assert client.post(admin_url(Project, "add"), data).status_code == 302
    member = Member.objects.get(project__name="New")
    assert (member.user, member.role) == (root, MemberRole.OWNER)


def test_an_owner_deletes_a_project_whole(project: Project, alice: User, sign_in: SignIn) -> None:
    from avatars.models import Agent, Voice
    from tests.conftest import make_agent
    from tests.projects.world import make_session

    key = make_provider_key(project)
    agent = make_agent(project, "Eve")
    agent.voice = Voice.objects.create(project=project, name="Voice", provider="openai", provider_key=key)
    agent.save()
    make_session(agent)

    response = sign_in(alice).post(admin_url(Project, "delete", project.pk), {"post": "yes"})

    assert response.status_code == 302
    assert not Project.objects.exists()
    assert not Agent.objects.exists()


# -- API keys ---------------------------------------------------------------------------------------------------------
def add_api_key(client: Client, project: Project) -> tuple[str, Any]:
    """The key that the page shows after adding it, and that page."""
    response = client.post(admin_url(ApiKey, "add"), {"project": str(project.pk), "name": "Robot"}, follow=True)
    found = re.search(r"molts_[\w-]{40,}", response.content.decode())
    assert found
    assert "no-store" in response["Cache-Control"]
    assert not messages_of(response), "a message would stay in a cookie"
    return found[0], response


def test_an_api_key_is_shown_once_and_works(project: Project, alice: User, sign_in: SignIn, rf: Any) -> None:
    client = sign_in(alice)
    plain, _ = add_api_key(client, project)

    key = ApiKey.objects.get(name="Robot")
    assert (key.digest, key.created_by, key.project) == (digest_api_key(plain), alice, project)
    request = rf.get("/", headers={"Authorization": f"Bearer {plain}"})
    assert ProjectKeyAuthentication().authenticate(request) == (key, key)
    for page in ("changelist", "change", "history"):
        arguments = () if page == "changelist" else (key.pk,)
        html = client.get(admin_url(ApiKey, page, *arguments)).content.decode()
        assert plain not in html
        assert key.digest not in html


def test_the_only_project_is_chosen_already(project: Project, alice: User, sign_in: SignIn) -> None:
    page = sign_in(alice).get(admin_url(ApiKey, "add"))

    assert page.context["adminform"].form["project"].initial == project.pk


def test_an_api_key_is_renamed_and_nothing_else(project: Project, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    plain, _ = add_api_key(client, project)
    key = ApiKey.objects.get()

    data = {"name": "Other", "digest": "0" * 64, "prefix": "x", "revoked_at_0": "2026-01-01", "revoked_at_1": "00:00"}
    assert client.post(admin_url(ApiKey, "change", key.pk), data).status_code == 302

    key.refresh_from_db()
    assert (key.name, key.digest, key.revoked_at) == ("Other", digest_api_key(plain), None)


def test_revoked_keys_open_nothing(project: Project, alice: User, sign_in: SignIn, client: Client) -> None:
    browser = sign_in(alice)
    plain, _ = add_api_key(browser, project)
    key = ApiKey.objects.get()
    headers = {"Authorization": f"Bearer {plain}"}
    assert client.get("/api/v1/agents", headers=headers).status_code == 200

    data = {"action": "revoke", "_selected_action": str(key.pk)}
    response = browser.post(admin_url(ApiKey, "changelist"), data, follow=True)

    assert messages_of(response) == ["1 API key revoked."]
    assert client.get("/api/v1/agents", headers=headers).status_code == 401


# -- Provider keys ----------------------------------------------------------------------------------------------------
def change_provider_key(client: Client, key: ProviderKey, **changes: str) -> Any:
    data = form_data(client.get(admin_url(ProviderKey, "change", key.pk))) | changes
    return client.post(admin_url(ProviderKey, "change", key.pk), data)


def test_a_secret_is_stored_encrypted_and_never_shown(project: Project, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    data = {"project": str(project.pk), "name": "Vendor", "provider": "openai", "base_url": "", "secret": SECRET}

    assert client.post(admin_url(ProviderKey, "add"), data).status_code == 302

    key = ProviderKey.objects.get()
    assert key.reveal() == SECRET
    assert SECRET not in key.secret_cipher
    for url in (admin_url(ProviderKey, "changelist"), admin_url(ProviderKey, "change", key.pk)):
        html = client.get(url).content.decode()
        assert SECRET not in html
        assert key.secret_cipher not in html
        assert "••••6789" in html


def test_an_empty_secret_keeps_the_stored_one(project: Project, alice: User, sign_in: SignIn) -> None:
    key = make_provider_key(project)

    assert change_provider_key(sign_in(alice), key, name="Renamed", secret="").status_code == 302

    key.refresh_from_db()
    assert (key.name, key.reveal()) == ("Renamed", SECRET)


@pytest.mark.parametrize("changes", [{"base_url": "https://evil.example.org/v1"}, {"provider": "groq"}])
def test_a_secret_does_not_follow_to_another_host_or_vendor(
    project: Project, alice: User, sign_in: SignIn, changes: dict[str, str]
) -> None:
    key = make_provider_key(project)

    errors = form_errors(change_provider_key(sign_in(alice), key, **changes))

    assert "Type the secret again" in str(errors["secret"])
    key.refresh_from_db()
    assert (key.base_url, key.provider) == ("", "openai")


def test_a_new_host_takes_a_secret_typed_again(project: Project, alice: User, sign_in: SignIn) -> None:
    key = make_provider_key(project)
    moved = {"base_url": "https://eu.api.example.org/v1", "secret": "sk-another-0123456789"}

    assert change_provider_key(sign_in(alice), key, **moved).status_code == 302

    key.refresh_from_db()
    assert (key.base_url, key.reveal()) == (moved["base_url"], moved["secret"])


@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        ({"provider": "openai"}, "secret", "needs a secret"),
        ({"provider": "openai_compatible"}, "base_url", "give its base URL"),
        ({"provider": "espeak"}, "provider", "not one of the available choices"),
        ({"provider": "openai", "secret": "x", "base_url": "ftp://files.example.org"}, "base_url", "https://"),
        ({"provider": "openai", "secret": "x", "base_url": "https://me:pw@example.org"}, "base_url", "Leave user name"),
        ({"provider": "openai", "secret": "x", "base_url": "http://169.254.169.254/v1"}, "base_url", "private network"),
    ],
)
def test_it_says_what_a_provider_key_lacks(
    project: Project, alice: User, sign_in: SignIn, data: dict[str, str], field: str, words: str
) -> None:
    posted = {"project": str(project.pk), "name": "Vendor", **data}

    errors = form_errors(sign_in(alice).post(admin_url(ProviderKey, "add"), posted))

    assert words in str(errors[field])
    assert not ProviderKey.objects.exists()


def test_a_server_beside_this_one_is_named_without_a_dot(project: Project, alice: User, sign_in: SignIn) -> None:
    posted = {"project": str(project.pk), "name": "Box", "provider": "vllm", "base_url": "http://vllm:8000/v1"}

    assert sign_in(alice).post(admin_url(ProviderKey, "add"), posted).status_code == 302
    assert ProviderKey.objects.get().base_url == "http://vllm:8000/v1"


def test_a_wrong_form_does_not_give_the_secret_back(project: Project, alice: User, sign_in: SignIn) -> None:
    data = {"project": str(project.pk), "name": "", "provider": "openai", "secret": SECRET}

    page = sign_in(alice).post(admin_url(ProviderKey, "add"), data)

    assert form_errors(page)["name"]
    assert SECRET not in page.content.decode()


def test_a_key_in_use_is_not_deleted(project: Project, alice: User, sign_in: SignIn) -> None:
    from avatars.models import Voice

    key = make_provider_key(project)
    Voice.objects.create(project=project, name="Speaker", provider="openai", provider_key=key)

    page = sign_in(alice).post(admin_url(ProviderKey, "delete", key.pk), {"post": "yes"})

    assert page.status_code == 200
    assert "Speaker" in page.content.decode()
    assert ProviderKey.objects.filter(pk=key.pk).exists()
