"""Pages and endpoints of visitors. They need no account: a link opens the door, a cookie keeps one conversation."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.http.request import split_domain_port
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.utils.translation import get_language, get_language_bidi
from django.utils.translation import gettext as _
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.http import conditional_page, require_POST, require_safe

from avatars.models import Agent
from avatars.portraits import moving_character_url, portrait_url
from molts.api import error_body
from molts.errors import BadInput, Busy, Conflict, Gone, MoltsError, NotFound, TooLarge, WrongMethod
from projects.choices import Action
from sessions import embed, lines, presence, services, visitor
from sessions.catalog import page_words
from sessions.choices import LIVE_STATES, EndReason
from sessions.models import LiveSession, RoomLink
from sessions.throttling import check_say_rate, check_start_rate
from sessions.tokens import visitor_token
from sessions.transcripts import render_transcript

MAX_BODY = 16_384


def answers_json(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Errors of ours become the one JSON shape; nothing of a visitor's answer is cached anywhere."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response = view(request, *args, **kwargs)
        except MoltsError as error:
            response = JsonResponse(error_body(error), status=error.http_status)
            if error.retryable:
                response["Retry-After"] = str(getattr(error, "retry_after", 5))
        if isinstance(response, HttpResponseNotAllowed):
            allowed = response["Allow"]
            refusal = WrongMethod(f"Only {allowed} is answered here.")
            response = JsonResponse(error_body(refusal), status=405, headers={"Allow": allowed})
        response["Cache-Control"] = "no-store"
        return response

    return wrapped


def readable_anywhere(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Scripts of any site may read the answer, which is the same whatever cookies the browser has."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        response["Access-Control-Allow-Origin"] = "*"
        return response

    return wrapped


def read_body(request: HttpRequest) -> dict[str, Any]:
    """The JSON object of a POST; nothing sent is an empty one. Raises BadInput and TooLarge."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    # What the client says of the length is only its word: a body may come in chunks, without any.
    if not length.isdigit() or int(length) > MAX_BODY or len(request.body) > MAX_BODY:
        raise TooLarge(f"The request is too large: at most {MAX_BODY} bytes.")
    try:
        body = json.loads(request.body or b"{}")
    except (ValueError, RecursionError) as error:
        raise BadInput("The request body is not JSON, or nested too deeply.") from error
    if not isinstance(body, dict):
        raise BadInput("The request body must be a JSON object.")
    return body


def text_field(body: dict[str, Any], name: str, *, required: bool = False) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise BadInput(f"{name} must be text.", attr=name)
    if required and not value.strip():
        raise BadInput(f"{name} must not be empty.", attr=name)
    return value


def find_link(public_id: str) -> RoomLink | None:
    return RoomLink.objects.select_related("agent", "agent__avatar", "project").filter(public_id=public_id).first()


def get_link(public_id: str) -> RoomLink:
    link = find_link(public_id)
    if link is None:
        raise NotFound("There is no such link.")
    return link


# -- Pages ------------------------------------------------------------------------------------------------------------
@require_safe
def start_page(request: HttpRequest) -> HttpResponse:
    links = RoomLink.objects.filter(on_start_page=True, revoked_at=None).select_related("agent", "agent__avatar")
    agents = [
        {
            "name": link.agent.name,
            "description": link.agent.description,
            "portrait_url": portrait_url(link.agent.avatar),
            "clip_url": moving_character_url(link.agent.avatar),
            "room_url": link.get_absolute_url(),
        }
        for link in links.order_by("created_at")[:50]
        if not link.is_expired
    ]
    context = {
        "agents": agents,
        "moving": any(agent["clip_url"] for agent in agents),
        "for_operator": is_for_operator(request),
    }
    return render(request, "start.html", context)


def is_for_operator(request: HttpRequest) -> bool:
    """Whoever is signed in, or sits at the machine itself: a visitor from elsewhere has no use for next steps."""
    return request.user.is_authenticated or split_domain_port(request.get_host())[0] in (
        "127.0.0.1",
        "localhost",
        "[::1]",
    )


