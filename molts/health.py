"""Is it up (`/healthz`), can it work (`/readyz`), how much does it do (`/metrics`)."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from functools import wraps

from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from molts import beats
from molts.database import DatabaseUnavailable, check_writable
from molts.errors import MoltsError
from sessions import rooms

View = Callable[[HttpRequest], HttpResponse]


def operators_only(view: View) -> View:
    """For this machine, and for whoever holds MOLTS_HEALTH_TOKEN.

    Behind a proxy everybody seems to come from this machine, so what was forwarded counts as coming from elsewhere.
    """

    @wraps(view)
    def wrapped(request: HttpRequest) -> HttpResponse:
        if _is_local(request) or _has_token(request):
            return view(request)
        return HttpResponseForbidden("Ask from the machine itself, or with the token MOLTS_HEALTH_TOKEN.")

    return wrapped


def _is_local(request: HttpRequest) -> bool:
    if any(name in request.headers for name in ("X-Forwarded-For", "Forwarded", "X-Real-Ip")):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


def _has_token(request: HttpRequest) -> bool:
    token: str = settings.MOLTS_HEALTH_TOKEN
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return bool(token) and hmac.compare_digest(given.encode(), token.encode())


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@never_cache
@operators_only
def readyz(request: HttpRequest) -> HttpResponse:
    """The database takes writes, Redis and media server answer."""
    checks = {
        "database": _check(check_writable),
        "redis": _check(beats.workers),
        "media_server": _check(_ask_media_server),
    }
    ready = all(text == "ok" for text in checks.values())
    return JsonResponse({"ready": ready, "checks": checks}, status=200 if ready else 503)


@require_safe
@never_cache
@operators_only
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text format."""
    from molts.metrics import CONTENT_TYPE, exposition  # prometheus_client is loaded where somebody asks for metrics

    return HttpResponse(exposition(), content_type=CONTENT_TYPE)


def _check(ask: Callable[[], object]) -> str:
    try:
        ask()
    except DatabaseUnavailable as error:
        return error.trouble
    except MoltsError as error:
        return error.detail
    except Exception as error:  # a readiness page says what is wrong instead of being what is wrong
        return type(error).__name__
    return "ok"


def _ask_media_server() -> None:
    async_to_sync(rooms.list_room_names)(rooms.room_prefix())
