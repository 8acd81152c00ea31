"""Deliveries to real receivers: what they answer decides what happens next. Times are given, not waited for."""

from __future__ import annotations

import asyncio
import json
import threading
import tracemalloc
from contextlib import ExitStack
from datetime import datetime, timedelta

import pytest
from django.db import connections, transaction
from django.utils import timezone
from pytest_django import Settings

from molts.errors import HIDDEN
from projects.models import Project
from projects.webhooks import deliveries, sending, services
from projects.webhooks.choices import DeliveryState, EventType
from projects.webhooks.deliveries import DELAYS, Answer, wait_after
from projects.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookEvent
from projects.webhooks.sending import drain_now
from tests.projects.webhooks.conftest import Clock, make_endpoint
from tests.projects.webhooks.receiver import Receiver, receiving

pytestmark = pytest.mark.django_db(transaction=True)


def tell(project: Project, **data: object) -> WebhookEvent | None:
    return services.publish(project, EventType.SESSION_ENDED, data)


# -- One receiver -----------------------------------------------------------------------------------------------------
def test_it_sends_what_happened(project: Project, receiver: Receiver, clock: Clock) -> None:
    make_endpoint(project, receiver.url)
    event = tell(project, words="Grüße")
    clock.tick()

    (got,) = receiver.received
    assert event is not None
    body = json.loads(got.body)
    assert set(body) == {"type", "timestamp", "data"}
    assert (body["type"], body["data"]) == ("session.ended", {"words": "Grüße"})
    assert datetime.fromisoformat(body["timestamp"]) - event.created_at < timedelta(milliseconds=1)
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-id"] == str(event.pk)
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempts, delivery.next_try_at) == (DeliveryState.DELIVERED, 1, None)
    tried = delivery.tries.get()
    assert (tried.number, tried.status, tried.answer, tried.error) == (1, 200, "thank you", "")
    assert tried.duration_ms is not None


def test_it_tries_again_under_the_same_id_until_it_is_taken(project: Project, receiver: Receiver, clock: Clock) -> None:
    receiver.answers = [500, 500, 200]
    make_endpoint(project, receiver.url)
    tell(project)

    clock.tick()
    clock.tick(seconds=4)  # too soon: the first pause is five seconds, a tenth more or less
    assert len(receiver.received) == 1
    clock.tick(seconds=2)
    clock.tick(minutes=6)
    clock.tick(days=5)

    assert len(receiver.received) == 3, "and none after it was taken"
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    assert len({got.body for got in receiver.received}) == 1
    assert len({got.headers["webhook-timestamp"] for got in receiver.received}) == 3
    delivery = WebhookDelivery.objects.get()
    assert delivery.state == DeliveryState.DELIVERED
    assert [each.status for each in delivery.tries.all()] == [500, 500, 200]


def test_it_gives_up_after_three_days_and_keeps_what_it_could_not_deliver(
    project: Project, receiver: Receiver, clock: Clock
) -> None:
    receiver.answers = [500]
    make_endpoint(project, receiver.url)
    tell(project)
    began = clock.at
    for _ in range(services.MOST_TRIES):
        clock.tick()
        delivery = WebhookDelivery.objects.get()
        if delivery.next_try_at is not None:
            clock.at = delivery.next_try_at

    assert delivery.state == DeliveryState.FAILED
    assert delivery.outcome == "It answered 500."
    assert len(receiver.received) == services.MOST_TRIES
    assert timedelta(hours=67) < clock.at - began < timedelta(hours=84)

    receiver.answers = [204]
    services.replay_delivery(delivery=WebhookDelivery.objects.select_related("endpoint").get())
    clock.at = timezone.now()
    clock.tick()
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, services.MOST_TRIES + 1)
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1


def test_the_pauses_are_those_of_standard_webhooks() -> None:
    assert sum(DELAYS, timedelta()) == timedelta(hours=75, minutes=35, seconds=5)
    now = timezone.now()
    even = [wait_after(tries_left=left, answer=Answer(500), now=now, jitter=lambda *_: 1.0) for left in range(9, 0, -1)]
    assert even == list(DELAYS)
    assert len({wait_after(tries_left=5, answer=Answer(500), now=now) for _ in range(9)}) > 1


