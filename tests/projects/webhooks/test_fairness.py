"""One that fails, hangs or asks for much costs no other its turn."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone

from projects.models import Project
from projects.webhooks import deliveries, sending, services
from projects.webhooks.choices import DeliveryState, EventType
from projects.webhooks.models import WebhookDelivery, WebhookEndpoint
from tests.projects.webhooks.conftest import Clock, make_endpoint
from tests.projects.webhooks.receiver import Receiver

pytestmark = pytest.mark.django_db(transaction=True)


def publish(project: Project, **given: Any) -> None:
    services.publish(project, EventType.SESSION_ENDED, {"n": 1}, **given)


def test_a_result_that_cannot_be_written_at_once_costs_no_other_try(
    project: Project, receiver: Receiver, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [DatabaseError("database is locked")] * 2
    write = deliveries.finish

    def sometimes(**given: Any) -> bool:
        if failures:
            raise failures.pop()
        return write(**given)

    monkeypatch.setattr(sending, "finish", sometimes)
    monkeypatch.setattr(sending, "REST_SECONDS", 0.01)
    for _ in range(6):
        make_endpoint(project, receiver.url)
    publish(project)
    clock.tick()
    assert set(WebhookDelivery.objects.values_list("state", "attempts")) == {(DeliveryState.DELIVERED, 1)}


def test_a_claim_that_fails_leaves_those_before_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        make_endpoint(project, "https://93.184.216.34/hook")
    publish(project)
    bad = WebhookDelivery.objects.order_by("next_try_at")[1].pk
    claim = deliveries.claim_delivery

    def sometimes(*, delivery_id: Any, now: Any) -> Any:
        if delivery_id == bad:
            raise DatabaseError("database is locked")
        return claim(delivery_id=delivery_id, now=now)

    monkeypatch.setattr(deliveries, "claim_delivery", sometimes)
    claims = deliveries.claim_due(now=timezone.now(), most=10)
    assert len(claims) == 2
    assert bad not in {claim.delivery_id for claim in claims}


def test_a_project_with_many_receivers_leaves_room_for_others(project: Project, other_project: Project) -> None:
    for number in range(30):
        publish(project, callback_url=f"https://host{number}.example.org/x")
    publish(other_project, callback_url="https://host.example.net/x")
    claims = deliveries.claim_due(now=timezone.now(), room={project.pk: 5}, room_of_others=5, most=100)
    assert Counter(claim.project_id for claim in claims) == {project.pk: 5, other_project.pk: 1}


def test_a_form_that_was_open_for_long_switches_nothing_on_again(project: Project) -> None:
    made, _ = make_endpoint(project, "https://93.184.216.34/hook")
    stale = WebhookEndpoint.objects.get(pk=made.pk)
    services.disable_endpoint(endpoint_id=made.pk, reason="It answered 410.")
    stale.description = "New words"
    services.change_endpoint(endpoint=stale, changed=["description"])
    made.refresh_from_db()
    assert (made.enabled, made.disabled_reason, made.description) == (False, "It answered 410.", "New words")
