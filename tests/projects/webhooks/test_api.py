"""Webhook endpoints by REST."""

from __future__ import annotations

import json
import uuid

import pytest
from django.contrib.auth.models import User
from standardwebhooks import Webhook

from projects.choices import MemberRole
from projects.models import ApiKey, Project
from projects.services import add_member
from projects.webhooks import services
from projects.webhooks.choices import EventType
from projects.webhooks.models import WebhookDelivery, WebhookEndpoint
from tests.api import Caller, by_key, by_login, error_of
from tests.projects.webhooks.conftest import Clock, make_endpoint
from tests.projects.webhooks.receiver import Receiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("live_servers")]

URL = "https://example.com/hook"
LIST = "webhook-endpoints"


@pytest.fixture
def key(api_key: tuple[ApiKey, str]) -> Caller:
    """A program of project A."""
    return by_key(api_key[1])


@pytest.fixture
def other_key(other_api_key: tuple[ApiKey, str]) -> Caller:
    """A program of project B."""
    return by_key(other_api_key[1])


def test_a_new_endpoint_shows_its_secret_once(key: Caller, project: Project) -> None:
    answer = key.post(LIST, {"url": URL, "description": "CRM", "event_types": ["video.failed", "session.ended"]})

    assert answer.status_code == 201
    made = answer.json()
    assert made["secret"].startswith("whsec_")
    assert made["event_types"] == ["session.ended", "video.failed"]
    assert (made["url"], made["description"], made["enabled"]) == (URL, "CRM", True)
    assert answer["Location"] == f"/api/v1/{LIST}/{made['id']}"
    shown = key.get(f"{LIST}/{made['id']}").json()
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert key.get(LIST).json()["results"] == [shown]
    endpoint = WebhookEndpoint.objects.get()
    assert endpoint.project == project
    assert made["secret"] not in endpoint.secret_cipher


def test_a_repeated_request_makes_no_second_one_and_shows_no_secret(key: Caller) -> None:
    first = key.post(LIST, {"url": URL}, Idempotency_Key="one")
    again = key.post(LIST, {"url": URL}, Idempotency_Key="one")
    assert again.json() == {**first.json(), "secret": None}
    assert again["Idempotent-Replayed"] == "true"
    assert WebhookEndpoint.objects.count() == 1
    assert key.post(LIST, {"url": f"{URL}/2"}, Idempotency_Key="one").status_code == 409


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        ({}, "url"),
        ({"url": "nowhere"}, "url"),
        ({"url": "http://10.0.0.1/"}, "url"),
        ({"url": URL, "event_types": ["session.paused"]}, "event_types.0"),
        ({"url": URL, "secret": "whsec_mine"}, "secret"),
        ({"url": URL, "project": str(uuid.uuid4())}, "project"),
    ],
)
def test_a_wrong_one_is_refused(key: Caller, body: dict[str, object], attr: str) -> None:
    answer = key.post(LIST, body)
    assert answer.status_code == 400
    assert error_of(answer)["attr"] == attr


def test_it_is_changed_and_deleted(key: Caller, project: Project) -> None:
    endpoint, _ = make_endpoint(project, URL)
    answer = key.patch(f"{LIST}/{endpoint.pk}", {"event_types": ["video.failed"], "enabled": False})
    assert answer.status_code == 200
    assert (answer.json()["url"], answer.json()["enabled"]) == (URL, False)
    assert error_of(key.patch(f"{LIST}/{endpoint.pk}", {"url": "nowhere"}))["attr"] == "url"
    assert error_of(key.patch(f"{LIST}/{endpoint.pk}", {"kind": "callbacks"}))["code"] == "unknown_field"

    assert key.delete(f"{LIST}/{endpoint.pk}").status_code == 204
    assert key.get(f"{LIST}/{endpoint.pk}").status_code == 404


def test_its_secret_is_rotated(key: Caller, project: Project) -> None:
    endpoint, old = make_endpoint(project, URL)
    answer = key.post(f"{LIST}/{endpoint.pk}/rotate-secret").json()
    assert answer["secret"] != old
    assert answer["previous_secret_until"]
    assert "secret" not in key.get(f"{LIST}/{endpoint.pk}").json()


def test_it_is_tested_at_once(key: Caller, project: Project, receiver: Receiver) -> None:
    endpoint, secret = make_endpoint(project, receiver.url, event_types=["video.failed"])
    receiver.answers = [404]
    answer = key.post(f"{LIST}/{endpoint.pk}/test")

    assert answer.status_code == 200
    (tried,) = answer.json()["tries"]
    assert (tried["status"], tried["answer"]) == (404, "thank you")
    assert (answer.json()["state"], answer.json()["next_try_at"]) == ("failed", None), "a test is tried once"
    (got,) = receiver.received
    assert Webhook(secret).verify(got.body, got.headers)["type"] == "webhook.test"


