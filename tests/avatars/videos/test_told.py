"""What webhooks are told of videos: once each that is there or failed, with links, and the program's own metadata."""

from __future__ import annotations

import json
from typing import Any

import pytest

from avatars.models import Agent
from avatars.videos import runner, services
from avatars.videos.choices import JobState
from avatars.videos.models import VideoJob
from avatars.videos.report import StageFailed
from avatars.videos.stages import StageName
from avatars.videos.work import MadeVideo, Work
from molts.errors import BadInput
from projects.webhooks.choices import EventType
from projects.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from projects.webhooks.services import create_endpoint
from tests.api import Caller
from tests.avatars.videos.test_api import key  # noqa: F401 - a fixture
from tests.avatars.videos.test_videos import (  # noqa: F401 - fixtures among them
    Making,
    _benches_of_its_own,
    making,
    order,
    run,
    stored,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent")]
CALLBACK = "https://93.184.216.34/done?job=7"


@pytest.fixture
def listener(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> WebhookEndpoint:
    monkeypatch.setattr("projects.webhooks.services.nudge", lambda: None)
    types = [EventType.VIDEO_COMPLETED, EventType.VIDEO_FAILED]
    endpoint = WebhookEndpoint(project=agent.project, url="https://93.184.216.34/hook", event_types=types)
    return create_endpoint(endpoint=endpoint)[0]


def told() -> list[dict[str, Any]]:
    return [json.loads(event.body) for event in WebhookEvent.objects.order_by("created_at")]


def fail(work: Work) -> MadeVideo:
    raise StageFailed(StageName.SPEECH, BadInput("No voice speaks."), again=False)


def test_one_that_is_there_is_told_with_its_links(agent: Agent, listener: WebhookEndpoint, making: Making) -> None:  # noqa: F811
    job = run(order(agent, title="Welcome", metadata={"order": "7"}))
    (event,) = told()
    assert event["type"] == "video.completed"
    data = event["data"]
    assert (data["video_id"], data["status"], data["title"]) == (str(job.pk), "completed", "Welcome")
    assert (data["metadata"], data["error"], data["duration"]) == ({"order": "7"}, None, 1.5)
    assert data["video_url"].endswith("/welcome.mp4")
    assert data["thumbnail_url"].endswith("/welcome.jpg")
    assert data["agent"]["slug"] == agent.slug


def test_one_that_failed_is_told_with_the_stage(agent: Agent, listener: WebhookEndpoint, making: Making) -> None:  # noqa: F811
    making(fail)
    run(order(agent))
    (event,) = told()
    assert event["type"] == "video.failed"
    assert event["data"]["error"] == {"code": "invalid", "detail": "No voice speaks.", "stage": "speech"}
    assert event["data"]["video_url"] is None


def test_one_that_was_cancelled_is_not_told(agent: Agent, listener: WebhookEndpoint) -> None:
    services.cancel_video(job=order(agent))
    assert told() == []


def test_one_whose_event_cannot_be_written_is_not_there_either(
    agent: Agent,
    listener: WebhookEndpoint,
    making: Making,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both are written, or neither."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the database is full")

    monkeypatch.setattr("avatars.videos.told.publish", broken)
    job = order(agent)
    runner.run_job(job_id=job.pk, worker="one")
    job.refresh_from_db()
    assert job.state != JobState.DONE
    assert not job.output.name
    assert stored() == []
    assert not WebhookEvent.objects.exists()


@pytest.mark.usefixtures("making")
def test_a_callback_address_is_told_without_an_endpoint(agent: Agent) -> None:
    run(order(agent, callback_url=CALLBACK))
    (delivery,) = WebhookDelivery.objects.all()
    assert delivery.callback_url == CALLBACK


def test_programs_give_a_callback_address(key: Caller) -> None:  # noqa: F811
    asked = {"agent": "ada", "script": "Hello.", "callback_url": CALLBACK}
    assert key.post("videos", asked).json()["callback_url"] == CALLBACK
    for url in ("ftp://example.org/x", "http://127.0.0.1:1/x", "no address"):
        answer = key.post("videos", {**asked, "callback_url": url})
        assert answer.status_code == 400, url
        assert answer.json()["errors"][0]["attr"] == "callback_url"
    assert VideoJob.objects.count() == 1


def test_metadata_that_no_webhook_could_carry_is_refused(key: Caller) -> None:  # noqa: F811
    metadata = {f"name{number}": "x" * 500 for number in range(18)}
    answer = key.post("videos", {"agent": "ada", "script": "Hello.", "metadata": metadata})
    assert answer.status_code == 400
    assert "8000 bytes" in answer.json()["errors"][0]["detail"]
