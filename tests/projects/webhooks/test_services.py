"""Who is told of what, and what may be told."""

from __future__ import annotations

import pytest

from molts.errors import BadInput, Conflict, TooLarge
from projects.models import Project
from projects.webhooks import services
from projects.webhooks.choices import EventType
from projects.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from tests.projects.webhooks.conftest import make_endpoint

pytestmark = pytest.mark.django_db

URL = "https://example.com/hook"


def test_those_are_told_that_asked_and_only_of_their_own_project(project: Project, other_project: Project) -> None:
    everything, _ = make_endpoint(project, URL)
    videos, _ = make_endpoint(project, URL, event_types=["video.failed", "video.completed"])
    make_endpoint(project, URL, event_types=["session.ended"])
    make_endpoint(project, URL, enabled=False)
    make_endpoint(other_project, URL)

    event = services.publish(project, EventType.VIDEO_COMPLETED, {})
    told = WebhookDelivery.objects.filter(event=event).values_list("endpoint_id", flat=True)
    assert set(told) == {everything.pk, videos.pk}
    assert videos.event_types == ["video.completed", "video.failed"]


def test_what_nobody_asked_for_is_not_written(project: Project) -> None:
    make_endpoint(project, URL, event_types=["video.failed"])
    assert services.publish(project, EventType.SESSION_ENDED, {}) is None
    assert not WebhookEvent.objects.exists()


def test_a_body_stays_below_twenty_kilobytes(project: Project) -> None:
    make_endpoint(project, URL)
    with pytest.raises(TooLarge):
        services.publish(project, EventType.SESSION_ENDED, {"words": "ä" * 10_000})
    event = services.publish(project, EventType.SESSION_ENDED, {"words": "ä" * 9_900})
    assert event is not None
    assert len(event.body.encode()) < 20_000


@pytest.mark.parametrize(
    ("fields", "attr"),
    [
        ({"url": "ftp://example.com"}, "url"),
        ({"url": ""}, "url"),
        ({"url": "https://user:word@example.com/"}, "url"),
        ({"url": "http://169.254.169.254/latest"}, "url"),
        ({"url": f"https://example.com/{'x' * 500}"}, "url"),
        ({"url": URL, "event_types": ["session.paused"]}, "event_types"),
    ],
)
def test_a_wrong_endpoint_is_refused_by_the_name_of_its_field(
    project: Project, fields: dict[str, object], attr: str
) -> None:
    with pytest.raises(BadInput) as refused:
        services.create_endpoint(endpoint=WebhookEndpoint(project=project, **fields))
    assert refused.value.attr == attr
    assert not WebhookEndpoint.objects.exists()


def test_a_project_has_so_many_endpoints_at_most(project: Project) -> None:
    for _ in range(services.MOST_ENDPOINTS):
        make_endpoint(project, URL)
    with pytest.raises(Conflict):
        make_endpoint(project, URL)


def test_switching_off_ends_what_waits_and_it_can_be_replayed(project: Project) -> None:
    endpoint, _ = make_endpoint(project, URL)
    services.publish(project, EventType.SESSION_ENDED, {})
    endpoint.enabled = False
    services.change_endpoint(endpoint=endpoint)
    delivery = WebhookDelivery.objects.select_related("endpoint").get()
    assert (delivery.state, delivery.outcome) == ("failed", services.SWITCHED_OFF)
    with pytest.raises(Conflict, match="switch it on"):
        services.replay_delivery(delivery=delivery)

    endpoint.enabled = True
    services.change_endpoint(endpoint=endpoint)
    delivery = WebhookDelivery.objects.select_related("endpoint").get()
    services.replay_delivery(delivery=delivery)
    with pytest.raises(Conflict, match="under way"):
        services.replay_delivery(delivery=delivery)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.tries_left) == ("waiting", services.MOST_TRIES)


def test_the_secret_of_callbacks_is_made_once(project: Project) -> None:
    first = services.callback_endpoint(project=project)
    assert services.callback_endpoint(project=project).pk == first.pk
    assert not first.event_types
    assert services.publish(project, EventType.SESSION_ENDED, {}) is None, "it listens to nothing"