def test_its_deliveries_are_listed_with_each_try_and_replayed(
    key: Caller, project: Project, receiver: Receiver, clock: Clock
) -> None:
    endpoint, _ = make_endpoint(project, receiver.url)
    receiver.answers = [500, 200]
    event = services.publish(project, EventType.SESSION_ENDED, {"number": 1})
    assert event is not None
    clock.tick()
    (shown,) = key.get(f"{LIST}/{endpoint.pk}/deliveries").json()["results"]
    assert (shown["event_id"], shown["type"], shown["state"]) == (str(event.pk), "session.ended", "waiting")
    assert shown["outcome"] == "It answered 500."
    assert json.loads(shown["body"])["data"] == {"number": 1}
    (tried,) = shown["tries"]
    assert tried["request_headers"]["webhook-id"] == str(event.pk)
    assert (tried["status"], tried["answer"]) == (500, "thank you")
    assert tried["duration_ms"] >= 0
    replay = f"{LIST}/{endpoint.pk}/deliveries/{shown['id']}/replay"
    assert error_of(key.post(replay))["code"] == "delivery_open"

    clock.tick(seconds=6)
    assert key.get(f"{LIST}/{endpoint.pk}/deliveries", state="waiting").json()["count"] == 0
    answer = key.post(replay)
    assert (answer.status_code, answer.json()) == (202, {"id": shown["id"]})
    clock.tick()
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    assert len(receiver.received) == 3


def test_the_secret_of_callbacks(key: Caller, project: Project) -> None:
    answer = key.post(f"{LIST}/callback-secret", {})
    assert answer.status_code == 200
    made = answer.json()
    assert (made["kind"], made["secret"][:6]) == ("callbacks", "whsec_")
    assert key.post(f"{LIST}/callback-secret", {}).json()["id"] == made["id"]
    for refused in (
        key.patch(f"{LIST}/{made['id']}", {"url": URL}),
        key.delete(f"{LIST}/{made['id']}"),
        key.post(f"{LIST}/{made['id']}/test"),
    ):
        assert refused.status_code == 409
    assert WebhookEndpoint.objects.get(project=project).kind == "callbacks"


def test_another_projects_endpoint_does_not_exist(key: Caller, other_key: Caller, project: Project) -> None:
    endpoint, _ = make_endpoint(project, URL)
    services.publish(project, EventType.SESSION_ENDED, {})
    delivery = WebhookDelivery.objects.get()
    one = f"{LIST}/{endpoint.pk}"
    assert other_key.get(LIST).json()["count"] == 0
    for answer in (
        other_key.get(one),
        other_key.patch(one, {"enabled": False}),
        other_key.delete(one),
        other_key.post(f"{one}/rotate-secret"),
        other_key.post(f"{one}/test"),
        other_key.get(f"{one}/deliveries"),
        other_key.post(f"{one}/deliveries/{delivery.pk}/replay"),
        key.post(f"{one}/deliveries/{uuid.uuid4()}/replay"),
        other_key.post(LIST, {"url": URL, "project": str(project.pk)}),
    ):
        assert answer.status_code in (404, 400)
    assert WebhookEndpoint.objects.get().enabled


def test_a_viewer_looks_and_an_editor_changes(project: Project, other_project: Project, vera: User, bob: User) -> None:
    endpoint, _ = make_endpoint(project, URL)
    one = f"{LIST}/{endpoint.pk}"
    viewer, editor = by_login(vera), by_login(bob)
    assert viewer.get(one).status_code == viewer.get(f"{one}/deliveries").status_code == 200
    for refused in (
        viewer.post(LIST, {"url": URL}),
        viewer.patch(one, {"enabled": False}),
        viewer.delete(one),
        viewer.post(f"{one}/rotate-secret"),
        viewer.post(f"{one}/test"),
        viewer.post(f"{LIST}/callback-secret", {}),
    ):
        assert refused.status_code == 403
    assert editor.post(LIST, {"url": URL}).status_code == 201
    add_member(project=other_project, user=bob, role=MemberRole.EDITOR)
    assert error_of(editor.post(LIST, {"url": URL}))["attr"] == "project"
    assert editor.post(LIST, {"url": URL, "project": str(other_project.pk)}).json()["project"] == str(other_project.pk)
    assert Caller().get(LIST).status_code == 401
