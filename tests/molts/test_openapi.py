"""The schema is true: whatever it lets programs send, the doors answer as it says, and never with a server error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from avatars.models import Agent, Avatar
from avatars.services import snapshot_agent
from avatars.videos.models import VideoJob
from avatars.videos.ordering import plan_scene, plan_video
from avatars.videos.services import order_video
from projects.models import ApiKey, Project
from projects.webhooks.models import WebhookEndpoint
from sessions.models import LiveSession
from tests.api import by_login
from tests.projects.world import make_delivery
from tests.sessions.factories import make_session, say

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("live_servers"), pytest.mark.slow]

EXAMPLES = 10  # a kind (fitting and unfitting), operation and role
EXPECTED_OPERATIONS = {
    "agents_get",
    "agents_list",
    "agents_videos_create",
    "sessions_end",
    "sessions_get",
    "sessions_list",
    "sessions_say",
    "sessions_start",
    "sessions_transcript",
    "token_create",
    "videos_cancel",
    "videos_create",
    "videos_delete",
    "videos_get",
    "videos_list",
    "webhook_deliveries_list",
    "webhook_deliveries_replay",
    "webhook_endpoints_callback_secret",
    "webhook_endpoints_change",
    "webhook_endpoints_create",
    "webhook_endpoints_delete",
    "webhook_endpoints_get",
    "webhook_endpoints_list",
    "webhook_endpoints_rotate_secret",
    "webhook_endpoints_test",
}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture
def as_key(api_key: tuple[ApiKey, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key[1]}"}


@pytest.fixture
def as_viewer(vera: User) -> dict[str, str]:
    cookies = by_login(vera).client.cookies
    token = "a" * 32
    session = f"{django_settings.SESSION_COOKIE_NAME}={cookies[django_settings.SESSION_COOKIE_NAME].value}"
    return {"Cookie": f"{session}; csrftoken={token}", "X-CSRFToken": token}


@pytest.fixture
def as_stranger() -> dict[str, str]:
    return {}


@pytest.fixture
def known(agent: Agent, project: Project) -> dict[str, str]:
    """Path parameters that exist."""
    Project.objects.filter(pk=project.pk).update(max_concurrent_sessions=10_000)
    session = make_session(agent)
    say(session, "agent", "Hello, this is Ada.")
    avatar = Avatar.objects.create(project=project, name="Ada", engine="puppet", options={"character": "mira"})
    Agent.objects.filter(pk=agent.pk).update(avatar=avatar)
    spec = plan_video(scenes=[plan_scene(agent=snapshot_agent(Agent.objects.get(pk=agent.pk)), script="Hello.")])
    video = order_video(agent=agent, spec=spec)
    delivery = make_delivery(project)
    WebhookEndpoint.objects.update(url="http://127.0.0.1:9/hook")  # refused before anything is sent
    return {
        "session_id": str(session.pk),
        "agent_id": str(agent.pk),
        "video_id": str(video.pk),
        "endpoint_id": str(delivery.endpoint_id),
        "delivery_id": str(delivery.pk),
    }


@pytest.fixture
def _one_transaction() -> Iterator[None]:
    """Requests do not close the connection in whose transaction the test lives, as Django's own client sees to."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("_one_transaction")
@pytest.mark.parametrize(
    "role", ["as_key", *(pytest.param(role, marks=pytest.mark.soak) for role in ("as_viewer", "as_stranger"))]
)
def test_it_answers_as_its_schema_says(
    role: str, known: dict[str, str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projects.throttling.ActorRateThrottle.THROTTLE_RATES", {"api": "100000/min"})
    headers = request.getfixturevalue(role)
    schema = schemathesis.openapi.from_wsgi("/api/schema/", WSGIHandler())
    found: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    operations = {operation.definition.raw["operationId"]: operation for operation in found}
    assert set(operations) == EXPECTED_OPERATIONS

    for operation in operations.values():
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _fuzz(operation, mode, headers, known)
    if role != "as_key":
        assert LiveSession.objects.count() == 1
        assert LiveSession.objects.get().state == "active"
        assert VideoJob.objects.get().state == "queued"


def _fuzz(operation: Any, mode: GenerationMode, headers: dict[str, str], known: dict[str, str]) -> None:
    @given(case=operation.as_strategy(generation_mode=mode), meet=st.booleans())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any, meet: bool) -> None:
        if meet:
            _aim_at_what_exists(case, known)
        case.call_and_validate(headers=headers, checks=CHECKS)

    check()


def _aim_at_what_exists(case: Any, known: dict[str, str]) -> None:
    for name in case.path_parameters or {}:
        case.path_parameters[name] = known[name]
    if isinstance(case.body, dict):
        if "agent" in case.body:
            case.body["agent"] = "ada"
        if "room_config" in case.body:
            case.body["room_config"] = {"agents": [{"agent_name": "ada"}]}


def test_the_page_of_the_schema_opens(client: Any) -> None:
    assert client.get("/api/docs/").status_code == 200
    assert client.get("/api/schema/").status_code == 200
