"""Links: who may talk with whom, for how long, and from where."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import segno
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminTextareaWidget

from molts.errors import BadInput
from projects.admin_cells import chip, moment
from projects.audit import record_action
from projects.scoped_admin import ScopedAdmin, ScopedForm, ScopedRelatedFilter, counted
from sessions.admin.parts import (
    CappedPaginator,
    CountedList,
    conversations_url,
    copy_button,
    has_several_projects,
)
from sessions.choices import LIVE_STATES
from sessions.embed import clean_origins
from sessions.models import LiveSession, RoomLink
from sessions.services import revoke_link


class OriginsField(forms.CharField):
    """Sites, one a line."""

    def prepare_value(self, value: Any) -> str:
        return value if isinstance(value, str) else "\n".join(value or [])

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)

    def clean(self, value: Any) -> Any:
        try:
            return clean_origins(super().clean(value).split())
        except BadInput as error:
            raise forms.ValidationError(error.detail) from error


class RoomLinkForm(ScopedForm):
    allowed_origins = OriginsField(
        required=False,
        label="Allowed sites",
        widget=UnfoldAdminTextareaWidget({"rows": 3, "placeholder": "https://www.example.org"}),
        help_text="Sites that may show this conversation on their pages, one a line. None: only pages of this server.",
    )

    class Meta:
        model = RoomLink
        fields = ("agent", "name", "expires_at", "max_minutes", "max_concurrent", "on_start_page", "allowed_origins")
        labels = {
            "max_minutes": "Longest conversation (minutes)",
            "max_concurrent": "Conversations at once",
            "expires_at": "Ends",
        }
        help_texts = {
            "expires_at": "In UTC. None: it never ends.",
            "max_minutes": "The conversation is ended after this time.",
            "max_concurrent": "Who comes while so many talk is told to try again later.",
        }

    def clean_expires_at(self) -> datetime | None:
        ends: datetime | None = self.cleaned_data["expires_at"]
        if ends and ends <= timezone.now() and "expires_at" in self.changed_data:
            raise forms.ValidationError("This time is over. Choose a later one; to close a link at once, revoke it.")
        return ends


APART = [("single", "For one conversation"), ("trial", "Trial")]


class OpenFilter(admin.SimpleListFilter):
    """Whether a link still lets anybody in. Those for one conversation or one editor's trial stand apart: nobody hands
    them out again."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open"), ("expired", "Expired"), ("revoked", "Revoked"), *APART]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        over = Q(expires_at__lte=timezone.now())
        handed_out = queryset.filter(one_session=False, trial_by=None)
        match self.value():
            case "open":
                return handed_out.filter(revoked_at=None).exclude(over)
            case "expired":
                return handed_out.filter(over, revoked_at=None)
            case "revoked":
                return handed_out.exclude(revoked_at=None)
            case "single":
                return queryset.filter(one_session=True)
            case "trial":
                return queryset.exclude(trial_by=None)
            case _:
                return handed_out