@method_decorator(never_cache, name="dispatch")
class RoomPage(View):
    """`/r/<public id>`: the page draws every state of the link; only an unknown one is a 404 page."""

    def get(self, request: HttpRequest, public_id: str) -> HttpResponse:
        try:
            link = get_link(public_id)
        except NotFound:
            return render(request, "room/unavailable.html", {"code": "not_found"}, status=404)
        if link.one_session:
            return self._joined(request, link)
        return room_page(request, link, visitor.find_running(request, link))

    def _joined(self, request: HttpRequest, link: RoomLink) -> HttpResponse:
        """A link for one session: the first browser that enters keeps it. To look is not to enter: programs that show
        previews of links only look."""
        session = LiveSession.objects.filter(link=link, state__in=LIVE_STATES).first()
        if session is not None and link.claimed_at and not visitor.opens_session(request.COOKIES, session.pk):
            told = {
                "title": _("This conversation is already open in another browser"),
                "text": _("Go on there, or ask whoever sent you the link for a new one."),
            }
            return render(request, "room/unavailable.html", told, status=409)
        if session is not None:
            presence.await_visitor(session.pk)
        return room_page(request, link, session)


def room_page(request: HttpRequest, link: RoomLink, running: LiveSession | None) -> HttpResponse:
    boot = {
        "link": link.public_id,
        "state": room_state(request, link, running),
        "agent": agent_data(link.agent),
        "project": link.project.name,
        "max_seconds": min(link.max_minutes, link.agent.max_minutes) * 60,
        "start_url": f"{link.get_absolute_url()}/start",
        "session": session_boot(running) if running else None,
        "offline_recogniser": False,
        "stun_servers": settings.MOLTS_STUN_SERVERS,
    }
    context = {
        "boot": boot,
        "agent": link.agent,
        "catalog": page_words(),
        "framed": request.headers.get("Sec-Fetch-Dest") in ("iframe", "frame"),
    }
    get_token(request)  # the page's script posts, so the cookie must be set
    response = render(request, "room/room.html", context)
    response["Referrer-Policy"] = "same-origin"  # the address is the permission: no other site learns it
    embed.let_frame(request, response, link)
    return response


def room_state(request: HttpRequest, link: RoomLink, running: LiveSession | None) -> str:
    """What the page begins with. `resume`: this browser is in it already; `invited`: a program has made the
    conversation, and its visitor is told first what awaits them."""
    if running is None:
        return link_state(link)
    return "resume" if visitor.opens_session(request.COOKIES, running.pk) else "invited"


def link_state(link: RoomLink) -> str:
    try:
        services.check_link(link=link)
    except (Gone, Busy) as error:
        return error.code.removeprefix("link_")
    return "open"


def agent_data(agent: Agent) -> dict[str, Any]:
    return {
        "name": agent.name,
        "description": agent.description,
        "language": agent.language,
        "portrait_url": portrait_url(agent.avatar),
        "greeting": agent.greeting,
    }


def session_boot(session: LiveSession) -> dict[str, Any]:
    return {"id": str(session.pk), "state": session.state, "ws_path": ws_path(session)}


def ws_path(session: LiveSession) -> str:
    return f"/ws/sessions/{session.pk}/"


@require_POST
def open_trial(request: HttpRequest, agent_id: uuid.UUID) -> HttpResponse:
    """The room page for whoever may edit the agent, opened from its editor."""
    agent = Agent.objects.for_actor(request.user, Action.EDIT).filter(pk=agent_id).first()
    if agent is None or not request.user.is_authenticated:
        raise Http404("There is no such agent.")
    return redirect(services.open_trial_link(agent=agent, user=request.user))


# -- On other people's pages ------------------------------------------------------------------------------------------
@require_safe
@conditional_page
def embed_script(request: HttpRequest) -> HttpResponse:
    """The script behind `<script src=".../embed.js">`. Its address never changes, so browsers ask for news by the hour
    and use what they have meanwhile."""
    path = finders.find("src/embed/embed.js")
    assert isinstance(path, str)
    response = HttpResponse(Path(path).read_bytes(), content_type="text/javascript; charset=utf-8")
    response["Cache-Control"] = "public, max-age=3600, stale-while-revalidate=604800"
    response["Access-Control-Allow-Origin"] = "*"
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response


@method_decorator((readable_anywhere, answers_json), name="dispatch")
class EmbedView(View):
    """`GET /r/<public id>/embed`: whether the page that asks may show the link, and what to write around it
    in the browser's language.

    Every page may read the answer: who may not show the conversation shall be able to say so.
    """

    def get(self, request: HttpRequest, public_id: str) -> HttpResponse:
        link = get_link(public_id)
        embed.check_origin(link=link, origin=request.headers.get("Origin", ""), request=request)
        if (state := link_state(link)) in ("expired", "revoked"):
            raise Gone("This conversation is no longer offered.", code=f"link_{state}")
        words = {
            "label": _("Talk to us"),
            "title": _("Conversation with %(name)s") % {"name": link.agent.name},
            "close": _("Close the conversation"),
        }
        return JsonResponse(
            {"agent": link.agent.name, "language": get_language(), "rtl": get_language_bidi(), "words": words}
        )


