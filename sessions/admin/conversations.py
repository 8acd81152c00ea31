"""Conversations: a list that stays fast, and a page that shows one as it was, or follows it while it runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Max, Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST

from avatars.admin.pages import as_id
from projects.admin_cells import chip, moment, short
from projects.audit import record_action
from projects.choices import Action
from projects.list_lookups import cut_search
from projects.scoped_admin import ScopedAdmin, ScopedRelatedFilter, counted, may_do, shown_projects
from sessions.admin.filters import DayFilter, HeldFilter, LinkFilter, NoticeFilter, SinceFilter, StateFilter
from sessions.admin.parts import (
    CappedPaginator,
    CountedList,
    conversations_url,
    has_several_projects,
)
from sessions.admin.used import UsageRow, cost_in_words
from sessions.choices import (
    LIVE_STATES,
    PART_NAMES,
    TOLD,
    WARNINGS,
    AgentStateName,
    EndReason,
    NoticeLevel,
    Role,
    SessionState,
)
from sessions.lines import say
from sessions.models import LiveSession, Segment, SessionNotice, Turn
from sessions.services import LONG_TEXTS, end_session, erase_session, offset_ms
from sessions.timeline import Timeline, Wait, percentiles, timeline
from sessions.transcripts import CONTENT_TYPES, clock, speaker
from sessions.views import answers_json, read_body, text_field, transcript_response, ws_path

LINES_A_PAGE = 200
MOST_TURNS = 200
MOST_TOTALS = 5_000
MOST_NOTICES = 200
MOST_ROWS = 50
SEARCHED_LINES = 100_000  # how many of the latest lines a search for words looks through
MOST_FOUND = 1_000
TONES = {
    SessionState.WAITING: "busy",
    SessionState.ACTIVE: "good",
    SessionState.ENDED: "quiet",
    SessionState.FAILED: "bad",
}


@admin.register(LiveSession)
class LiveSessionAdmin(ScopedAdmin):
    """A conversation is looked at, steered, ended or erased, but never rewritten."""

    list_display = (
        "began",
        "agent_name",
        "visitor",
        "came_by",
        "state_chip",
        "outcome",
        "lasted",
        "turns",
        "answered_in",
        "notices",
    )
    list_filter = (
        StateFilter,
        ("created_at", DayFilter),
        SinceFilter,
        ("agent", ScopedRelatedFilter),
        LinkFilter,
        HeldFilter,
        NoticeFilter,
        "reason",
        "source",
        ("project", ScopedRelatedFilter),
    )
    list_filter_submit = True
    list_before_template = "admin/live_sessions/livesession/list_before.html"
    search_from = 3  # fewer letters are said everywhere
    search_fields = ("visitor_name",)  # what it really looks at: get_search_results
    search_help_text = "Search in names, ids and what was said lately."
    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 0
    list_disable_select_all = True
    actions = ("end",)
    add_action = change_action = None
    delete_action = Action.MANAGE
    empty_text = "Every talk is kept here, with its words and its timings. Open one of your links to have the first."
    empty_link = ("See your links", "admin:live_sessions_roomlink_changelist")

    class Media:
        css = {"all": ("src/admin/talks.css",)}

    # -- the list ------------------------------------------------------------------------------------------------------
    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The user's, by the ids of their projects: of one project the database then reads its index in order."""
        shown = shown_projects(request)
        sessions = LiveSession.objects.all() if shown is None else LiveSession.objects.filter(project__in=shown)
        return sessions.select_related("agent", "project", "link").defer(*LONG_TEXTS).order_by("-created_at")

    def get_list_display(self, request: HttpRequest) -> tuple[Any, ...]:
        return (*self.list_display, "project") if has_several_projects(request) else self.list_display

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return CountedList

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        changes.search_cut = request.__dict__.get("_molts_search_cut", False)
        changes.live_count = self.get_queryset(request).filter(state__in=LIVE_STATES).order_by().count()
        return changes

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By name or id, and by words among the latest lines: a search through all would take ever longer."""
        term = cut_search(search_term).strip()
        if not term:
            return queryset, False
        found = Q(visitor_name__icontains=term) | Q(agent__name__icontains=term) | Q(link__name__icontains=term)
        said, is_cut = sessions_that_said(term, projects=shown_projects(request))
        request.__dict__["_molts_search_cut"] = is_cut
        found |= Q(room_name=term) | Q(pk__in=said)
        if (number := as_id(term)) is not None:
            found |= Q(pk=number)
        return queryset.filter(found), False

    def search_title(self, obj: LiveSession) -> str:
        began = date_format(timezone.localtime(obj.created_at), "DATETIME_FORMAT")
        return f"{obj.agent} with {visitor_name(obj)}, {began}"

    def add_figures(self, sessions: Iterable[Any]) -> None:
        """Turns, waits and notices for all of `sessions` at once."""
        ids = [session.pk for session in sessions]
        waits: dict[Any, list[int | None]] = {}
        for session_id, total in Turn.objects.filter(session__in=ids).order_by().values_list("session", "total_ms"):
            waits.setdefault(session_id, []).append(total)
        notices = SessionNotice.objects.filter(session__in=ids).order_by().values_list("session").annotate(Count("pk"))
        told = dict(notices)
        warned = SessionNotice.objects.filter(session__in=ids, level__in=WARNINGS).order_by("pk")
        # Of a conversation the worst, and of those the last.
        worst = {
            notice.session_id: notice for notice in sorted(warned, key=lambda each: each.level == NoticeLevel.ERROR)
        }
        for session in sessions:
            session.waits, session.notice_count = waits.get(session.pk, []), told.get(session.pk, 0)
            session.worst_notice = worst.get(session.pk)

    # -- columns -------------------------------------------------------------------------------------------------------
    @admin.display(description="began", ordering="created_at")
    def began(self, session: LiveSession) -> SafeString:
        return moment(session.created_at)

    @admin.display(description="agent", ordering="agent__name")
    def agent_name(self, session: LiveSession) -> SafeString:
        return short(session.agent.name)

    @admin.display(description="visitor", ordering="visitor_name")
    def visitor(self, session: LiveSession) -> SafeString:
        return short(visitor_name(session))

    @admin.display(description="by")
    def came_by(self, session: LiveSession) -> SafeString:
        return short(self._came_by(session))

    def _came_by(self, session: LiveSession) -> str:
        if session.link is None or session.link.one_session:
            return session.get_source_display()
        return "Trial" if session.link.trial_by_id else session.link.name or "Link"

    @admin.display(description="state", ordering="state")
    def state_chip(self, session: LiveSession) -> SafeString:
        return state_chip(session, troubled=_is_error(getattr(session, "worst_notice", None)))

    @admin.display(description="why it ended")
    def outcome(self, session: LiveSession) -> str:
        return session.get_reason_display() if session.reason else ""

    @admin.display(description="lasted")
    def lasted(self, session: LiveSession) -> str:
        return clock(offset_ms(session, session.ended_at))

    @admin.display(description="turns")
    def turns(self, session: Any) -> int:
        return len(session.waits)

    @admin.display(description="answered in")
    def answered_in(self, session: Any) -> str:
        """The median."""
        known = [total for total in session.waits if total is not None]
        return f"{round(median(known)):,} ms" if known else ""

    @admin.display(description="notices")
    def notices(self, session: Any) -> SafeString | int | str:
        """How many, and of a warning what it was about; the reason shows on pointing."""
        worst = session.worst_notice
        if worst is None:
            return session.notice_count or ""
        text = TOLD.get(worst.code, worst.code)
        reason = f"{worst.text} {worst.reason}".strip()
        return format_html('{} <span class="short" title="{}">{}</span>', session.notice_count, reason, text)

    # -- ending and erasing --------------------------------------------------------------------------------------------
    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request)
        if "delete_selected" in actions:
            run, name, _ = actions["delete_selected"]
            actions["delete_selected"] = (run, name, "Erase selected conversations")
        return actions

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[Any], list[Any]]:
        """In figures: of a long conversation every line would be listed."""
        refused = {str(self.opts.verbose_name) for obj in objs if not self.has_delete_permission(request, obj)}
        figures = {"conversations": len(objs), "lines": sum(session.last_seq for session in objs)}
        return [str(session) for session in objs], figures, refused, []

    def delete_model(self, request: HttpRequest, obj: LiveSession) -> None:
        # After the page's transaction: ending calls the media server, and nothing may wait for that with locks held.
        transaction.on_commit(partial(erase_session, session_id=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[LiveSession]) -> None:
        for session in queryset:
            erase_session(session_id=session.pk)

    def has_end_permission(self, request: HttpRequest, session: LiveSession | None = None) -> bool:
        return may_do(request, Action.EDIT, session.project_id if session else None)

    @admin.action(description="End selected conversations", permissions=["end"])
    def end(self, request: HttpRequest, queryset: QuerySet[LiveSession]) -> None:
        running = [session for session in self.may_change(request, queryset) if session.is_live]
        ended = sum(self._end(request, session) for session in running)
        messages.info(request, f"{counted(ended, 'conversation')} ended.")

    def _end(self, request: HttpRequest, session: LiveSession) -> bool:
        ended = end_session(session_id=session.pk, reason=EndReason.ENDED_BY_API)
        if ended:
            record_action(request_user=request.user, obj=session, text="Ended.")
        return ended

    # -- one conversation ----------------------------------------------------------------------------------------------
    def get_urls(self) -> list[Any]:
        def page(name: str, view: Any) -> Any:
            route = f"<uuid:session_id>/{name}/"
            return path(route, self.admin_site.admin_view(view), name=f"live_sessions_livesession_{name}")

        return [
            page("end", require_POST(self.end_view)),
            page("say", require_POST(answers_json(self.say_view))),
            page("transcript", require_GET(answers_json(self.transcript_view))),
            *super().get_urls(),
        ]

    def end_view(self, request: HttpRequest, session_id: uuid.UUID) -> HttpResponse:
        session = self._steered(request, session_id)
        if self._end(request, session):
            messages.success(request, "The conversation was ended.")
        else:
            messages.info(request, "The conversation was over already.")
        return redirect("admin:live_sessions_livesession_change", session.pk)

    def say_view(self, request: HttpRequest, session_id: uuid.UUID) -> HttpResponse:
        """Put words into a running conversation: the agent says them, or answers as if the visitor had."""
        session = self._steered(request, session_id)
        body = read_body(request)
        as_user = text_field(body, "as") == Role.USER
        say(session=session, text=text_field(body, "text", required=True), speaker=Role.USER if as_user else Role.AGENT)
        record_action(request_user=request.user, obj=session, text="Words were put into the conversation.")
        return JsonResponse({"accepted": True}, status=202)

    def transcript_view(self, request: HttpRequest, session_id: uuid.UUID) -> HttpResponse:
        return transcript_response(self.get_object(request, str(session_id)), request.GET.get("format", "txt"))

    def _steered(self, request: HttpRequest, session_id: uuid.UUID) -> LiveSession:
        session: LiveSession = self.get_object(request, str(session_id))
        if not self.has_end_permission(request, session):
            raise PermissionDenied
        return session

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        session = super().get_object(request, object_id, from_field)
        session.refresh_from_db(fields=["spec"])
        return session

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A page of its own: there is nothing to fill in."""
        session = self.get_object(request, unquote(object_id))
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request, session):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": session,
            "object": session,
            "show_back_button": True,
            "title": f"{session.agent} with {visitor_name(session)}",
            "may_steer": session.is_live and self.has_end_permission(request, session),
            "has_change_permission": False,
            "has_delete_permission": self.has_delete_permission(request, session),
            "list_url": conversations_url(),
            **conversation_data(session, page=request.GET.get("page", "")),
        }
        return TemplateResponse(request, "admin/live_sessions/livesession/conversation.html", context)


