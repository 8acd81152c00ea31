"""Conversations on other people's pages: which sites may show a link in a frame, and what the frame needs there."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from molts.errors import BadInput, NotAllowed
from sessions.models import RoomLink

MOST_ORIGINS = 20
FRAME_COOKIE = "molts_frame"
LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def clean_origins(entries: Iterable[str]) -> list[str]:
    """`entries` as browsers spell origins, each once. Raises BadInput naming the first that is none."""
    origins = list(dict.fromkeys(clean_origin(entry) for entry in entries if entry.strip()))
    if len(origins) > MOST_ORIGINS:
        raise BadInput(f"At most {MOST_ORIGINS} sites may be allowed.", attr="allowed_origins")
    return origins


def clean_origin(text: str) -> str:
    """Scheme, host and port of a site, as a browser sends them. Raises BadInput."""
    refusal = BadInput(
        f"{text.strip()[:80]!r} is not the address of a site. Write it like https://www.example.org, without a path.",
        attr="allowed_origins",
    )
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise refusal from error
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.path.strip("/"):
        raise refusal
    if parts.query or parts.fragment:
        raise refusal
    host = _clean_host(parts.hostname or "")
    if host is None:
        raise refusal
    usual = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, usual) else "")


def _clean_host(host: str) -> str | None:
    """`host` in ASCII, an IPv6 address in brackets; None when it is no host."""
    try:
        if ":" in host:
            return f"[{ipaddress.IPv6Address(host).compressed}]"
        name = host.encode("idna").decode().lower()
    except ValueError:
        return None
    return name if name and all(LABEL.fullmatch(label) for label in name.split(".")) else None


def check_origin(*, link: RoomLink, origin: str, request: HttpRequest) -> None:
    """Raises NotAllowed where `origin` may not show this link. No origin: the page that asks is our own."""
    if not origin or origin in link.allowed_origins or origin in own_origins(request):
        return
    place = "This page" if origin == "null" else f"The site {origin[:200]}"
    raise NotAllowed(
        f"{place} may not show this conversation. Whoever made the link can allow the site in the link's settings.",
        code="origin_not_allowed",
    )


def own_origins(request: HttpRequest) -> set[str]:
    """Origins of our own pages: the host that was asked, and the public address."""
    public = "/".join(settings.MOLTS_PUBLIC_URL.split("/", 3)[:3])
    return {f"{request.scheme}://{request.get_host()}", public}


def let_frame(request: HttpRequest, response: HttpResponse, link: RoomLink) -> None:
    """Let our own pages and the sites of the link show this page in a frame, and its cookies work there."""
    request.META["MOLTS_FRAME_ANCESTORS"] = " ".join(["'self'", *link.allowed_origins])
    # The older header knows no list of sites; it is left out where one is needed.
    if link.allowed_origins:
        response.xframe_options_exempt = True
    else:
        response["X-Frame-Options"] = "SAMEORIGIN"
    if keep_frame_cookies(request, link):
        response.set_cookie(FRAME_COOKIE, "1", httponly=True, secure=True, samesite="None")


def keep_frame_cookies(request: HttpRequest, link: RoomLink) -> bool:
    """Whether another site shows this page in a frame, and may: then the answer's cookies go into that site's jar.

    The browser says so of the page itself. Of what the page asks for it says nothing, but a cookie of that jar does.
    """
    headers = request.headers
    is_framed = headers.get("Sec-Fetch-Dest") in ("iframe", "frame") and headers.get("Sec-Fetch-Site") == "cross-site"
    framed = bool(link.allowed_origins) and (is_framed or FRAME_COOKIE in request.COOKIES)
    if framed:
        request.META["MOLTS_PARTITION_COOKIES"] = "1"
    return framed