@pytest.mark.parametrize(
    ("status", "asked", "waits"),
    [
        (503, "600", timedelta(minutes=10)),
        (429, "600", timedelta(minutes=10)),
        (500, "600", timedelta(seconds=5)),
        (503, "1", timedelta(seconds=5)),
        (503, "999999999", timedelta(hours=24)),
        (503, "9" * 40, timedelta(seconds=5)),
        (503, "Tue, 01 Dec 2026 00:20:00 GMT", timedelta(minutes=20)),
        (503, "Tue, 01 Dec 2026 00:20:00", timedelta(seconds=5)),
        (503, "soon", timedelta(seconds=5)),
        (503, "-5", timedelta(seconds=5)),
    ],
)
def test_a_receiver_may_ask_for_more_time(status: int, asked: str, waits: timedelta) -> None:
    now = datetime.fromisoformat("2026-12-01T00:00:00Z")
    answer = Answer(status, retry_after=asked)
    assert wait_after(tries_left=9, answer=answer, now=now, jitter=lambda *_: 1.0) == waits


def test_it_follows_no_redirect(project: Project, receiver: Receiver, clock: Clock) -> None:
    with receiving() as elsewhere:
        receiver.answers = [307]
        receiver.headers = {"location": elsewhere.url}
        make_endpoint(project, receiver.url)
        tell(project)
        clock.tick()

        assert elsewhere.received == []
    delivery = WebhookDelivery.objects.get()
    assert delivery.state == DeliveryState.WAITING
    assert (delivery.tries.get().status, delivery.tries.get().error) == (307, "Redirects are not followed.")


def test_410_switches_the_endpoint_off(project: Project, receiver: Receiver, clock: Clock) -> None:
    receiver.answers = [500, 410]
    make_endpoint(project, receiver.url)
    tell(project)
    clock.tick()
    tell(project)
    clock.tick(seconds=1)

    endpoint = WebhookEndpoint.objects.get()
    assert not endpoint.enabled
    assert "410" in endpoint.disabled_reason
    assert set(WebhookDelivery.objects.values_list("state", flat=True)) == {DeliveryState.FAILED}
    assert tell(project) is None, "nobody listens any more"
    clock.tick(days=5)
    assert len(receiver.received) == 2


def test_a_hundred_megabytes_cost_nothing(project: Project, receiver: Receiver, clock: Clock) -> None:
    receiver.megabytes = 100
    make_endpoint(project, receiver.url)
    tell(project)
    tracemalloc.start()
    try:
        clock.tick()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 20_000_000
    delivery = WebhookDelivery.objects.get()
    assert delivery.state == DeliveryState.DELIVERED
    assert delivery.tries.get().answer == "x" * 1000


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/hook", "http://[::ffff:127.0.0.1]:9/", "http://0x7f.1:9/hook"])
def test_no_private_address_is_called(project: Project, settings: Settings, clock: Clock, url: str) -> None:
    endpoint, _ = make_endpoint(project, "https://example.com/hook")
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(url=url)  # as if its name led there
    settings.MOLTS_ALLOWED_NETWORKS = []
    tell(project)
    clock.tick()

    assert "private network" in WebhookDelivery.objects.get().tries.get().error


def test_a_secret_that_comes_back_is_not_kept(project: Project, receiver: Receiver, clock: Clock) -> None:
    _, secret = make_endpoint(project, receiver.url)
    receiver.body = f"<b>unknown secret {secret}\x00".encode()
    receiver.answers = [401]
    tell(project)
    clock.tick()

    kept = WebhookAttempt.objects.get().answer
    assert secret not in kept
    assert HIDDEN in kept


# -- Several ----------------------------------------------------------------------------------------------------------
def test_nobody_waits_for_a_receiver_that_hangs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as open_ones:
        hanging = open_ones.enter_context(receiving(hangs=True))
        well = open_ones.enter_context(receiving())
        make_endpoint(project, hanging.url)
        for _ in range(50):
            tell(project)
        make_endpoint(project, well.url)
        tell(project)
        sender = threading.Thread(target=drain_now)
        sender.start()
        try:
            assert well.arrived.acquire(timeout=10)
            for _ in range(sending.AT_ONCE_IN_LANE):
                assert hanging.arrived.acquire(timeout=10)
            assert not hanging.arrived.acquire(blocking=False), "and it is not flooded meanwhile"
        finally:
            WebhookDelivery.objects.filter(state=DeliveryState.WAITING).update(next_try_at=None)
            hanging.leave.set()
            sender.join(30)
        assert not sender.is_alive()


