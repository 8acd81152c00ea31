"""How often one person may have a voice speak: every sentence may cost the project money."""

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


def check_listen_rate(request: HttpRequest) -> None:
    """Raises Busy when this user has listened too often lately. Without Redis nothing is counted."""
    throttle = ListenThrottle()
    try:
        allowed = throttle.allow_request(request, None)  # type: ignore[arg-type]
    except (RedisError, OSError):
        return
    if not allowed:
        raise Busy(f"That was often enough for now. Listen again in {max(1, round(throttle.wait() or 1))} s.")