@admin.register(RoomLink)
class RoomLinkAdmin(ScopedAdmin):
    form = RoomLinkForm
    owner_field = "agent"
    list_display = ("__str__", "agent", "state", "address", "talking_now", "conversations", "sites", "ends")
    list_select_related = ("agent", "project")
    list_filter = (OpenFilter, ("agent", ScopedRelatedFilter), ("project", ScopedRelatedFilter), "on_start_page")
    search_fields = ("name", "agent__name", "=public_id")
    search_help_text = "Search in names, agents and addresses."
    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 0
    list_disable_select_all = True
    actions = ("revoke",)
    readonly_fields = ("project", "allowed_sites")
    fieldsets = (
        ("Whom it leads to", {"fields": ("agent", "name", "project", "on_start_page")}),
        ("Limits", {"fields": ("max_minutes", "max_concurrent", "expires_at")}),
        ("On other sites", {"fields": ("allowed_origins",)}),
    )
    change_form_outer_before_template = "admin/live_sessions/roomlink/share.html"
    empty_text = "A link lets people talk with one of your agents, without an account. Send it, or put it on your site."
    empty_link = ("See your agents", "admin:avatars_agent_changelist")

    class Media:
        css = {"all": ("src/admin/talks.css",)}
        js = ("admin/copy.js",)

    # -- which and what ------------------------------------------------------------------------------------------------
    def get_list_display(self, request: HttpRequest) -> tuple[Any, ...]:
        several = has_several_projects(request)
        return (*self.list_display[:2], "project", *self.list_display[2:]) if several else self.list_display

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is not None and not self.has_change_permission(request, obj):
            return (*self.fieldsets[:-1], ("On other sites", {"fields": ("allowed_sites",)}))
        return super().get_fieldsets(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fields = super().get_readonly_fields(request, obj)
        # Who has the link knows whom it leads to; another agent gets another link.
        return (*fields, "agent") if obj else fields

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return CountedList

    def add_figures(self, links: Iterable[Any]) -> None:
        """How many talk now and have talked so far, for all of `links` at once."""
        ids = [link.pk for link in links]
        sessions = LiveSession.objects.filter(link__in=ids).order_by().values_list("link").annotate(Count("pk"))
        live, total = dict(sessions.filter(state__in=LIVE_STATES)), dict(sessions)
        for link in links:
            link.live_count, link.total_count = live.get(link.pk, 0), total.get(link.pk, 0)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[Any], list[Any]]:
        """The links alone: their conversations stay, and may be too many to go through."""
        refused = {str(self.opts.verbose_name) for obj in objs if not self.has_delete_permission(request, obj)}
        return [str(link) for link in objs], {"links": len(objs)}, refused, []

    def save_model(self, request: HttpRequest, obj: RoomLink, form: Any, change: bool) -> None:
        obj.project_id = obj.agent.project_id
        super().save_model(request, obj, form, change)

    # -- one link ------------------------------------------------------------------------------------------------------
    def get_urls(self) -> list[Any]:
        revoke = path(
            "<uuid:link_id>/revoke/",
            self.admin_site.admin_view(require_POST(self.revoke_view)),
            name="live_sessions_roomlink_revoke",
        )
        return [revoke, *super().get_urls()]

    def revoke_view(self, request: HttpRequest, link_id: uuid.UUID) -> HttpResponse:
        link = self.get_object(request, str(link_id))
        if not self.has_change_permission(request, link):
            raise PermissionDenied
        if revoke_link(link=link):
            record_action(request_user=request.user, obj=link, text="Revoked.")
            messages.success(request, "The link lets nobody in any more. Conversations that are running go on.")
        return redirect("admin:live_sessions_roomlink_change", link.pk)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        link = context.get("original")
        if link is not None:
            self.add_figures([link])
            context["share"] = {
                "state": self.state(link),
                "is_open": not link.revoked_at and not link.is_expired,
                "may_revoke": self.has_change_permission(request, link) and not link.revoked_at,
                **(ways_to_share(link) if link.is_handed_out else {}),
                "talking_now": self.talking_now(link),
                "conversations_url": conversations_url(link__id__exact=link.pk),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    # -- columns -------------------------------------------------------------------------------------------------------
    @admin.display(description="address")
    def address(self, link: RoomLink) -> SafeString | str:
        if not link.is_handed_out:
            return "not shown"
        return format_html(
            '<span class="with-copy"><a href="{}" title="{}">/r/{}…</a> {}</span>',
            link.get_absolute_url(),
            link.url,
            link.public_id[:6],
            copy_button(link.url, name=f"the address of {link}"),
        )

    @admin.display(description="state")
    def state(self, link: RoomLink) -> SafeString:
        if link.revoked_at:
            return chip("revoked", "bad")
        return chip("expired", "quiet") if link.is_expired else chip("open", "good")

    @admin.display(description="talking now")
    def talking_now(self, link: Any) -> str:
        return f"{link.live_count} of {link.max_concurrent}"

    @admin.display(description="so far")
    def conversations(self, link: Any) -> SafeString | str:
        if not link.total_count:
            return "none yet"
        return format_html('<a href="{}">{}</a>', conversations_url(link__id__exact=link.pk), link.total_count)

    @admin.display(description="ends", ordering="expires_at")
    def ends(self, link: RoomLink) -> SafeString | str:
        return moment(link.expires_at) if link.expires_at else "never"

    @admin.display(description="on other sites")
    def sites(self, link: RoomLink) -> str:
        return ", ".join(origin.split("//", 1)[1] for origin in link.allowed_origins[:2]) + (
            f" and {len(link.allowed_origins) - 2} more" if len(link.allowed_origins) > 2 else ""
        )

    @admin.display(description="allowed sites")
    def allowed_sites(self, link: RoomLink) -> str:
        return ", ".join(link.allowed_origins) or "none but this server's own pages"

    @admin.action(description="Revoke selected links", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[RoomLink]) -> None:
        revoked = [link for link in self.may_change(request, queryset) if revoke_link(link=link)]
        for link in revoked:
            record_action(request_user=request.user, obj=link, text="Revoked.")
        messages.info(request, f"{counted(len(revoked), 'link')} revoked. Conversations that are running go on.")


def ways_to_share(link: RoomLink) -> dict[str, Any]:
    return {
        "qr": qr_code(link.url),
        "qr_file": segno.make(link.url, error="m").svg_data_uri(scale=8, light="white"),
        "snippets": snippets(link),
    }


def qr_code(url: str) -> SafeString:
    """An SVG for phones to read, dark on white whatever the page's colours are."""
    svg = segno.make(url, error="m").svg_inline(
        border=3, light="#fff", dark="#111", omitsize=True, title="QR code of the address", svgclass="qr"
    )
    return mark_safe(svg)  # noqa: S308 - made by segno from an address of ours


def snippets(link: RoomLink) -> list[dict[str, str]]:
    """What the owner of another site puts into its pages."""
    script = f'<script src="{settings.MOLTS_PUBLIC_URL}/embed.js" data-link="{link.public_id}"'
    return [
        {"title": "A button in the corner", "text": f"{script} async></script>"},
        {
            "title": "In a place of the page",
            "text": f'<div id="talk" style="height: 40rem"></div>\n{script} data-target="#talk" async></script>',
        },
    ]