def test_a_running_sender_takes_what_comes_later(project: Project) -> None:
    with receiving(hangs=True) as hanging, receiving() as well:
        make_endpoint(project, hanging.url)
        tell(project)

        async def scenario() -> None:
            sender = sending.Sender()
            running = asyncio.create_task(sender.drain())
            assert await asyncio.to_thread(hanging.arrived.acquire, timeout=10)
            await asyncio.to_thread(later)
            sender.wake()
            assert await asyncio.to_thread(well.arrived.acquire, timeout=10)
            hanging.leave.set()
            await running
            await sender.aclose()

        def later() -> None:
            WebhookEndpoint.objects.update(enabled=False)
            make_endpoint(project, well.url)
            tell(project)
            connections.close_all()

        asyncio.run(scenario())
        assert len(well.received) == 1


def test_two_senders_at_once_send_each_event_once(project: Project, receiver: Receiver) -> None:
    make_endpoint(project, receiver.url)
    for number in range(20):
        tell(project, number=number)
    start = threading.Barrier(3)

    def run() -> None:
        start.wait()
        drain_now()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(receiver.received) == 20
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 20
    assert set(WebhookDelivery.objects.values_list("attempts", flat=True)) == {1}


def test_one_of_two_claims_a_try(project: Project, receiver: Receiver) -> None:
    make_endpoint(project, receiver.url)
    tell(project)
    now, delivery = timezone.now(), WebhookDelivery.objects.get()
    assert deliveries.claim_delivery(delivery_id=delivery.pk, now=now) is not None
    assert deliveries.claim_delivery(delivery_id=delivery.pk, now=now) is None


# -- Losses -----------------------------------------------------------------------------------------------------------
def test_what_a_lost_sender_had_is_sent_again_and_its_late_word_is_not_heard(
    project: Project, receiver: Receiver, clock: Clock
) -> None:
    make_endpoint(project, receiver.url)
    tell(project)
    lost = deliveries.claim_delivery(delivery_id=WebhookDelivery.objects.get().pk, now=clock.at)
    assert lost is not None
    clock.tick(seconds=30)
    assert receiver.received == [], "its lease still holds"
    clock.tick(seconds=31)

    assert len(receiver.received) == 1
    assert receiver.received[0].headers["webhook-id"] == lost.headers["webhook-id"]
    assert not deliveries.finish(claim=lost, answer=Answer(500), now=clock.at)
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 2)
    assert [each.status for each in delivery.tries.all()] == [None, 200]


def test_a_last_try_that_is_lost_ends_it(project: Project, receiver: Receiver, clock: Clock) -> None:
    make_endpoint(project, receiver.url)
    tell(project)
    WebhookDelivery.objects.update(tries_left=1)
    assert deliveries.claim_delivery(delivery_id=WebhookDelivery.objects.get().pk, now=clock.at)
    clock.tick(seconds=61)

    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.outcome) == (DeliveryState.FAILED, "The last try was interrupted.")
    assert receiver.received == []


def test_what_is_rolled_back_is_never_sent(
    project: Project, receiver: Receiver, clock: Clock, nudges: list[None]
) -> None:
    make_endpoint(project, receiver.url)

    def break_off() -> None:
        with transaction.atomic():
            tell(project)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    clock.tick()

    assert (receiver.received, nudges) == ([], [])
    assert not WebhookEvent.objects.exists()
    tell(project)
    assert len(nudges) == 1


def test_a_secret_that_nothing_opens_waits_to_be_mended(project: Project, receiver: Receiver, clock: Clock) -> None:
    endpoint, _ = make_endpoint(project, receiver.url)
    WebhookEndpoint.objects.update(secret_cipher="gAAAAA-not-ours")
    tell(project)
    clock.tick()
    assert "MOLTS_FIELD_KEYS" in WebhookDelivery.objects.get().tries.get().error

    WebhookEndpoint.objects.update(secret_cipher=endpoint.secret_cipher)
    clock.tick(seconds=6)
    assert WebhookDelivery.objects.get().state == DeliveryState.DELIVERED


def test_old_events_are_cleared_away(project: Project, receiver: Receiver, clock: Clock) -> None:
    make_endpoint(project, receiver.url)
    tell(project)
    clock.tick()
    tell(project)  # still under way
    assert services.clear_old() == 0
    WebhookEvent.objects.update(created_at=timezone.now() - services.KEPT_FOR - timedelta(hours=1))

    assert services.clear_old() == 1
    assert WebhookEvent.objects.count() == WebhookDelivery.objects.count() == 1
    assert not WebhookAttempt.objects.exists()
