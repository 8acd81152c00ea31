"""What can happen to endpoints and events. How an event gets to its receivers: `deliveries`, `sending`."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from celery import current_app
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, transaction
from django.utils import timezone

from molts import beats, crypto
from molts.errors import BadInput, Conflict, TooLarge, Unavailable
from molts.http import check_url
from projects.models import Project
from projects.services import Rotation, rotate_ciphers
from projects.webhooks.choices import OPEN_STATES, TEST_TYPE, DeliveryState, EndpointKind, EventType
from projects.webhooks.models import MAX_URL, WebhookDelivery, WebhookEndpoint, WebhookEvent
from projects.webhooks.signing import new_secret

logger = logging.getLogger(__name__)

MAX_PAYLOAD = 20_000
MOST_ENDPOINTS = 20  # a few of them hanging must leave room for other projects'
MOST_TRIES = 10
PREVIOUS_SECRET_LASTS = timedelta(hours=24)
KEPT_FOR = timedelta(days=30)
CLEARED_AT_ONCE = 500
NUDGE_LASTS = 60  # seconds: a worker that comes back finds no pile of them, and the clock goes on
SEND_TASK = "projects.webhooks.tasks.send_due"
SWITCHED_OFF = "The endpoint was switched off."
CHANGEABLE = ("url", "description", "event_types", "enabled")


# -- Telling ----------------------------------------------------------------------------------------------------------
def publish(
    project: Project, type: EventType, data: Mapping[str, Any], *, callback_url: str | None = None
) -> WebhookEvent | None:
    """Tell the project's endpoints, and `callback_url` if there is one, that something happened.

    Call it in the transaction that makes it happen: what is rolled back is never sent, what is committed always is.
    None when nobody asked to be told. Raises TooLarge for `data` that makes the body 20 kB or more.
    """
    with transaction.atomic():
        listening = WebhookEndpoint.objects.filter(project=project, kind=EndpointKind.LISTENER, enabled=True)
        endpoints = [endpoint for endpoint in listening if endpoint.wants(type)]
        if not endpoints and not callback_url:
            return None
        event = _write_event(project=project, type=type, data=data)
        deliveries = [_delivery(event, endpoint) for endpoint in endpoints]
        if callback_url:
            deliveries.append(_delivery(event, callback_endpoint(project=project), callback_url=callback_url))
        WebhookDelivery.objects.bulk_create(deliveries)
        transaction.on_commit(nudge, robust=True)
    return event


def forget(*, project: Project, about: uuid.UUID) -> None:
    """Delete all events of something that was erased, those on their way too."""
    WebhookEvent.objects.filter(project=project, body__contains=str(about)).delete()


def _write_event(*, project: Project, type: str, data: Mapping[str, Any]) -> WebhookEvent:
    event = WebhookEvent(project=project, type=type)
    told = {"type": type, "timestamp": event.created_at, "data": data}
    event.body = json.dumps(told, cls=DjangoJSONEncoder, ensure_ascii=False, separators=(",", ":"))
    if len(event.body.encode()) >= MAX_PAYLOAD:
        raise TooLarge(f"An event may have at most {MAX_PAYLOAD} bytes.")
    event.save(force_insert=True)
    return event


def _delivery(
    event: WebhookEvent, endpoint: WebhookEndpoint, *, callback_url: str = "", tries: int = MOST_TRIES
) -> WebhookDelivery:
    lane = f"{endpoint.pk}:{urlsplit(callback_url).hostname}" if callback_url else str(endpoint.pk)
    return WebhookDelivery(
        project_id=event.project_id,
        event=event,
        endpoint=endpoint,
        callback_url=callback_url,
        lane=lane[:300],
        tries_left=tries,
    )


_nudging = threading.Lock()


def nudge() -> None:
    """Have what is due sent now. If no worker can be told, the clock's next tick does it.

    From a thread, one at a time: a Redis that does not answer keeps waiting nobody who ends a conversation.
    """
    if _nudging.acquire(blocking=False):
        threading.Thread(target=_nudge, name="webhook-nudge", daemon=True).start()


def _nudge() -> None:
    try:
        with beats.sending() as sending:
            current_app.send_task(SEND_TASK, expires=NUDGE_LASTS, **sending)
    except Unavailable:
        logger.warning("webhooks wait for the clock: Redis is out of reach")
    finally:
        _nudging.release()


def check_callback_url(url: str, *, attr: str = "callback_url") -> str:
    """`url` as a job may carry it; raises BadInput for one that is not called."""
    if len(url) > MAX_URL:
        raise BadInput(f"The URL is too long: at most {MAX_URL} characters.", attr=attr)
    return check_url(url, attr=attr)


# -- Endpoints --------------------------------------------------------------------------------------------------------
def create_endpoint(*, endpoint: WebhookEndpoint, endpoint_id: uuid.UUID | None = None) -> tuple[WebhookEndpoint, str]:
    """Save a new endpoint. The second value is its secret, which nothing shows again.

    The same `endpoint_id` twice is an IntegrityError.
    """
    if endpoint_id is not None:
        endpoint.pk = endpoint_id
    check_endpoint(endpoint=endpoint)
    with transaction.atomic():
        Project.objects.select_for_update().get(pk=endpoint.project_id)  # two at once must not both be the last
        check_room(project_id=endpoint.project_id)
        plain = new_secret()
        endpoint.secret_cipher = crypto.encrypt(plain)
        endpoint.save(force_insert=True)
    return endpoint, plain


def change_endpoint(*, endpoint: WebhookEndpoint, changed: Collection[str] = CHANGEABLE) -> WebhookEndpoint:
    """Save those fields of `endpoint` that were `changed`: it may have been read long ago, and switched off since.

    Switching it off ends what still waits for it.
    """
    check_endpoint(endpoint=endpoint)
    fields = [name for name in CHANGEABLE if name in changed]
    with transaction.atomic():
        stored = WebhookEndpoint.objects.select_for_update(of=("self",)).get(pk=endpoint.pk)
        for name in fields:
            setattr(stored, name, getattr(endpoint, name))
        if "enabled" in fields and stored.enabled:
            stored.disabled_reason = ""
        stored.save(update_fields=[*fields, "disabled_reason"])
        if "enabled" in fields and not stored.enabled:
            _end_waiting(stored, SWITCHED_OFF)
    return stored


def check_room(*, project_id: uuid.UUID) -> None:
    """Raises Conflict when the project has as many endpoints as it may have."""
    if WebhookEndpoint.objects.filter(project_id=project_id, kind=EndpointKind.LISTENER).count() >= MOST_ENDPOINTS:
        raise Conflict(f"A project has at most {MOST_ENDPOINTS} endpoints: delete one.", code="too_many")


def check_endpoint(*, endpoint: WebhookEndpoint) -> None:
    """Raises BadInput naming the field that is wrong."""
    if endpoint.is_listener:
        check_callback_url(endpoint.url, attr="url")
    unknown = [name for name in endpoint.event_types if name not in EventType.values]
    if unknown:
        raise BadInput(f"There is no event type {unknown[0]!r}.", attr="event_types")
    endpoint.event_types = [name for name in EventType.values if name in endpoint.event_types]


def disable_endpoint(*, endpoint_id: uuid.UUID, reason: str) -> bool:
    """Switch an endpoint off because of what it answered. True for the caller that did it."""
    with transaction.atomic():
        changed = WebhookEndpoint.objects.filter(pk=endpoint_id, enabled=True).update(
            enabled=False, disabled_reason=reason
        )
        if changed:
            _end_waiting(WebhookEndpoint(pk=endpoint_id), reason)
    return changed > 0


def _end_waiting(endpoint: WebhookEndpoint, outcome: str) -> None:
    """What waits for an endpoint that is off would wait for ever. It can be replayed."""
    WebhookDelivery.objects.filter(endpoint_id=endpoint.pk, state=DeliveryState.WAITING).update(
        state=DeliveryState.FAILED, outcome=outcome, next_try_at=None, ended_at=timezone.now()
    )


def callback_endpoint(*, project: Project) -> WebhookEndpoint:
    """The one that holds the project's secret for callback addresses; made when it is first needed."""
    kind = EndpointKind.CALLBACKS
    found = WebhookEndpoint.objects.filter(project=project, kind=kind).first()
    if found is not None:
        return found
    made = WebhookEndpoint(project=project, kind=kind, secret_cipher=crypto.encrypt(new_secret()))
    try:
        with transaction.atomic():
            made.save(force_insert=True)
    except IntegrityError:  # another made it first
        return WebhookEndpoint.objects.get(project=project, kind=kind)
    return made


