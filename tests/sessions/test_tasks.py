"""Tasks: what they do when a part is away, and that an exit of one job leaves another alone."""

from __future__ import annotations

import uuid

import pytest
from celery.exceptions import Retry
from pytest_django import Settings

from avatars.models import Agent
from molts import beats
from molts.errors import Unavailable
from sessions import presence, tasks
from sessions.models import LiveSession
from tests.agent_runtime.stack import RedisServer, free_port
from tests.sessions.factories import make_session

pytestmark = pytest.mark.django_db


@pytest.fixture
def session(agent: Agent, own_redis: RedisServer) -> LiveSession:
    return make_session(agent)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[uuid.UUID]:
    seen: list[uuid.UUID] = []
    monkeypatch.setattr(tasks, "reconcile_session", seen.append)
    return seen


def test_a_round_without_redis_is_skipped_not_failed(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    tasks.reconcile()
    assert "reconciler round skipped" in caplog.text


def test_an_exit_is_noticed_at_once(session: LiveSession, looked_at: list[uuid.UUID]) -> None:
    beats.client().set(presence.agent_key(session.pk), "1:agent-one", px=4_000)
    tasks.report_agent_exit(str(session.pk), "agent-one")
    assert presence.presence(session.pk).agent_generation is None
    assert looked_at == [session.pk]


def test_an_exit_does_not_silence_the_job_that_replaced_it(session: LiveSession, looked_at: list[uuid.UUID]) -> None:
    beats.client().set(presence.agent_key(session.pk), "2:agent-two", px=4_000)
    tasks.report_agent_exit(str(session.pk), "agent-one")
    assert presence.presence(session.pk).agent_generation == 2


@pytest.mark.parametrize("metadata", ["", "not-a-session", "7"])
def test_an_exit_of_a_job_that_is_not_ours_is_nothing(
    metadata: str, looked_at: list[uuid.UUID], own_redis: RedisServer
) -> None:
    tasks.report_agent_exit(metadata, "agent-one")
    assert looked_at == []


def test_a_look_that_could_not_be_taken_is_taken_again(session: LiveSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(session_id: uuid.UUID) -> None:
        raise Unavailable("The media server is out of reach.")

    monkeypatch.setattr(tasks, "reconcile_session", away)
    monkeypatch.setattr(tasks.reconcile_one, "apply_async", lambda *args, **kwargs: None)
    with pytest.raises((Retry, Unavailable)):
        tasks.reconcile_one.apply(args=(str(session.pk),), throw=True).get()
