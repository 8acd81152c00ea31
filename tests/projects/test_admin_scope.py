"""Every page of the admin, for every role and for a stranger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db.models import ForeignKey, Model
from django.test import Client
from django.urls import reverse

from avatars.models import Agent, AgentAnswer, AgentRevision, Avatar, PipelineStep, Voice
from avatars.videos.models import VideoJob
from projects.models import ApiKey, AuditEntry, Member, Project, ProviderKey
from projects.scoped_admin import ScopedAdmin, is_scoped
from projects.webhooks.models import WebhookDelivery
from sessions.models import LiveSession, RoomLink
from tests.forms import admin_url as url
from tests.forms import form_data
from tests.projects.world import MAKERS, make

APPS = ("projects", "webhooks", "avatars", "videos", "live_sessions")
OURS = [model for model in admin.site._registry if model._meta.app_label in APPS]
MODELS = pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
READ_ONLY: set[type[Model]] = {AgentRevision, AuditEntry, LiveSession, WebhookDelivery}
UNCHANGED: set[type[Model]] = READ_ONLY | {VideoJob}
"""What was ordered is what is made."""
OWNERS_ONLY: set[type[Model]] = {Project, ApiKey, ProviderKey}

Cast = dict[str, User]


@pytest.fixture
def cast(alice: User, bob: User, vera: User) -> Cast:
    """The people of project A."""
    return {"owner": alice, "editor": bob, "viewer": vera}


def rows_of(client: Client, model: type[Model], query: str = "") -> list[Any]:
    response = client.get(url(model, "changelist") + query)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def test_it_scopes_every_model_of_ours() -> None:
    assert set(OURS) == set(MAKERS)
    for model in OURS:
        assert isinstance(admin.site._registry[model], ScopedAdmin)
        for inline in admin.site._registry[model].inlines:
            assert is_scoped(inline.model)


@MODELS
@pytest.mark.parametrize("role", ["owner", "editor", "viewer"])
def test_it_lists_the_own_project_alone(
    model: type[Model], role: str, cast: Cast, project: Project, other_project: Project, sign_in: Callable[..., Client]
) -> None:
    mine, theirs = make(model, project), make(model, other_project)

    rows = rows_of(sign_in(cast[role]), model)

    assert mine in rows
    assert theirs not in rows


@MODELS
@pytest.mark.parametrize("role", ["owner", "editor", "viewer"])
def test_it_knows_nothing_of_another_projects_objects(
    model: type[Model], role: str, cast: Cast, other_project: Project, sign_in: Callable[..., Client]
) -> None:
    theirs = make(model, other_project)
    before = model._default_manager.filter(pk=theirs.pk).values().get()
    client = sign_in(cast[role])

    for page in ("change", "delete", "history"):
        for ask in (client.get, client.post):
            response = ask(url(model, page, theirs.pk), {"post": "yes", "name": "Taken"})
            assert response.status_code == 404, (page, ask)
    assert model._default_manager.filter(pk=theirs.pk).values().get() == before


@MODELS
def test_it_answers_an_unknown_id_as_a_foreign_one(
    model: type[Model], cast: Cast, sign_in: Callable[..., Client]
) -> None:
    client = sign_in(cast["owner"])
    for page in ("change", "delete", "history"):
        for unknown in ("00000000-0000-4000-8000-000000000000", "987654321", "no-such-thing"):
            assert client.get(url(model, page, unknown)).status_code == 404


@MODELS
@pytest.mark.parametrize("role", ["owner", "editor", "viewer"])
def test_it_lets_each_role_do_what_it_may(
    model: type[Model], role: str, cast: Cast, project: Project, sign_in: Callable[..., Client]
) -> None:
    mine = make(model, project)
    client = sign_in(cast[role])
    may_manage = role == "owner"
    may_edit = may_manage if model in OWNERS_ONLY else role != "viewer"

    assert client.get(url(model, "change", mine.pk)).status_code == 200
    assert client.get(url(model, "history", mine.pk)).status_code == 200
    can_change = may_edit and model not in UNCHANGED
    if not can_change:
        assert client.post(url(model, "change", mine.pk), {"name": "Taken"}).status_code == 403
    page = client.get(url(model, "change", mine.pk))
    assert page.context["has_change_permission"] is can_change

    can_make = may_edit and model not in READ_ONLY
    can_add = can_make and model is not Project
    assert client.get(url(model, "add")).status_code == (200 if can_add else 403)
    assert client.post(url(model, "add"), {}).status_code == (200 if can_add else 403)

    can_delete = may_manage if model is LiveSession else can_make
    assert client.get(url(model, "delete", mine.pk)).status_code == (200 if can_delete else 403)


@MODELS
def test_it_deletes_no_foreign_object_in_bulk(
    model: type[Model], cast: Cast, other_project: Project, project: Project, sign_in: Callable[..., Client]
) -> None:
    make(model, project)
    theirs = make(model, other_project)
    model_admin = admin.site._registry[model]

    for role, user in cast.items():
        client = sign_in(user)
        names = [*(getattr(action, "__name__", str(action)) for action in model_admin.actions or ()), "delete_selected"]
        for name in names:
            data = {"action": name, "_selected_action": str(theirs.pk), "post": "yes"}
            response = client.post(url(model, "changelist"), data)
            assert response.status_code in (200, 302), (role, name)
            assert model._default_manager.filter(pk=theirs.pk).exists(), (role, name)
    if model in (RoomLink, ApiKey):
        theirs.refresh_from_db()
        assert theirs.revoked_at is None
    if model is LiveSession:
        theirs.refresh_from_db()
        assert theirs.state == "active"


@MODELS
def test_it_judges_each_object_of_a_bulk_action_by_its_own_project(
    model: type[Model], project: Project, other_project: Project, charlie: User, sign_in: Callable[..., Client]
) -> None:
    """Charlie owns B and may only look at A: his right in B must not reach what he selects of A."""
    Member.objects.create(project=project, user=charlie, role="viewer")
    seen, own = make(model, project), make(model, other_project)
    client = sign_in(charlie)
    model_admin = admin.site._registry[model]

    names = [*(getattr(action, "__name__", str(action)) for action in model_admin.actions or ()), "delete_selected"]
    for name in names:
        before = model._default_manager.filter(pk=seen.pk).values().get()
        data = {"action": name, "_selected_action": [str(seen.pk)], "post": "yes"}
        client.post(url(model, "changelist"), data)
        assert model._default_manager.filter(pk=seen.pk).values().get() == before, name
    data = {"action": "delete_selected", "_selected_action": [str(seen.pk), str(own.pk)], "post": "yes"}
    client.post(url(model, "changelist"), data)
    assert model._default_manager.filter(pk__in=[seen.pk, own.pk]).count() == 2


@MODELS
def test_a_right_in_one_project_opens_no_form_of_another(
    model: type[Model], project: Project, other_project: Project, charlie: User, sign_in: Callable[..., Client]
) -> None:
    Member.objects.create(project=project, user=charlie, role="viewer")
    seen, own = make(model, project), make(model, other_project)
    client = sign_in(charlie)

    assert client.get(url(model, "change", seen.pk)).context["has_change_permission"] is False
    assert client.post(url(model, "change", seen.pk), {"name": "Taken"}).status_code == 403
    assert client.post(url(model, "delete", seen.pk), {"post": "yes"}).status_code == 403
    assert model._default_manager.filter(pk=seen.pk).exists()
    if model not in READ_ONLY:
        assert client.get(url(model, "change", own.pk)).context["has_change_permission"] is (model not in UNCHANGED)
        page = client.get(url(model, "add")) if model is not Project else None
        field = page.context["adminform"].form.fields.get("project") if page else None
        if field is not None:
            assert list(field.queryset) == [other_project]


def foreign_keys() -> list[tuple[type[Model], str]]:
    models: list[type[Model]] = [*OURS, Member, AgentAnswer, PipelineStep]
    return [
        (model, field.name)
        for model in models
        for field in model._meta.fields
        if isinstance(field, ForeignKey) and is_scoped(field.related_model)
        if field.related_model in admin.site._registry  # Django completes no others
    ]


@pytest.mark.parametrize(("model", "field"), foreign_keys(), ids=lambda value: getattr(value, "__name__", value))
def test_it_completes_from_the_own_project_alone(
    model: type[Model], field: str, cast: Cast, project: Project, other_project: Project, sign_in: Callable[..., Client]
) -> None:
    related: Any = model._meta.get_field(field).related_model
    mine, theirs = make(related, project), make(related, other_project)
    names = {"app_label": model._meta.app_label, "model_name": str(model._meta.model_name), "field_name": field}

    response = sign_in(cast["owner"]).get(reverse("admin:autocomplete"), names)

    assert response.status_code == 200
    ids = {result["id"] for result in response.json()["results"]}
    assert str(mine.pk) in ids
    assert str(theirs.pk) not in ids


def test_it_completes_no_users(cast: Cast, sign_in: Callable[..., Client]) -> None:
    query = {"app_label": "projects", "model_name": "member", "field_name": "user", "term": ""}

    assert sign_in(cast["owner"]).get(reverse("admin:autocomplete"), query).status_code == 403


@MODELS
def test_it_offers_no_choice_of_another_project(
    model: type[Model], cast: Cast, project: Project, other_project: Project, sign_in: Callable[..., Client]
) -> None:
    """Neither a form nor a filter shows so much as the name of another project's object."""
    mine = make(model, project)
    foreign = [make(kind, other_project) for kind in MAKERS]
    pages = [url(model, "changelist"), url(model, "change", mine.pk)]
    if model not in READ_ONLY and model is not Project:
        pages.append(url(model, "add"))

    for page in pages:
        html = sign_in(cast["owner"]).get(page).content.decode()
        assert "Project B" not in html
        for other in foreign:
            assert str(other.pk) not in html or isinstance(other, AgentRevision)


