"""The visitor's own key to one conversation: a signed, HttpOnly cookie."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from molts.errors import NotFound
from sessions.choices import LIVE_STATES
from sessions.models import LiveSession, RoomLink
from sessions.tokens import COOKIE_MAX_AGE, COOKIE_PREFIX, cookie_name, opens, sign_cookie, signed_at

MOST_COOKIES = 10


def give_cookie(response: HttpResponse, session: LiveSession) -> None:
    """From now on this browser may see, continue, end and erase the conversation."""
    response.set_cookie(
        cookie_name(session.pk),
        sign_cookie(session.pk),
        max_age=COOKIE_MAX_AGE,
        httponly=True,
        secure=settings.SESSION_COOKIE_SECURE,
        samesite="Lax",
    )


def take_cookie(response: HttpResponse, session_id: uuid.UUID) -> None:
    response.delete_cookie(cookie_name(session_id), samesite="Lax")


def opens_session(cookies: Mapping[str, str], session_id: uuid.UUID) -> bool:
    """Whether these cookies open that session."""
    return opens(cookies.get(cookie_name(session_id)), session_id)


def get_visitor_session(request: HttpRequest, link: RoomLink | None, session_id: uuid.UUID) -> LiveSession:
    """The visitor's session. Raises NotFound for unknown and foreign ones alike.

    Without a link it is one whose link was deleted: it stays its visitor's, while nothing begins by that link any more.
    """
    if not opens_session(request.COOKIES, session_id):
        raise NotFound("There is no such conversation.")
    session = LiveSession.objects.filter(pk=session_id, link=link).select_related("agent", "project").first()
    if session is None:
        raise NotFound("There is no such conversation.")
    return session


def find_running(request: HttpRequest, link: RoomLink) -> LiveSession | None:
    """The latest running session of this link that the browser has the cookie of."""
    owned = _owned(request)
    return LiveSession.objects.filter(pk__in=owned, link=link, state__in=LIVE_STATES).order_by("-created_at").first()


def take_old_cookies(request: HttpRequest, response: HttpResponse) -> None:
    """Keep the latest few: a browser sends all of them with every request, and servers refuse very long headers."""
    for session_id in _owned(request)[MOST_COOKIES - 1 :]:
        take_cookie(response, session_id)


def _owned(request: HttpRequest) -> list[uuid.UUID]:
    """Sessions whose cookies the browser has, the latest first."""
    found = []
    for name, value in request.COOKIES.items():
        text = name.removeprefix(COOKIE_PREFIX)
        if name.startswith(COOKIE_PREFIX) and _is_hex_id(text) and (at := signed_at(value, uuid.UUID(hex=text))):
            found.append((at, uuid.UUID(hex=text)))
    return [session_id for _, session_id in sorted(found, reverse=True)]


def _is_hex_id(text: str) -> bool:
    return len(text) == 32 and all(character in "0123456789abcdef" for character in text)
