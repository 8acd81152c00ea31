"""Webhooks of conversations."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pytest_django import Settings

from avatars.models import Agent
from projects.webhooks.models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from projects.webhooks.services import create_endpoint
from sessions import services
from tests.sessions.factories import make_session

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("live_servers")]


@pytest.fixture(autouse=True)
def _endpoint(agent: Agent) -> None:
    create_endpoint(endpoint=WebhookEndpoint(project=agent.project, url="https://example.com/hook"))


def told() -> list[dict[str, Any]]:
    return [json.loads(event.body) for event in WebhookEvent.objects.order_by("created_at")]


def test_a_conversation_is_told_of_when_it_starts_and_when_it_ends(agent: Agent, settings: Settings) -> None:
    session = make_session(agent, state="waiting", visitor_name="Vic")
    services.activate_session(session_id=session.pk, agent_identity="agent-1")
    services.activate_session(session_id=session.pk, agent_identity="agent-2")  # the agent is replaced
    services.end_session(session_id=session.pk, reason="silence")
    services.end_session(session_id=session.pk, reason="visitor_left")

    started, ended = told()
    assert (started["type"], ended["type"]) == ("session.started", "session.ended")
    assert set(started["data"]) == {
        *("session_id", "agent", "participant_name", "source", "state", "reason", "created_at", "active_at"),
        "ended_at",
    }
    assert started["data"]["session_id"] == ended["data"]["session_id"] == str(session.pk)
    assert started["data"]["agent"] == {"id": str(agent.pk), "slug": "ada", "name": "Ada"}
    assert started["data"]["participant_name"] == "Vic"
    assert (started["data"]["state"], started["data"]["reason"]) == ("active", None)
    assert (ended["data"]["state"], ended["data"]["reason"]) == ("ended", "silence")
    assert ended["data"]["ended_at"]
    assert WebhookDelivery.objects.count() == 2


def test_one_that_no_agent_came_to_has_an_end_alone(agent: Agent) -> None:
    session = make_session(agent, state="waiting")
    services.end_session(session_id=session.pk, reason="no_agent")
    (ended,) = told()
    assert (ended["type"], ended["data"]["state"], ended["data"]["active_at"]) == ("session.ended", "failed", None)


def test_a_check_of_this_server_is_nobodys_business(agent: Agent) -> None:
    session = make_session(agent, source="check", state="waiting")
    services.activate_session(session_id=session.pk, agent_identity="agent-1")
    services.end_session(session_id=session.pk, reason="ended_by_api")
    assert told() == []


def test_what_is_erased_is_told_no_more(agent: Agent) -> None:
    kept, erased = (make_session(agent, state="active", visitor_name=name) for name in ("Vic", "Eve"))
    for session in (kept, erased):
        services.end_session(session_id=session.pk, reason="silence")
    live = make_session(agent, state="active", visitor_name="Liv")
    for session in (erased, live):
        services.erase_session(session_id=session.pk)
    assert [event["data"]["participant_name"] for event in told()] == ["Vic"]
    assert WebhookDelivery.objects.count() == 1