def test_it_has_no_short_cut_to_a_links_page(
    cast: Cast, other_link: RoomLink, link: RoomLink, sign_in: Callable[..., Client]
) -> None:
    kind = ContentType.objects.get_for_model(RoomLink).pk
    for some in (other_link, link):
        assert sign_in(cast["owner"]).get(f"/admin/r/{kind}/{some.pk}/").status_code == 404


@MODELS
def test_it_shows_a_superuser_all_projects(
    model: type[Model], root: User, project: Project, other_project: Project, sign_in: Callable[..., Client]
) -> None:
    first, second = make(model, project), make(model, other_project)
    client = sign_in(root)

    assert {first, second} <= set(rows_of(client, model))
    assert client.get(url(model, "change", first.pk)).status_code == 200
    assert client.get(url(model, "add")).status_code == (403 if model in READ_ONLY else 200)


@MODELS
def test_it_shows_nothing_to_staff_without_a_role(
    model: type[Model], project: Project, sign_in: Callable[..., Client], db: None
) -> None:
    mine = make(model, project)
    staff = User.objects.create_user("stan", is_staff=True)
    staff.user_permissions.set(Permission.objects.all())  # Django's own permissions open nothing of ours
    client = sign_in(staff)

    assert client.get(url(model, "changelist")).status_code == 403
    assert client.get(url(model, "change", mine.pk)).status_code == 404
    assert client.get(url(model, "add")).status_code == 403