# -- The visitor's endpoints ------------------------------------------------------------------------------------------
def entry(session: LiveSession) -> dict[str, Any]:
    """What a browser needs to enter the room."""
    return {
        "session": {"id": str(session.pk), "state": session.state},
        "room_name": session.room_name,
        "server_url": settings.LIVEKIT_PUBLIC_URL,
        "participant_token": visitor_token(
            room_name=session.room_name, identity=session.visitor_identity, name=session.visitor_name
        ),
        "ws_path": ws_path(session),
    }


@method_decorator(answers_json, name="dispatch")
class StartView(View):
    """`POST /r/<public id>/start`: a new conversation, or with `resume` a new token for a running one."""

    def post(self, request: HttpRequest, public_id: str) -> HttpResponse:
        body = read_body(request)
        link = get_link(public_id)
        embed.keep_frame_cookies(request, link)
        if body.get("resume"):
            return self._resume(request, link, text_field(body, "resume"))
        name = services.clean_name(text_field(body, "name"))
        check_start_rate(request)
        session = services.start_session(agent=link.agent, link=link, visitor_name=name)
        response = JsonResponse(entry(session), status=201)
        visitor.give_cookie(response, session)
        visitor.take_old_cookies(request, response)
        return response

    def _resume(self, request: HttpRequest, link: RoomLink, session_id: str) -> HttpResponse:
        try:
            wanted = uuid.UUID(session_id)
        except ValueError as error:
            raise NotFound("There is no such conversation.") from error
        if link.one_session and not visitor.opens_session(request.COOKIES, wanted):
            return self._claim(link, wanted)
        session = visitor.get_visitor_session(request, link, wanted)
        if not session.is_live:
            raise Gone("This conversation is over.", code="session_ended")
        return JsonResponse(entry(session))

    def _claim(self, link: RoomLink, session_id: uuid.UUID) -> HttpResponse:
        session = LiveSession.objects.filter(pk=session_id, link=link).first()
        if session is None:
            raise NotFound("There is no such conversation.")
        if not session.is_live:
            raise Gone("This conversation is over.", code="session_ended")
        if not services.claim_link(link=link):
            raise Conflict("This conversation is already open in another browser.", code="link_claimed")
        response = JsonResponse(entry(session))
        visitor.give_cookie(response, session)
        return response


class VisitorView(View):
    """Base of what a visitor may do with their own conversation."""

    @method_decorator(answers_json)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        link = find_link(kwargs.pop("public_id"))
        if link is not None:
            embed.keep_frame_cookies(request, link)
        self.session = visitor.get_visitor_session(request, link, kwargs.pop("session_id"))
        response = super().dispatch(request, *args, **kwargs)
        assert isinstance(response, HttpResponse)
        return response


class EndView(VisitorView):
    def post(self, request: HttpRequest) -> HttpResponse:
        services.end_session(session_id=self.session.pk, reason=EndReason.ENDED_BY_USER)
        self.session.refresh_from_db()
        return JsonResponse({"state": self.session.state, "reason": self.session.reason})


class TranscriptView(VisitorView):
    def get(self, request: HttpRequest) -> HttpResponse:
        return transcript_response(self.session, request.GET.get("format", "txt"))


class SayView(VisitorView):
    def post(self, request: HttpRequest) -> HttpResponse:
        body = read_body(request)
        text = text_field(body, "text", required=True)
        line = _parse_line(text_field(body, "id"))
        check_say_rate(request, self.session.pk)
        lines.say(session=self.session, text=text, speaker="user", name=line)
        return JsonResponse({"accepted": True}, status=202)


def _parse_line(text: str) -> str:
    """The page's own name for a line: however often it is sent, by whatever way, the agent answers it once."""
    try:
        return str(uuid.UUID(text)) if text else ""
    except ValueError as error:
        raise BadInput("id must be a UUID.", attr="id") from error


class OwnSessionView(VisitorView):
    def delete(self, request: HttpRequest) -> HttpResponse:
        services.erase_session(session_id=self.session.pk)
        response = HttpResponse(status=204)
        visitor.take_cookie(response, self.session.pk)
        return response


def transcript_response(session: LiveSession, format: str) -> HttpResponse:
    text, content_type = render_transcript(session=session, format=format)
    response = HttpResponse(text, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="conversation-{session.created_at:%Y%m%d-%H%M}.{format}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response
