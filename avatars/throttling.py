"""How often one person may have a voice speak or a face rendered: sentences may cost money, faces cost this machine."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from redis import RedisError
from rest_framework.throttling import SimpleRateThrottle

from molts.errors import Busy


class ListenThrottle(SimpleRateThrottle):
    scope = "listen"
    rate = "20/min"

    def get_cache_key(self, request: Any, view: object) -> str:
        return self.cache_format % {"scope": self.scope, "ident": request.user.pk}


class PreviewThrottle(ListenThrottle):
    scope = "face-preview"
    rate = "40/min"


def check_listen_rate(request: HttpRequest) -> None:
    """Raises Busy when this user has listened too often lately. Without Redis nothing is counted."""
    _check(ListenThrottle(), request, "Listen again")


def check_preview_rate(request: HttpRequest) -> None:
    """Raises Busy when this user has asked for too many previews lately. Without Redis nothing is counted."""
    _check(PreviewThrottle(), request, "Look again")


def _check(throttle: ListenThrottle, request: HttpRequest, again: str) -> None:
    try:
        allowed = throttle.allow_request(request, None)  # type: ignore[arg-type]
    except (RedisError, OSError):
        return
    if not allowed:
        raise Busy(f"That was often enough for now. {again} in {max(1, round(throttle.wait() or 1))} s.")