def visitor_name(session: LiveSession) -> str:
    return session.visitor_name or "Visitor"


def state_chip(session: LiveSession, *, troubled: bool = False) -> SafeString:
    """`troubled`: something that it needed did not work at all."""
    state = SessionState(session.state)
    return chip(_state_text(state), "bad" if troubled else TONES[state])


def _state_text(state: SessionState) -> str:
    return "running" if state == SessionState.ACTIVE else state.value


def _is_error(notice: SessionNotice | None) -> bool:
    return notice is not None and notice.level == NoticeLevel.ERROR


def sessions_that_said(term: str, *, projects: frozenset[Any] | None) -> tuple[list[Any], bool]:
    """Conversations with `term` among the latest lines of these projects (None: of all), the latest first, and
    whether there may be more."""
    lines = Segment.objects.order_by("-pk")
    if projects is not None:
        lines = lines.filter(session__project__in=projects)
    oldest = lines.values_list("pk", flat=True)[SEARCHED_LINES : SEARCHED_LINES + 1].first()
    if oldest is not None:
        lines = lines.filter(pk__gt=oldest)
    said = lines.filter(text__icontains=term).order_by().values("session").annotate(latest=Max("pk"))
    found = list(said.order_by("-latest").values_list("session", flat=True)[: MOST_FOUND + 1])
    return found[:MOST_FOUND], oldest is not None or len(found) > MOST_FOUND


