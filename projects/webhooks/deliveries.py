"""The way of a delivery: it is claimed, tried, and then it is delivered, waits for its next try or is given up.

Truth is in the rows. A claim is a conditional UPDATE, so that of several senders one has each try; a sender that dies
leaves a lease that runs out, and the next one tries again under the same id.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from django.db import DatabaseError, transaction
from django.db.models import F, Q, QuerySet

from molts.errors import MoltsError
from projects.webhooks import services
from projects.webhooks.choices import DeliveryState
from projects.webhooks.models import MAX_ANSWER, WebhookAttempt, WebhookDelivery
from projects.webhooks.signing import signed_headers

logger = logging.getLogger(__name__)

DELAYS = (
    *(timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30)),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
)
"""From each failed try to the next: over 75 hours together."""
JITTER = 0.1
LONGEST_WAIT = timedelta(hours=24)
LEASE = timedelta(seconds=60)
"""Longer than any try may take."""
LOOKED_AT = 50
SLOW_DOWN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, 504)
GONE = "It answered 410: it wants no more events."


@dataclass(frozen=True)
class Claim:
    """One try, which nobody else has."""

    delivery_id: uuid.UUID
    number: int
    project_id: uuid.UUID
    lane: str
    url: str
    body: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What came of a try: a status, or an error in words when there was none."""

    status: int | None = None
    text: str = ""
    error: str = ""
    retry_after: str = ""
    duration_ms: int = 0

    @property
    def is_accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def in_words(self) -> str:
        return f"It answered {self.status}." if self.status is not None else self.error


def due(now: datetime) -> QuerySet[WebhookDelivery]:
    """What may be tried now: whose time has come, and whose sender was lost."""
    waits = Q(state=DeliveryState.WAITING, next_try_at__lte=now)
    lost = Q(state=DeliveryState.SENDING, lease_until__lt=now)
    return WebhookDelivery.objects.filter(waits | lost)


def claim_due(
    *,
    now: datetime,
    full: Collection[str] = (),
    room: Mapping[uuid.UUID, int] | None = None,
    room_of_others: int = 1_000,
    most: int,
) -> list[Claim]:
    """Up to `most` tries, the longest due first, none of a lane that is `full`, and one a lane: call again for more.

    `room` says how many more tries of a project may be under way, `room_of_others` of one that is not named there.
    """
    claims: list[Claim] = []
    taken = set(full)
    left = dict(room or {})
    while len(claims) < most:
        waiting = due(now).exclude(lane__in=taken).exclude(project__in=[pk for pk, count in left.items() if count < 1])
        looked_at = waiting.order_by("next_try_at").values_list("pk", "lane", "project_id")[:LOOKED_AT]
        found = {lane: (pk, project_id) for pk, lane, project_id in reversed(looked_at)}
        if not found:
            break
        for lane, (delivery_id, project_id) in list(found.items())[: most - len(claims)]:
            if left.setdefault(project_id, room_of_others) < 1:
                continue
            taken.add(lane)
            try:
                claim = claim_delivery(delivery_id=delivery_id, now=now)
            except DatabaseError:  # what was claimed so far is sent all the same
                logger.warning("a webhook could not be claimed", exc_info=True, extra={"delivery": str(delivery_id)})
                continue
            if claim is not None:
                claims.append(claim)
                left[project_id] -= 1
    return claims


