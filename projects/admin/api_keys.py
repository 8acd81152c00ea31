"""API keys: the one page that shows a new one, and revoking."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators.http import require_POST

from projects import one_time, services
from projects.audit import record_action
from projects.choices import Action
from projects.models import ApiKey
from projects.scoped_admin import ScopedAdmin, ScopedRelatedFilter, counted


@admin.register(ApiKey)
class ApiKeyAdmin(ScopedAdmin):
    """The key itself stands on one page, right after it was made; nothing shows or keeps it."""

    list_display = ("name", "project", "shown", "is_usable", "last_used_at", "created_by", "created_at")
    list_select_related = ("project", "created_by")
    list_filter = (("project", ScopedRelatedFilter), ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "prefix")
    search_help_text = "Search in names and in how keys begin."
    fields = ("project", "name", "shown", "created_by", "created_at", "last_used_at", "revoked_at")
    readonly_fields = ("shown", "created_by", "created_at", "last_used_at", "revoked_at")
    actions = ("revoke",)
    change_form_after_template = "admin/projects/apikey/once.html"
    change_form_outer_after_template = "admin/projects/apikey/revoke.html"
    add_action = change_action = delete_action = Action.MANAGE
    empty_text = "Programs use an API key to start conversations and read transcripts. Each opens one project."

    class Media:
        js = ("admin/copy.js",)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        """A form makes one key, however often it is sent: a page that is loaded again sends it again."""
        try:
            key_id = one_time.read(request)
            return super().add_view(request, form_url, {"once": one_time.issue(request), **(extra_context or {})})
        except IntegrityError:
            if key_id is None or not ApiKey.objects.for_actor(request.user, Action.MANAGE).filter(pk=key_id).exists():
                raise
        messages.info(
            request, "This key was made already and shown once. If it was not copied, revoke it and add another."
        )
        return redirect("admin:projects_apikey_change", key_id)

    @admin.display(description="key")
    def shown(self, key: ApiKey) -> str:
        return f"{key.prefix}…"

    @admin.display(description="usable", boolean=True)
    def is_usable(self, key: ApiKey) -> bool:
        return key.is_usable

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            obj.save(update_fields=["name"])
            return
        assert request.user.is_authenticated
        made, plain = services.create_api_key(
            project=obj.project, name=obj.name, created_by=request.user, key_id=one_time.read(request)
        )
        obj.__dict__.update(made.__dict__)  # the rest of the request speaks of the row that was made
        request.__dict__["_molts_plain_key"] = plain

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """The key is in this answer alone: no message, session or address holds it."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Your new API key",
            "opts": self.opts,
            "key": obj,
            "plain": request.__dict__.pop("_molts_plain_key"),
            "agents_url": f"{settings.MOLTS_PUBLIC_URL}/api/v1/agents",
        }
        return TemplateResponse(request, "admin/projects/apikey/made.html", context)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(require_POST(self.revoke_view))
        return [path("<uuid:key_id>/revoke/", view, name="projects_apikey_revoke"), *super().get_urls()]

    def revoke_view(self, request: HttpRequest, key_id: uuid.UUID) -> HttpResponse:
        key = self.get_object(request, str(key_id))
        if not self.has_change_permission(request, key):
            raise PermissionDenied
        if self._revoke(request, key):
            messages.success(request, "The API key is revoked: it is refused from the next request on.")
        return redirect("admin:projects_apikey_change", key.pk)

    @admin.action(description="Revoke selected API keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        revoked = sum(self._revoke(request, key) for key in self.may_change(request, queryset))
        messages.info(request, f"{counted(revoked, 'API key')} revoked.")

    def _revoke(self, request: HttpRequest, key: ApiKey) -> bool:
        revoked = services.revoke_api_key(key=key)
        if revoked:
            record_action(request_user=request.user, obj=key, text="Revoked.")
        return revoked
