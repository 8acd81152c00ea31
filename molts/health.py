"""Is it up (`/healthz`), can it work (`/readyz`), how much does it do (`/metrics`)."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from functools import wraps

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from molts import beats
from molts.admin.speech_figures import speech_series
from molts.beats import WorkerKind
from molts.database import DatabaseUnavailable, check_writable
from molts.errors import MoltsError
from sessions import presence, rooms
from sessions.choices import LIVE_STATES
from sessions.models import LiveSession

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
    live = LiveSession.objects.filter(
        state__in=LIVE_STATES
    ).order_by()  # all that ever were would be a scan of the table
    counts = dict(live.values_list("state").annotate(count=Count("pk")))
    lines = ["# HELP molts_sessions Running conversations by state.", "# TYPE molts_sessions gauge"]
    lines += [f'molts_sessions{{state="{state.value}"}} {counts.get(state, 0)}' for state in LIVE_STATES]
    for name, text, value in [*_agent_gauges(), *_avatar_gauges()]:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"]
        lines += [f"{name} {value}"]
    for series in speech_series():
        lines += series.lines()
    return HttpResponse("\n".join(lines) + "\n", content_type="text/plain; version=0.0.4; charset=utf-8")


def _agent_gauges() -> list[tuple[str, str, int]]:
    """(name, help, value). Without Redis the workers are unknown, which is not the same as none."""
    try:
        workers = beats.workers()
        clock = presence.clock_beats()
    except MoltsError:
        return [("molts_redis_up", "Redis answers.", 0)]
    return [
        ("molts_redis_up", "Redis answers.", 1),
        ("molts_clock_up", "The reconciler ran lately.", int(clock)),
        ("molts_agent_workers", "Agent workers that beat.", len(workers)),
        ("molts_agent_slots", "Conversations that the workers can hold.", sum(worker.slots for worker in workers)),
        ("molts_agent_slots_used", "Conversations that the workers hold.", sum(worker.used for worker in workers)),
    ]


AVATAR_SUMS = {
    "joins": "Faces that joined a conversation.",
    "join_seconds": "Seconds from the call for a face to its picture, over all joins.",
    "lost": "Faces that were lost in a conversation.",
    "missed": "Calls for a face that none answered.",
    "answers": "Answers that a face spoke.",
    "playback_seconds": "Seconds that faces took to begin an answer, over all answers.",
}


def _avatar_gauges() -> list[tuple[str, str, float]]:
    """What avatars count and measure of themselves: the slowest and the sum, over those in conversations now."""
    try:
        workers, faces, sums = beats.workers(WorkerKind.AVATAR), presence.avatar_figures(), presence.avatar_sums()
    except MoltsError:
        return []

    def worst(name: str) -> float:
        return max((face.get(name, 0.0) for face in faces), default=0.0)

    return [
        ("molts_avatar_workers", "Avatar workers that beat.", len(workers)),
        ("molts_avatar_slots", "Faces that the workers can show.", sum(worker.slots for worker in workers)),
        ("molts_avatar_slots_used", "Faces that the workers show.", sum(worker.used for worker in workers)),
        ("molts_avatars", "Faces in conversations.", len(faces)),
        ("molts_avatar_frame_interval_p99_ms", "Between frames, worst face.", worst("interval_p99_ms")),
        ("molts_avatar_skew_p99_ms", "Lips behind the voice when sent, worst face.", worst("skew_p99_ms")),
        ("molts_avatar_frames", "Frames sent by these faces.", sum(face.get("frames", 0) for face in faces)),
        ("molts_avatar_frames_dropped", "Frames that came too late.", sum(face.get("dropped", 0) for face in faces)),
        ("molts_avatar_audio_gaps", "Gaps in their voices.", sum(face.get("gaps", 0) for face in faces)),
        *((f"molts_avatar_{name}_total", text, sums.get(name, 0.0)) for name, text in AVATAR_SUMS.items()),
    ]


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