def rotate_secret(*, endpoint: WebhookEndpoint) -> str:
    """A new secret, shown this once. The one before it stays valid for a day: until then both sign.

    Raises Conflict when somebody else rotates it at the same moment.
    """
    plain = new_secret()
    before = endpoint.secret_cipher
    changed = WebhookEndpoint.objects.filter(pk=endpoint.pk, secret_cipher=before).update(
        secret_cipher=crypto.encrypt(plain),
        previous_cipher=before,
        previous_until=timezone.now() + PREVIOUS_SECRET_LASTS,
    )
    if not changed:
        raise Conflict("The secret was changed in the meantime. Look again, then decide.")
    endpoint.refresh_from_db()
    return plain


# -- Deliveries -------------------------------------------------------------------------------------------------------
def replay_delivery(*, delivery: WebhookDelivery) -> None:
    """Send what is over once more, under the same id. Raises Conflict while it still waits, or for a switched-off
    endpoint."""
    if not delivery.endpoint.enabled:
        raise Conflict("This endpoint is switched off: switch it on first.", code="endpoint_disabled")
    changed = (
        WebhookDelivery.objects.filter(pk=delivery.pk)
        .exclude(state__in=OPEN_STATES)
        .update(
            state=DeliveryState.WAITING,
            tries_left=MOST_TRIES,
            next_try_at=timezone.now(),
            lease_until=None,
            ended_at=None,
            outcome="",
        )
    )
    if not changed:
        raise Conflict("This delivery is still under way.", code="delivery_open")
    transaction.on_commit(nudge)


