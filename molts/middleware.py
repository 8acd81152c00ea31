"""Headers that every page carries."""

from __future__ import annotations

from collections.abc import Callable
from http.cookies import Morsel
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse


def _policy() -> str:
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
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())


class ContentSecurityPolicy:
    """Scripts and styles come from this host only; the page may talk to the media server besides.

    Swagger UI needs inline styles and scripts: its page alone is exempt from the script and style rules.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.policy = _policy()
        inline = self.policy.replace("script-src 'self'", "script-src 'self' 'unsafe-inline'")
        self.docs_policy = inline.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        policy = self.docs_policy if request.path.startswith("/api/docs") else self.policy
        if ancestors := request.META.get("MOLTS_FRAME_ANCESTORS"):  # set by the view: who may show the page in a frame
            policy = policy.replace("frame-ancestors 'none'", f"frame-ancestors {ancestors}")
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers.setdefault("Permissions-Policy", "microphone=(self), camera=(self), geolocation=()")
        return response


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