@MODELS
def test_it_asks_strangers_to_sign_in(model: type[Model], project: Project, client: Client) -> None:
    mine = make(model, project)

    for page in (url(model, "changelist"), url(model, "change", mine.pk)):
        response = client.get(page)
        assert response.status_code == 302
        assert "/admin/login/" in response["Location"]


def test_it_ends_access_with_the_membership(project: Project, bob: User, sign_in: Callable[..., Client]) -> None:
    mine = make(Agent, project)
    client = sign_in(bob)
    assert client.get(url(Agent, "change", mine.pk)).status_code == 200

    Member.objects.filter(user=bob).delete()

    assert client.get(url(Agent, "change", mine.pk)).status_code == 404


@pytest.mark.parametrize("part", ["voice", "avatar"])
def test_it_refuses_foreign_parts_that_are_posted(
    part: str, cast: Cast, project: Project, other_project: Project, sign_in: Callable[..., Client]
) -> None:
    theirs = make(Voice if part == "voice" else Avatar, other_project)
    mine = make(Agent, project)
    client = sign_in(cast["editor"])
    data = form_data(client.get(url(Agent, "change", mine.pk))) | {part: str(theirs.pk)}

    response = client.post(url(Agent, "change", mine.pk), data)

    assert response.status_code == 200
    assert part in response.context["adminform"].form.errors
    mine.refresh_from_db()
    assert getattr(mine, part) is None


def test_it_refuses_parts_of_ones_other_project(
    project: Project, other_project: Project, charlie: User, sign_in: Callable[..., Client]
) -> None:
    """Charlie edits both projects; still no agent of A may speak with a voice of B."""
    Member.objects.create(project=project, user=charlie, role="editor")
    voice = make(Voice, other_project)
    client = sign_in(charlie)
    data = form_data(client.get(url(Agent, "add"))) | {
        "project": str(project.pk),
        "name": "Mixed",
        "slug": "mixed",
        "voice": str(voice.pk),
    }

    response = client.post(url(Agent, "add"), data)

    assert response.status_code == 200
    assert response.context["adminform"].form.errors["voice"] == ["This belongs to another project."]
    assert not Agent.objects.filter(slug="mixed").exists()


def test_it_keeps_an_object_in_its_project(
    project: Project, other_project: Project, charlie: User, sign_in: Callable[..., Client]
) -> None:
    Member.objects.create(project=project, user=charlie, role="owner")
    mine = make(Agent, project)
    client = sign_in(charlie)
    data = form_data(client.get(url(Agent, "change", mine.pk))) | {"project": str(other_project.pk), "name": "New"}

    assert client.post(url(Agent, "change", mine.pk), data).status_code == 302
    mine.refresh_from_db()
    assert (mine.name, mine.project) == ("New", project)


def test_it_writes_no_secret_into_the_history(cast: Cast, project: Project, sign_in: Callable[..., Client]) -> None:
    key = make(ProviderKey, project)
    client = sign_in(cast["owner"])
    data = form_data(client.get(url(ProviderKey, "change", key.pk))) | {"secret": "sk-canary-second-9876543210"}

    assert client.post(url(ProviderKey, "change", key.pk), data).status_code == 302

    assert "canary" not in str(list(LogEntry.objects.values()))
    assert "canary" not in client.get(url(ProviderKey, "history", key.pk)).content.decode()
