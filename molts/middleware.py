"""What holds for every request: how its text is read, and the headers that every page carries."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from http.cookies import Morsel
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse

FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class OnlyUtf8:
    """Text is read as UTF-8, whatever a request claims.

    Django would believe it, also for the query: "hex" ends in an error, and some encodings make halves of characters,
    which no database and no answer can carry.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.encoding and codecs.lookup(request.encoding).name != "utf-8":
            if request.content_type in FORMS:
                raise BadRequest("Forms must be sent in UTF-8.")
            request.encoding = "utf-8"
        return self.get_response(request)


def _policy(**changes: str) -> str:
    media = settings.LIVEKIT_PUBLIC_URL
    http_media = media.replace("wss://", "https://", 1).replace("ws://", "http://", 1)
    parts = {
        "default-src": "'self'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data: blob:",
        "media-src": "'self' blob: mediastream:",
        "connect-src": f"'self' {media} {http_media}",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return "; ".join(f"{name} {value}" for name, value in parts.items())


class ContentSecurityPolicy:
    """Scripts and styles come from this host only; the page may talk to the media server besides.

    Two parts of the site are written by others and need more: Swagger UI inline styles and scripts, the admin inline
    styles and `eval` (Alpine compiles the expressions in its templates). The admin shows room pages in a frame. A view
    that sets a policy itself keeps it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.policy = _policy()
        self.by_path = {
            "/api/docs": _policy(script_src="'self' 'unsafe-inline'", style_src="'self' 'unsafe-inline'"),
            "/admin/": _policy(
                script_src="'self' 'unsafe-eval'", style_src="'self' 'unsafe-inline'", frame_src="'self'"
            ),
        }

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        policy = self.policy_for(request.path)
        if ancestors := request.META.get("MOLTS_FRAME_ANCESTORS"):  # set by the view: who may show the page in a frame
            policy = policy.replace("frame-ancestors 'none'", f"frame-ancestors {ancestors}")
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers.setdefault("Permissions-Policy", "microphone=(self), camera=(self), geolocation=()")
        return response

    def policy_for(self, path: str) -> str:
        return next((policy for prefix, policy in self.by_path.items() if path.startswith(prefix)), self.policy)


class PartitionedMorsel(Morsel[str]):
    """A cookie that a frame on another site gets back, and only there: each site has a jar of its own for it."""

    def __init__(self, plain: Morsel[str]) -> None:
        super().__init__()
        self.set(plain.key, plain.value, plain.coded_value)
        self.update(plain)
        self.update({"samesite": "None", "secure": "yes"})

    def OutputString(self, attrs: Any = None) -> str:  # noqa: N802 - the name is the base class's
        return f"{super().OutputString(attrs)}; Partitioned"


class FrameCookies:
    """Where a view says that its page is shown by another site, all its cookies are made to work there."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.META.get("MOLTS_PARTITION_COOKIES"):
            for name, plain in list(response.cookies.items()):
                response.cookies[name] = PartitionedMorsel(plain)
        return response
