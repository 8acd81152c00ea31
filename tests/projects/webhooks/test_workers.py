"""A worker and the clock send what is due, and a Redis that is away loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import celery
import pytest
from django.db import connection
from pytest_django import Settings

from molts.celery import app
from projects.models import Project
from projects.webhooks import services
from projects.webhooks.choices import EventType
from projects.webhooks.models import WebhookDelivery
from tests.agent_runtime import stack
from tests.projects.webhooks.conftest import make_endpoint
from tests.projects.webhooks.receiver import Receiver

pytestmark = pytest.mark.django_db(transaction=True)

really_nudge = services.nudge


def test_the_clock_wakes_the_sender(settings: Settings) -> None:
    tasks = {str(entry["task"]) for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    assert {services.SEND_TASK, "projects.webhooks.tasks.clear_old"} <= tasks
    app.loader.import_default_modules()
    assert tasks <= set(app.tasks)


@pytest.mark.slow
def test_a_redis_that_is_away_loses_nothing(
    project: Project,
    receiver: Receiver,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is away when something happens; when it is back, the clock has it sent."""
    port = stack.free_port()
    url = f"redis://127.0.0.1:{port}/0"
    for name in ("broker_url", "broker_write_url"):
        monkeypatch.setattr(celery.current_app.conf, name, url)
    monkeypatch.setattr(services, "nudge", really_nudge)
    monkeypatch.setattr(stack, "free_port", lambda: port)
    make_endpoint(project, receiver.url)

    event = services.publish(project, EventType.SESSION_ENDED, {})
    assert event is not None
    for thread in [each for each in threading.enumerate() if each.name == "webhook-nudge"]:
        thread.join(20)
    assert "Redis is out of reach" in caplog.text

    redis = stack.RedisServer(tmp_path)
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "molts", "worker", "--pool", "threads", "--concurrency", "2"),
            *(
                "-n",
                "jobs@test",
                "--without-gossip",
                "--without-mingle",
                "-B",
                "--schedule",
                str(tmp_path / "schedule"),
            ),
        ],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "molts.settings",
            "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
            "MOLTS_DATA_DIR": str(tmp_path / "data"),
            "MOLTS_FIELD_KEYS": ",".join(settings.MOLTS_FIELD_KEYS),
            "MOLTS_ALLOWED_NETWORKS": "127.0.0.1/32",
            "REDIS_URL": url,
        },
        stdout=(tmp_path / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    try:
        assert receiver.arrived.acquire(timeout=60), (tmp_path / "log").read_text()
        # The next one need not wait for the clock.
        stack.wait_for("the first", lambda: not WebhookDelivery.objects.exclude(state="delivered").exists(), seconds=20)
        services.publish(project, EventType.SESSION_ENDED, {})
        assert receiver.arrived.acquire(timeout=20), (tmp_path / "log").read_text()
    finally:
        stack.end(worker)
        redis.stop()
    assert receiver.received[0].headers["webhook-id"] == str(event.pk)
    assert len(receiver.received) == 2
