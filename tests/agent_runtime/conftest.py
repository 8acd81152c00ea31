"""Redis for every test of the runtime; the whole stack for those that hold conversations; vendors that break."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from pytest_django import DjangoDbBlocker, Settings

from agent_runtime import attendant
from agent_runtime.db import DatabaseThread
from tests.agent_runtime.broken_vendor import ANSWER, BrokenVendor
from tests.agent_runtime.stack import RedisServer, Stack
from tests.agent_runtime.stage import spoken
from tests.agent_runtime.talk import Desk


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
            "CONFIG": {"hosts": [redis_server.url], "prefix": "unit.channels"},
        }
    }
    return redis_server


@pytest.fixture(scope="session")
def stack(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One media server and one agent worker for all conversations of the suite."""
    stack = Stack(tmp_path_factory.mktemp("stack"), redis_url=redis_server.url)
    try:
        stack.start_worker()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def clock(stack: Stack) -> None:
    """Celery, which runs the reconciler: every few seconds, and when a worker reports an exit."""
    stack.start_celery()


@pytest.fixture
def stack_in_use(stack: Stack, django_db_blocker: DjangoDbBlocker) -> Iterator[Stack]:
    with django_db_blocker.unblock(), stack.in_use():
        yield stack


@pytest_asyncio.fixture
async def desk(stack_in_use: Stack) -> AsyncIterator[Desk]:
    """Conversations of one test: starts them, looks into them, and ends what is left."""
    desk = Desk(stack_in_use, DatabaseThread("test"))
    try:
        yield desk
    finally:
        await desk.aclose()


@pytest_asyncio.fixture
async def vendor(settings: Settings) -> AsyncIterator[BrokenVendor]:
    settings.MOLTS_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    vendor = BrokenVendor()
    await vendor.start()
    vendor.audio = await spoken(ANSWER)
    yield vendor
    await vendor.stop()


@pytest_asyncio.fixture
async def other(vendor: BrokenVendor) -> AsyncIterator[BrokenVendor]:
    """A second vendor."""
    other = BrokenVendor()
    await other.start()
    other.audio = vendor.audio
    yield other
    await other.stop()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """ "One moment" is not said because the machine is busy."""
    _wait_for(monkeypatch, words=600, sound=600, pause=600)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, patient: None) -> None:
    """ "One moment" comes soon."""
    _wait_for(monkeypatch, words=0.3, sound=0.3, pause=0.1)


def _wait_for(monkeypatch: pytest.MonkeyPatch, *, words: float, sound: float, pause: float) -> None:
    monkeypatch.setattr(attendant, "WORDS_SECONDS", words)
    monkeypatch.setattr(attendant, "SOUND_SECONDS", sound)
    monkeypatch.setattr(attendant, "VOICE_SECONDS", sound)
    monkeypatch.setattr(attendant, "PAUSE_SECONDS", pause)
