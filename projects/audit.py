"""The audit trail: who did what when. Admin pages write it for every save and deletion, actions by `record_action`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import PAGE_VAR
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.http import HttpRequest, HttpResponse

from projects.access import project_id_of
from projects.choices import AuditAction
from projects.models import AuditEntry, Project

if TYPE_CHECKING:
    from django.contrib import admin
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Base = admin.ModelAdmin[Any]
else:
    Base = object

HISTORY_PAGE = 100


def record_action(*, request_user: AbstractBaseUser | AnonymousUser, obj: models.Model, text: str) -> None:
    """Note that `request_user` did something to `obj` beside saving or deleting it. `text` holds no secret.

    For example "Revoked." or "Rolled back to revision 3.": one short sentence, shown as it is.
    """
    record(user=request_user, objects=[obj], action=AuditAction.ACT, text=text)


def record(
    *, user: AbstractBaseUser | AnonymousUser | None, objects: Iterable[models.Model], action: AuditAction, text: str
) -> None:
    """Note the same for several objects; to be called before they are deleted. No user: a command did it."""
    AuditEntry.objects.bulk_create(
        AuditEntry(
            project_id=_project_id(obj),
            user_id=user.pk if user else None,
            user_name=user.get_username() if user else "command line",
            action=action,
            content_type=ContentType.objects.get_for_model(obj, for_concrete_model=False),
            object_id=str(obj.pk),
            object_name=str(obj)[:200],
            text=text,
        )
        for obj in objects
    )


def record_blocked(*, address: str, text: str, user: AbstractBaseUser | None = None) -> None:
    """Note that somebody at `address`, who is not signed in, was stopped; `user` is whom they tried to be."""
    kind = ContentType.objects.get_for_model(user) if user else None
    AuditEntry.objects.create(
        user_name=f"somebody at {address}"[:150],
        action=AuditAction.ACT,
        content_type=kind,
        object_id=str(user.pk) if user else "",
        object_name=(user.get_username() if user else address)[:200],
        text=text,
    )


def _project_id(obj: models.Model) -> Any:
    """None for what belongs to no project, as users do: such entries are for superusers."""
    belongs = hasattr(obj, "project_path") or any(field.name == "project" for field in obj._meta.fields)
    return project_id_of(obj) if belongs or isinstance(obj, Project) else None


def history_of(obj: models.Model) -> models.QuerySet[AuditEntry]:
    """What was done to one object, newest first."""
    kind = ContentType.objects.get_for_model(obj, for_concrete_model=False)
    return AuditEntry.objects.filter(content_type=kind, object_id=str(obj.pk))


class Audited(Base):
    """Mixed into a ModelAdmin: every save and deletion goes to the audit trail, and the history page reads it."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        record(user=request.user, objects=[obj], action=AuditAction.ADD, text=_in_words(message))

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        record(user=request.user, objects=[obj], action=AuditAction.CHANGE, text=_in_words(message))

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        record(user=request.user, objects=queryset, action=AuditAction.DELETE, text="Deleted.")

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The history that Django shows, read from the audit trail."""
        obj = self.get_object(request, unquote(object_id))
        entries = history_of(obj) if obj is not None else AuditEntry.objects.none()  # Django says that it is not there
        page = self.get_paginator(request, entries, HISTORY_PAGE).get_page(request.GET.get(PAGE_VAR, 1))
        shown = {
            "action_list": page,
            "page_range": page.paginator.get_elided_page_range(page.number),
            "pagination_required": page.has_other_pages(),
        }
        return super().history_view(request, object_id, {**shown, **(extra_context or {})})


def _in_words(message: Any) -> str:
    """What Django's admin collected about a save, as a sentence."""
    return LogEntry(change_message=message if isinstance(message, str) else json.dumps(message)).get_change_message()
