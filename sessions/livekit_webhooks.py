"""`POST /webhooks/livekit`: wake-ups from the media server.

They are signed, lossy and may come late, twice or out of order, so nothing is believed for their sake: each only makes
the reconciler look at one session now instead of at its next round.
"""

from __future__ import annotations

import logging

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from livekit.api import DisconnectReason, TokenVerifier, WebhookReceiver

from molts import beats
from molts.errors import Unavailable
from sessions import presence, services
from sessions.models import LiveSession
from sessions.tasks import reconcile_one

logger = logging.getLogger(__name__)

MAX_BODY = 65_536
VISITOR_RETURNS_WITHIN = presence.VISITOR_GONE_AFTER_MS / 1000 + 0.5  # a reload leaves the room and comes back
JOINED = frozenset({"participant_joined"})
LEFT = frozenset({"participant_left", "participant_connection_aborted", "room_finished"})


@csrf_exempt  # signed by the media server; no cookie is read
@require_POST
def livekit_webhook(request: HttpRequest) -> HttpResponse:
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > MAX_BODY:
        return HttpResponse(status=413)
    receiver = WebhookReceiver(TokenVerifier(settings.LIVEKIT_API_KEY, settings.LIVEKIT_API_SECRET))
    try:
        event = receiver.receive(request.body.decode("utf-8"), request.headers.get("Authorization", ""))
    except Exception:  # the receiver raises whatever its parts raise; all of it means: not signed by our media server
        logger.warning("refused an unsigned webhook")
        return HttpResponse(status=401)
    _wake(event.event, event.room.name, event.participant.identity, event.participant.disconnect_reason)
    return HttpResponse(status=200)


def _wake(event: str, room_name: str, identity: str, reason: int) -> None:
    if event not in JOINED | LEFT:
        return
    session = LiveSession.objects.filter(room_name=room_name).only("pk", "visitor_identity", "state").first()
    if session is None:
        return
    if event in JOINED and not session.is_live:
        # By an old token, on a media server that opens rooms for whoever comes (ours does not).
        LiveSession.objects.filter(pk=session.pk).update(room_closed_at=None)
        _look_at(session, seconds=0)
        return
    is_visitor = identity == session.visitor_identity
    if event in JOINED:
        if is_visitor:
            services.note_visitor_joined(session_id=session.pk)
        return
    # Whoever closes or reloads the page says goodbye; whoever was cut off has been silent for 20 s already.
    may_return = is_visitor and reason == DisconnectReason.CLIENT_INITIATED
    _look_at(session, seconds=VISITOR_RETURNS_WITHIN if may_return else 0)


def _look_at(session: LiveSession, *, seconds: float) -> None:
    try:
        with beats.sending() as sending:
            reconcile_one.apply_async(args=(str(session.pk),), countdown=seconds, **sending)
    except Unavailable:
        logger.warning("reconciler not woken: the broker is out of reach")  # its own rounds find it a little later
