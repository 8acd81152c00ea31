"""The page of a conversation that is over. The visitor's cookie opens it, for as long as it lives."""

from __future__ import annotations

import uuid
from datetime import timedelta
from statistics import median
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.views import View
from django.views.decorators.cache import never_cache

from molts.errors import NotFound
from sessions import services, visitor
from sessions.choices import EndReason, Role
from sessions.models import LiveSession, RoomLink
from sessions.transcripts import clock

FORMATS = ("txt", "vtt", "json")


@method_decorator(never_cache, name="dispatch")
class SummaryPage(View):
    """`/r/<public id>/sessions/<id>/summary`: to read, keep, erase, and talk again. It needs no script."""

    def get(self, request: HttpRequest, public_id: str, session_id: uuid.UUID) -> HttpResponse:
        link = RoomLink.objects.filter(public_id=public_id).first()
        session = _find(request, link, session_id)
        if session is None:
            return self._gone(request, link, session_id)
        agent = session.agent_snapshot
        context = {
            "link": link,
            "public_id": public_id,
            "session": session,
            "agent_name": agent.name,
            "agent_language": agent.language,
            "said": _length(session),
            "why": _reason(session),
            "lines": _lines(session),
            "wait": _typical_wait(session),
            "formats": FORMATS,
        }
        return _answer(request, "room/summary.html", context)

    def post(self, request: HttpRequest, public_id: str, session_id: uuid.UUID) -> HttpResponse:
        """Erases it for good. The cookie stays: it is what shows this visitor that nothing is left."""
        link = RoomLink.objects.filter(public_id=public_id).first()
        session = _find(request, link, session_id)
        if session is not None:
            services.erase_session(session_id=session.pk)
        return redirect(request.path)

    def _gone(self, request: HttpRequest, link: RoomLink | None, session_id: uuid.UUID) -> HttpResponse:
        """Nothing to show: erased, or this browser never had (or no longer has) the key to it."""
        had_it = visitor.opens_session(request.COOKIES, session_id)
        context = {"link": link, "erased": had_it and not LiveSession.objects.filter(pk=session_id).exists()}
        return _answer(request, "room/summary_gone.html", context, status=200 if context["erased"] else 404)


def _answer(request: HttpRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
    response = render(request, template, context, status=status)
    response["Referrer-Policy"] = "same-origin"  # the address holds the link, which is the permission to talk
    return response


def _find(request: HttpRequest, link: RoomLink | None, session_id: uuid.UUID) -> LiveSession | None:
    try:
        return visitor.get_visitor_session(request, link, session_id)
    except NotFound:
        return None


def _length(session: LiveSession) -> str:
    """How long it took, in words."""
    if session.ended_at is None:
        return ""
    seconds = round(max(timedelta(), session.ended_at - session.created_at).total_seconds())
    minutes, rest = divmod(seconds, 60)
    if minutes and rest:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": rest}
    if minutes:
        return _("%(minutes)d min") % {"minutes": minutes}
    return _("%(seconds)d s") % {"seconds": rest}


def _reason(session: LiveSession) -> str:
    """Why it is over, where that is not plain to whoever ended it."""
    name = session.agent_snapshot.name
    match session.reason:
        case EndReason.SILENCE:
            return _("It ended because nobody spoke for a while.")
        case EndReason.TIME_LIMIT:
            return _("The time for this conversation was up.")
        case EndReason.NO_AGENT:
            return _("%(name)s could not join.") % {"name": name}
        case EndReason.AGENT_LOST:
            return _("%(name)s dropped out and could not be brought back.") % {"name": name}
        case EndReason.BUDGET:
            return _("The budget for conversations is used up for now.")
        case EndReason.ERROR:
            return _("Something went wrong on our side.")
        case EndReason.ENDED_BY_API:
            return _("It was ended by the host.")
    return ""


def _lines(session: LiveSession) -> list[dict[str, Any]]:
    """What was said, each answer with how long the visitor waited for it."""
    waits = {
        turn.agent_segment_id: turn.total_ms
        for turn in session.turns.all()
        if turn.agent_segment_id and turn.total_ms is not None
    }
    return [
        {
            "role": segment.role,
            "mine": segment.role == Role.USER,
            "text": segment.text,
            "at": clock(segment.start_ms),
            "interrupted": segment.interrupted,
            "wait": _seconds(waits.get(segment.segment_id)),
        }
        for segment in session.segments.order_by("seq")
    ]


def _typical_wait(session: LiveSession) -> str:
    waits = [turn.total_ms for turn in session.turns.all() if turn.total_ms is not None]
    return _seconds(round(median(waits))) if waits else ""


def _seconds(milliseconds: int | None) -> str:
    """Seconds with one decimal, as the visitor's language writes them. Nobody notices less than a tenth."""
    return "" if milliseconds is None else number_format(max(0.1, milliseconds / 1000), decimal_pos=1)
