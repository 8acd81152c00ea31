"""Who may see and change what. What belongs to a project is fetched through `for_actor` (`projects/models.py`).

An actor is a signed-in user (whose memberships say which projects) or a project's API key (which acts as an editor of
that project). What an actor may not see does not exist for it: for another project's objects doors answer 404, never
403.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from rest_framework.permissions import SAFE_METHODS, BasePermission

from projects.choices import Action
from projects.models import ApiKey, project_ids

if TYPE_CHECKING:
    from rest_framework.request import Request

    from projects.models import Actor


def project_id_of(obj: models.Model) -> Any:
    """Id of the project that `obj` belongs to; None when it is not decided yet."""
    owner: Any = obj
    *way, last = getattr(obj, "project_path", "project").split("__")
    for name in way:
        owner = getattr(owner, name)
    return owner.pk if last == "pk" else getattr(owner, f"{last}_id")


def may(actor: Actor, action: Action, project_id: Any) -> bool:
    """Whether `actor` may do `action` in that project."""
    ids = project_ids(actor, action)
    return ids is None or ids.filter(pk=project_id).exists()


class IsProjectActor(BasePermission):
    """Signed in or holding a key. Reading asks for a role that may view, writing for one that may edit.

    Which objects is decided where they are fetched (`for_actor`); this only refuses the anonymous.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        return actor_of(request) is not None


def actor_of(request: Request) -> Actor | None:
    """The key or user behind a REST request; None when anonymous."""
    if isinstance(request.auth, ApiKey):
        return request.auth
    return request.user if request.user is not None and request.user.is_authenticated else None


def action_of(request: Request) -> Action:
    return Action.VIEW if request.method in SAFE_METHODS else Action.EDIT
