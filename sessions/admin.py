"""Room links, and conversations to look into."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from projects.choices import Action
from projects.scoped_admin import ScopedAdmin, ScopedForm, ScopedRelatedFilter, may_do
from sessions.choices import LIVE_STATES, EndReason
from sessions.models import LiveSession, RoomLink
from sessions.services import end_session, erase_session
from sessions.transcripts import clock, speaker

PARTS = ("endpointing_ms", "stt_ms", "llm_ms", "tts_ms", "avatar_ms", "total_ms")


class RoomLinkForm(ScopedForm):
    class Meta:
        model = RoomLink
        fields = ("agent", "name", "expires_at", "max_minutes", "max_concurrent", "on_start_page")


class OpenFilter(admin.SimpleListFilter):
    """Whether a link still lets anybody in."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open"), ("expired", "Expired"), ("revoked", "Revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        over = Q(expires_at__lte=timezone.now())
        match self.value():
            case "open":
                return queryset.filter(revoked_at=None).exclude(over)
            case "expired":
                return queryset.filter(over, revoked_at=None)
            case "revoked":
                return queryset.exclude(revoked_at=None)
            case _:
                return queryset


@admin.register(RoomLink)
class RoomLinkAdmin(ScopedAdmin):
    form = RoomLinkForm
    owner_field = "agent"
    list_display = ("__str__", "agent", "project", "open_link", "state", "talking_now", "on_start_page", "expires_at")
    list_select_related = ("agent", "project")
    list_filter = (OpenFilter, ("agent", ScopedRelatedFilter), ("project", ScopedRelatedFilter), "on_start_page")
    search_fields = ("name", "agent__name", "public_id")
    ordering = ("-created_at",)  # said again: counting the conversations drops the model's own
    actions = ("revoke",)
    readonly_fields = ("project", "address", "state", "talking_now", "created_at", "revoked_at")
    fieldsets = (
        (None, {"fields": ("address", "agent", "project", "name", "on_start_page")}),
        ("Limits", {"fields": ("expires_at", "max_minutes", "max_concurrent")}),
        ("State", {"fields": ("state", "talking_now", "created_at", "revoked_at")}),
    )

    class Media:
        js = ("admin/copy.js",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ((None, {"fields": ("agent", "name", "on_start_page")}), self.fieldsets[1])
        return self.fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fields = super().get_readonly_fields(request, obj)
        # Who has the link knows whom it leads to; another agent gets another link.
        return (*fields, "agent") if obj else fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        live = Count("live_sessions", filter=Q(live_sessions__state__in=LIVE_STATES))
        links: QuerySet[Any] = super().get_queryset(request).annotate(live_count=live)
        return links

    def save_model(self, request: HttpRequest, obj: RoomLink, form: Any, change: bool) -> None:
        obj.project_id = obj.agent.project_id
        super().save_model(request, obj, form, change)

    @admin.display(description="link")
    def open_link(self, link: RoomLink) -> SafeString:
        return format_html('<a href="{}">{}</a>', link.get_absolute_url(), link.url)

    @admin.display(description="address")
    def address(self, link: RoomLink) -> SafeString:
        return format_html(
            '<input type="text" readonly size="70" value="{}" aria-label="Address of the link"> '
            '<button type="button" class="button" data-copy="{}">Copy</button> <a href="{}">Open</a>',
            link.url,
            link.url,
            link.get_absolute_url(),
        )

    @admin.display(description="state")
    def state(self, link: RoomLink) -> str:
        if link.revoked_at:
            return "revoked"
        return "expired" if link.is_expired else "open"

    @admin.display(description="talking now")
    def talking_now(self, link: Any) -> str:
        return f"{link.live_count} of {link.max_concurrent}"

    @admin.action(description="Revoke selected links", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[RoomLink]) -> None:
        ids = [link.pk for link in self.may_change(request, queryset)]
        revoked = RoomLink.objects.filter(pk__in=ids, revoked_at=None).update(revoked_at=timezone.now())
        messages.info(request, f"{revoked} links revoked. Conversations that are running go on.")


@admin.register(LiveSession)
class LiveSessionAdmin(ScopedAdmin):
    """A conversation is looked at, ended or erased, but never rewritten."""

    list_display = (
        "created_at",
        "agent",
        "visitor",
        "state",
        "reason",
        "lasted",
        "lines",
        "source",
        "project",
    )
    list_select_related = ("agent", "project")
    list_filter = (
        ("agent", ScopedRelatedFilter),
        "state",
        "created_at",
        "source",
        "reason",
        ("project", ScopedRelatedFilter),
    )
    date_hierarchy = "created_at"
    search_fields = ("visitor_name", "room_name", "segments__text")
    search_help_text = "Search in names, rooms and everything that was said."
    list_per_page = 50
    actions = ("end",)
    add_action = change_action = None
    delete_action = Action.MANAGE
    fieldsets = (
        (None, {"fields": ("agent", "revision", "link", "project", "source", "visitor", "room_name", "max_seconds")}),
        ("State", {"fields": ("state", "reason", "agent_state", "created_at", "active_at", "ended_at", "lasted")}),
        ("Transcript", {"fields": ("transcript",)}),
        ("Turns, in milliseconds from the visitor's last sound to the first of the answer", {"fields": ("turns",)}),
        ("Usage", {"fields": ("usage",)}),
        ("Notices", {"fields": ("notices",)}),
        ("Participants", {"fields": ("participants",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # The spec is long and no list shows it.
        return super().get_queryset(request).defer("spec")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        session = super().get_object(request, object_id, from_field)
        if session is not None:
            session.refresh_from_db(fields=["spec"])
        return session

    def has_end_permission(self, request: HttpRequest) -> bool:
        return may_do(request, Action.EDIT)

    def delete_model(self, request: HttpRequest, obj: LiveSession) -> None:
        # After the page's transaction: ending calls the media server, and nothing may wait for that with locks held.
        transaction.on_commit(partial(erase_session, session_id=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[LiveSession]) -> None:
        for session in queryset:
            erase_session(session_id=session.pk)

    @admin.action(description="End selected conversations", permissions=["end"])
    def end(self, request: HttpRequest, queryset: QuerySet[LiveSession]) -> None:
        running = [session for session in self.may_change(request, queryset) if session.is_live]
        ended = sum(end_session(session_id=session.pk, reason=EndReason.ENDED_BY_API) for session in running)
        messages.info(request, f"{ended} conversations ended.")

    @admin.display(description="visitor", ordering="visitor_name")
    def visitor(self, session: LiveSession) -> str:
        return session.visitor_name or "Visitor"

    @admin.display(description="lasted")
    def lasted(self, session: LiveSession) -> str:
        end = session.ended_at or timezone.now()
        return clock(round((end - session.created_at).total_seconds() * 1000))

    @admin.display(description="lines", ordering="last_seq")
    def lines(self, session: LiveSession) -> int:
        return session.last_seq

    @admin.display(description="transcript")
    def transcript(self, session: LiveSession) -> SafeString | str:
        return _table(
            ("#", "at", "who", "said", ""),
            (
                (
                    segment.seq,
                    clock(segment.start_ms),
                    speaker(session, segment),
                    segment.text,
                    ", ".join(name for name in ("interrupted", "revised") if getattr(segment, name)),
                )
                for segment in session.segments.order_by("seq")
            ),
        )

    @admin.display(description="turns")
    def turns(self, session: LiveSession) -> SafeString | str:
        heads = ("turn", *(part.removesuffix("_ms") for part in PARTS), "")
        return _table(
            heads,
            (
                (
                    turn.index,
                    *(_known(getattr(turn, part)) for part in PARTS),
                    "interrupted" if turn.interrupted else "",
                )
                for turn in session.turns.order_by("index")
            ),
        )

    @admin.display(description="usage")
    def usage(self, session: LiveSession) -> SafeString | str:
        return _table(
            ("kind", "provider", "model", "quantity", "unit", "cost"),
            (
                (
                    record.kind,
                    record.provider,
                    record.model,
                    f"{record.quantity.normalize():f}",
                    record.unit,
                    "not priced" if record.cost is None else f"{record.cost.normalize():f} {record.currency}",
                )
                for record in session.usage_records.all()
            ),
        )

    @admin.display(description="notices")
    def notices(self, session: LiveSession) -> SafeString | str:
        return _table(
            ("at", "level", "code", "text"),
            ((_moment(notice.created_at), notice.level, notice.code, notice.text) for notice in session.notices.all()),
        )

    @admin.display(description="participants")
    def participants(self, session: LiveSession) -> SafeString | str:
        return _table(
            ("who", "identity", "kind", "joined", "left"),
            (
                (
                    person.name or "",
                    person.identity,
                    person.get_kind_display(),
                    _moment(person.joined_at),
                    _moment(person.left_at),
                )
                for person in session.participants.all()
            ),
        )


def _known(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _moment(value: Any) -> str:
    return f"{value:%H:%M:%S}" if value else ""


def _table(heads: Iterable[str], rows: Iterable[tuple[Any, ...]]) -> SafeString | str:
    """Every cell is escaped: what visitors and models say is text and nothing else."""
    body = [format_html_join("", "<td>{}</td>", ((cell,) for cell in row)) for row in rows]
    if not body:
        return "none"
    head = format_html_join("", '<th scope="col">{}</th>', ((name,) for name in heads))
    lines = format_html_join("", "<tr>{}</tr>", ((row,) for row in body))
    return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, lines)
