from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from sessions import publish
from sessions.events import SessionEvent
from tests.agent_runtime.stack import RedisServer


@pytest.fixture
def quiet_events(monkeypatch: pytest.MonkeyPatch) -> list[SessionEvent]:
    """Events are collected instead of sent, for tests that need no channel layer."""
    sent: list[SessionEvent] = []

    async def collect(session_id: uuid.UUID, event: SessionEvent) -> None:
        sent.append(event)

    monkeypatch.setattr(publish, "apublish", collect)
    return sent


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def own_redis(redis_server: RedisServer, settings: Settings) -> RedisServer:
    """Signs of life and live events of a test go to a Redis of the tests."""
    settings.REDIS_URL = redis_server.url
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [redis_server.url], "prefix": f"test{uuid.uuid4().hex[:6]}.channels"},
        }
    }
    return redis_server
