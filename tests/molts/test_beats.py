"""Beats of workers and the lock across processes, on a real Redis."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator

import celery
import pytest
from pytest_django import Settings

from agent_runtime import worker
from avatars.videos import queue
from molts import beats
from molts.beats import WorkerInfo, WorkerKind
from molts.errors import Unavailable
from sessions import livekit_webhooks
from sessions.models import LiveSession
from sessions.tasks import reconcile
from tests.agent_runtime.stack import free_port


@pytest.fixture(autouse=True)
def _keys_of_its_own(settings: Settings, redis_url: str) -> None:
    settings.REDIS_URL = redis_url
    settings.MOLTS_INSTANCE = f"t{uuid.uuid4().hex[:6]}"


def test_a_worker_is_listed_among_its_kind_until_it_ends() -> None:
    info = WorkerInfo("one", "host", 1, 4, 1)
    beats.beat_worker(info, WorkerKind.AVATAR)
    assert (beats.workers(WorkerKind.AVATAR), beats.workers()) == ([info], [])
    beats.forget_worker("one", WorkerKind.AVATAR)
    assert beats.workers(WorkerKind.AVATAR) == []


def test_workers_of_an_older_copy_are_understood_and_understand(settings: Settings) -> None:
    """While a copy is replaced, old and new processes read each other's keys."""
    prefix = settings.MOLTS_INSTANCE
    beats.beat_worker(WorkerInfo("one", "host", 1, 4, 1))
    beats.beat_worker(WorkerInfo("two", "host", 2, 8, 2), WorkerKind.AVATAR)
    stored = {key: beats.client().get(key) for key in (f"{prefix}:worker:one", f"{prefix}:avatar-worker:two")}
    assert stored[f"{prefix}:worker:one"] == '{"id": "one", "host": "host", "pid": 1, "slots": 4, "used": 1}'
    assert json.loads(str(stored[f"{prefix}:avatar-worker:two"]))["slots"] == 8
    assert 0 < int(str(beats.client().pttl(f"{prefix}:worker:one"))) <= 4_000


def test_a_lock_is_held_by_one_process_at_a_time() -> None:
    with beats.only_one("reconcile", seconds=5) as mine, beats.only_one("reconcile", seconds=5) as theirs:
        assert (mine, theirs) == (True, False)
        assert beats.client().exists(beats.redis_key("lock", "reconcile"))
    with beats.only_one("reconcile", seconds=5) as free_again:
        assert free_again


def test_a_redis_that_is_away_is_not_taken_for_no_workers(settings: Settings) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    with pytest.raises(Unavailable, match="Redis is out of reach"):
        beats.workers()


@pytest.fixture
def frozen_redis(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Redis that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        settings.REDIS_URL = url
        monkeypatch.setattr(beats, "ANSWER_SECONDS", 0.2)
        monkeypatch.setattr(celery.current_app.conf, "broker_url", url)
        monkeypatch.setattr(celery.current_app.conf, "broker_write_url", url)
        yield


@pytest.mark.usefixtures("frozen_redis")
def test_whoever_sends_a_task_waits_no_longer_than_for_anything_of_redis() -> None:
    with pytest.raises(Unavailable, match="no video can be made"):
        queue.send(uuid.uuid4())
    with pytest.raises(Unavailable), beats.sending() as sending:
        reconcile.apply_async(**sending)


@pytest.mark.usefixtures("frozen_redis")
def test_whoever_only_wakes_somebody_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    livekit_webhooks._look_at(LiveSession(), seconds=0)
    assert "the broker is out of reach" in caplog.text
    worker._wake_reconciler("a-session", "agent-one")
    assert "reconciler not woken" in caplog.text