def conversation_data(session: LiveSession, *, page: str) -> dict[str, Any]:
    """Everything that the page of one conversation shows, `LINES_A_PAGE` lines of it at a time.

    Lines are numbered without gaps, so pages are cut by number: the first page of a finished conversation, the last
    one of a running one, unless another is asked for.
    """
    pages = max(1, -(-session.last_seq // LINES_A_PAGE))
    number = int(page) if len(page) < 10 and page.isascii() and page.isdigit() and 0 < int(page) <= pages else 0
    number = number or (pages if session.is_live else 1)
    until = number * LINES_A_PAGE
    segments = list(session.segments.filter(seq__gt=until - LINES_A_PAGE, seq__lte=until).order_by("seq"))
    turns = session.turns.order_by("index")
    if pages > 1:
        names = [segment.segment_id for segment in segments]
        turns = turns.filter(Q(agent_segment_id__in=names) | Q(user_segment_id__in=names))
    notices = list(session.notices.all()[:MOST_NOTICES])
    totals = list(session.turns.order_by().values_list("total_ms", flat=True)[:MOST_TOTALS])
    usage = list(session.usage_records.all()[:MOST_ROWS])
    middle, slow = percentiles([total for total in totals if total is not None])
    follows = session.is_live and number == pages
    picture = timeline(session=session, segments=segments, notices=notices, first=number == 1, last=number == pages)
    waits = [Wait(turn) for turn in turns[:MOST_TURNS]]
    return {
        "session": session,
        "chip": state_chip(session, troubled=any(map(_is_error, notices))),
        "lasted": clock(offset_ms(session, session.ended_at)),
        "longest": clock(session.max_seconds * 1000) if session.max_seconds else "no limit",
        "turn_count": session.turns.count(),
        "interruptions": session.segments.filter(interrupted=True).count(),
        "median_ms": "" if middle is None else f"{middle:,} ms",
        "slow_ms": "" if slow is None else f"{slow:,} ms",
        "lines": [(segment, speaker(session, segment), clock(segment.start_ms)) for segment in segments],
        "page": number,
        "pages": range(1, pages + 1) if pages > 1 else (),
        "follows": follows,
        "talk": talk_data(session, follows=follows, picture=picture, waits=waits),
        "part_names": PART_NAMES,
        "waits": waits,
        "notices": [(clock(offset_ms(session, notice.created_at)), notice) for notice in notices],
        "usage": [UsageRow.of(record) for record in usage],
        "cost": _cost(usage),
        "people": list(session.participants.all()[:MOST_ROWS]),
        "formats": tuple(CONTENT_TYPES),
    }


def talk_data(session: LiveSession, *, follows: bool, picture: Timeline, waits: Sequence[Wait]) -> dict[str, Any]:
    """What the page's script draws and follows, and the words for what may come (`static/src/talk/data.ts`)."""
    return {
        "ws_path": ws_path(session) if follows else None,
        "last_seq": session.last_seq,
        "now_ms": offset_ms(session, session.ended_at),
        "names": {Role.USER: visitor_name(session), Role.AGENT: session.agent_snapshot.name},
        "timeline": picture.model_dump(mode="json"),
        "turns": [wait.data for wait in waits],
        "labels": {
            "states": {state: {"text": _state_text(state), "tone": TONES[state]} for state in SessionState},
            "reasons": dict(EndReason.choices),
            "agent_states": dict(AgentStateName.choices),
            "parts": {part: name for part, name in PART_NAMES.items() if part != "total"},
        },
    }


def _cost(usage: Sequence[Any]) -> str:
    if not usage or any(record.cost is None for record in usage):
        return ""
    return cost_in_words(sum(record.cost for record in usage), usage[0].currency)
