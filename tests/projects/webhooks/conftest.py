from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from projects.models import Project
from projects.webhooks import services
from projects.webhooks.models import WebhookEndpoint
from projects.webhooks.sending import drain_now
from tests.projects.webhooks.receiver import Receiver, receiving


@dataclass
class Clock:
    """A time that passes when a test says so."""

    at: datetime

    def __call__(self) -> datetime:
        return self.at

    def tick(self, **passed: float) -> None:
        """So much time passes, then what is due is sent."""
        self.at += timedelta(**passed)
        drain_now(now=self)


@pytest.fixture
def clock() -> Clock:
    """A minute ahead: what a test writes is due."""
    return Clock(timezone.now() + timedelta(minutes=1))


@pytest.fixture(autouse=True)
def nudges(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Loopback may be called, and no worker is asked for: tests send by themselves. One entry a nudge."""
    settings.MOLTS_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    woken: list[None] = []
    monkeypatch.setattr(services, "nudge", lambda: woken.append(None))
    return woken


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


def make_endpoint(project: Project, url: str, **fields: object) -> tuple[WebhookEndpoint, str]:
    """An endpoint and its secret."""
    return services.create_endpoint(endpoint=WebhookEndpoint(project=project, url=url, **fields))
