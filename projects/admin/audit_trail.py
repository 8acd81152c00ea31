"""Who did what, when, in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from projects.choices import AuditAction
from projects.models import AuditEntry
from projects.scoped_admin import ScopedAdmin, ScopedRelatedFilter


class KindFilter(admin.RelatedFieldListFilter):
    """Only kinds that have pages here."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[Any, Any]]:
        kinds = ContentType.objects.get_for_models(*model_admin.admin_site._registry).values()
        return sorted(((kind.pk, kind.name) for kind in kinds), key=lambda choice: choice[1])


@admin.register(AuditEntry)
class AuditEntryAdmin(ScopedAdmin):
    """Who did what when. Nobody changes it."""

    list_display = ("created_at", "user_name", "what", "object_link", "kind", "project")
    list_select_related = ("content_type", "project")
    list_filter = (
        "action",
        "created_at",
        ("content_type", KindFilter),
        ("project", ScopedRelatedFilter),
    )
    date_hierarchy = "created_at"
    search_fields = ("user_name", "object_name", "text")
    search_help_text = "Search in names and in what was done."
    counted_as = "audit entries"
    list_per_page = 50
    fields = ("created_at", "user_name", "project", "kind", "object_link", "action", "text")
    readonly_fields = fields
    add_action = change_action = delete_action = None
    empty_text = "Whatever somebody changes, tests, revokes or deletes in the admin is listed here."

    @admin.display(description="what", ordering="text")
    def what(self, entry: AuditEntry) -> str:
        return entry.text

    @admin.display(description="kind", ordering="content_type")
    def kind(self, entry: AuditEntry) -> str:
        return str(entry.content_type.name) if entry.content_type else ""

    @admin.display(description="of", ordering="object_name")
    def object_link(self, entry: AuditEntry) -> SafeString | str:
        model = entry.content_type.model_class() if entry.content_type else None
        if model is None or entry.action == AuditAction.DELETE or not self.admin_site.is_registered(model):
            return entry.object_name
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[quote(entry.object_id)])
        return format_html('<a href="{}">{}</a>', url, entry.object_name)
