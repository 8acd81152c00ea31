from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Model

from avatars.models import Agent
from projects.access import actor_of, may
from projects.choices import Action
from projects.models import ApiKey, Member, Project, ScopedQuerySet, project_ids
from projects.services import revoke_api_key
from tests.projects.world import MAKERS, make

VIEW, EDIT, MANAGE = Action.VIEW, Action.EDIT, Action.MANAGE


@pytest.mark.parametrize(
    ("role", "allowed"), [("owner", {VIEW, EDIT, MANAGE}), ("editor", {VIEW, EDIT}), ("viewer", {VIEW})]
)
def test_a_role_says_what_a_member_may(
    project: Project, alice: User, bob: User, vera: User, role: str, allowed: set[Action]
) -> None:
    user = {"owner": alice, "editor": bob, "viewer": vera}[role]

    assert {action for action in Action if may(user, action, project.pk)} == allowed


def test_a_stranger_may_nothing(project: Project, charlie: User, other_project: Project) -> None:
    assert not any(may(charlie, action, project.pk) for action in Action)
    assert not any(may(AnonymousUser(), action, project.pk) for action in Action)


def test_a_superuser_may_everything(project: Project, root: User) -> None:
    assert project_ids(root) is None
    assert all(may(root, action, project.pk) for action in Action)


def test_whoever_was_shut_out_may_nothing(project: Project, alice: User, root: User) -> None:
    for user in (alice, root):
        user.is_active = False
        assert not any(may(user, action, project.pk) for action in Action)


def test_staff_without_a_role_may_nothing(project: Project, db: None) -> None:
    staff = User.objects.create_user("stan", is_staff=True)

    assert not any(may(staff, action, project.pk) for action in Action)


def test_a_key_edits_its_project_and_manages_nothing(
    api_key: tuple[ApiKey, str], project: Project, other_project: Project
) -> None:
    key, _ = api_key

    assert {action for action in Action if may(key, action, project.pk)} == {VIEW, EDIT}
    assert not any(may(key, action, other_project.pk) for action in Action)


def test_a_revoked_key_may_nothing(api_key: tuple[ApiKey, str], project: Project) -> None:
    key, _ = api_key
    assert revoke_api_key(key=key)
    key.refresh_from_db()

    assert not any(may(key, action, project.pk) for action in Action)
    assert not revoke_api_key(key=key), "once is enough"


@pytest.mark.parametrize("model", MAKERS, ids=lambda model: model.__name__)
def test_it_finds_the_rows_of_the_own_projects(
    model: type[Model], project: Project, other_project: Project, alice: User, root: User, api_key: tuple[ApiKey, str]
) -> None:
    mine, theirs = make(model, project), make(model, other_project)
    rows: Any = model._default_manager

    for actor in (alice, api_key[0]):
        found = set(rows.for_actor(actor))
        assert mine in found
        assert theirs not in found
    assert {mine, theirs} <= set(rows.for_actor(root))
    assert not rows.for_actor(AnonymousUser()).exists()


def test_it_knows_every_model_of_a_project() -> None:
    """A new model must say which project it belongs to, or be named here with its reason."""
    from django.apps import apps

    inward = {"IdempotencyKey"}  # found by project and key alone, shown nowhere
    for app in ("projects", "avatars", "live_sessions"):
        for model in apps.get_app_config(app).get_models():
            scoped = isinstance(model._default_manager.all(), ScopedQuerySet)
            assert scoped or model.__name__ in inward, model
            if scoped:
                rows: Any = model._default_manager
                rows.for_actor(AnonymousUser()).count()  # the path to the project is real


def test_two_roles_add_up_over_projects(project: Project, other_project: Project, bob: User) -> None:
    Member.objects.create(project=other_project, user=bob, role="viewer")
    mine, seen = make(Agent, project), make(Agent, other_project)

    assert set(Agent.objects.for_actor(bob)) == {mine, seen}
    assert set(Agent.objects.for_actor(bob, EDIT)) == {mine}
    assert not Agent.objects.for_actor(bob, MANAGE).exists()


def test_the_actor_of_a_request_is_its_key_before_its_user(api_key: tuple[ApiKey, str], alice: User) -> None:
    class Request:
        auth: Any = api_key[0]
        user: Any = alice

    request: Any = Request()
    assert actor_of(request) == api_key[0]
    request.auth = None
    assert actor_of(request) == alice
    request.user = AnonymousUser()
    assert actor_of(request) is None