def claim_delivery(*, delivery_id: uuid.UUID, now: datetime) -> Claim | None:
    """The next try of a delivery, for the one sender that may make it; None for all others.

    One that has no try left, since its last sender was lost, ends here.
    """
    ready = due(now).filter(pk=delivery_id)
    with transaction.atomic():
        claimed = ready.filter(tries_left__gt=0).update(
            state=DeliveryState.SENDING,
            attempts=F("attempts") + 1,
            tries_left=F("tries_left") - 1,
            lease_until=now + LEASE,
        )
        if not claimed:
            outcome = "The last try was interrupted."
            ready.filter(tries_left=0).update(
                state=DeliveryState.FAILED, outcome=outcome, ended_at=now, next_try_at=None, lease_until=None
            )
            return None
        delivery = WebhookDelivery.objects.select_related("event", "endpoint").get(pk=delivery_id)
        try:
            secrets = delivery.endpoint.secrets(now)
        except MoltsError as error:
            _refuse(delivery, error, now)
            return None
        body = delivery.event.body
        headers = signed_headers(event_id=str(delivery.event_id), body=body, secrets=secrets, now=now)
        WebhookAttempt.objects.create(
            delivery=delivery, number=delivery.attempts, url=delivery.url, started_at=now, request_headers=headers
        )
    return Claim(delivery_id, delivery.attempts, delivery.project_id, delivery.lane, delivery.url, body, headers)


def _refuse(delivery: WebhookDelivery, error: MoltsError, now: datetime) -> None:
    """A secret that nothing opens is mended by the operator: the delivery waits, as after any failed try."""
    WebhookAttempt.objects.create(
        delivery=delivery, number=delivery.attempts, url=delivery.url, started_at=now, error=error.detail[:300]
    )
    claim = Claim(delivery.pk, delivery.attempts, delivery.project_id, delivery.lane, delivery.url, "", {})
    finish(claim=claim, answer=Answer(error=error.detail), now=now)


def finish(
    *, claim: Claim, answer: Answer, now: datetime, jitter: Callable[[float, float], float] = random.uniform
) -> bool:
    """Write how a try ended. False when it came too late: another sender has the delivery by now."""
    with transaction.atomic():
        held = WebhookDelivery.objects.filter(pk=claim.delivery_id, state=DeliveryState.SENDING, attempts=claim.number)
        delivery = held.select_for_update(of=("self",)).select_related("endpoint").first()
        if delivery is None:
            return False
        WebhookAttempt.objects.filter(delivery=delivery, number=claim.number).update(
            status=answer.status,
            answer=answer.text[:MAX_ANSWER],
            error=answer.error[:300],
            duration_ms=answer.duration_ms,
        )
        is_gone = answer.status == HTTPStatus.GONE
        endpoint = delivery.endpoint
        stays_open = endpoint.enabled or not endpoint.is_listener
        if answer.is_accepted:
            state, next_try, outcome = DeliveryState.DELIVERED, None, ""
        elif is_gone or not delivery.tries_left or not stays_open:
            state, next_try, outcome = DeliveryState.FAILED, None, GONE if is_gone else answer.in_words
        else:
            wait = wait_after(tries_left=delivery.tries_left, answer=answer, now=now, jitter=jitter)
            state, next_try, outcome = DeliveryState.WAITING, now + wait, answer.in_words
        held.update(
            state=state,
            next_try_at=next_try,
            outcome=outcome[:300],
            lease_until=None,
            ended_at=None if state == DeliveryState.WAITING else now,
        )
        if is_gone and endpoint.is_listener and endpoint.url == claim.url:
            services.disable_endpoint(endpoint_id=endpoint.pk, reason=GONE)
    return True


def wait_after(
    *, tries_left: int, answer: Answer, now: datetime, jitter: Callable[[float, float], float] = random.uniform
) -> timedelta:
    """How long to wait after a failed try. Some luck is in it, so that what failed together does not come together."""
    delay = DELAYS[max(0, len(DELAYS) - tries_left)] * jitter(1 - JITTER, 1 + JITTER)
    asked = _retry_after(answer.retry_after, now) if answer.status in SLOW_DOWN else timedelta()
    return max(delay, min(asked, LONGEST_WAIT))


def _retry_after(text: str, now: datetime) -> timedelta:
    """What a `Retry-After` header asks for: seconds or a date; nothing when it is neither."""
    try:
        return timedelta(seconds=int(text)) if text.strip().isdecimal() else parsedate_to_datetime(text) - now
    except (ValueError, TypeError, OverflowError):
        return timedelta()