def create_test(*, endpoint: WebhookEndpoint) -> WebhookDelivery:
    """An event of its own for one endpoint, to be sent by the caller, once."""
    data = {"endpoint_id": endpoint.pk, "text": "This is a test."}
    with transaction.atomic():
        event = _write_event(project=endpoint.project, type=TEST_TYPE, data=data)
        delivery = _delivery(event, endpoint, tries=1)
        delivery.save(force_insert=True)
    return delivery


# -- Keeping order ----------------------------------------------------------------------------------------------------
def clear_old() -> int:
    """Delete events of long ago, with their deliveries; those that are still under way stay."""
    old = WebhookEvent.objects.filter(created_at__lt=timezone.now() - KEPT_FOR)
    open_events = WebhookDelivery.objects.filter(state__in=OPEN_STATES).values("event_id")
    chosen: Sequence[uuid.UUID] = list(
        old.exclude(pk__in=open_events).order_by("created_at").values_list("pk", flat=True)[:CLEARED_AT_ONCE]
    )
    WebhookEvent.objects.filter(pk__in=chosen).delete()
    return len(chosen)


def rotate_stored_secrets() -> Rotation:
    """Encrypt all secrets of endpoints with the first field key."""
    return rotate_ciphers(WebhookEndpoint.objects.all(), names=["secret_cipher", "previous_cipher"])
