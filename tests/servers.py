"""Real servers for tests, on free loopback ports: one Redis and one media server a test run.

`redis_url` and `media_server` start them when they are first asked for; `live_servers` points settings at both.
"""

from __future__ import annotations

import secrets
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from pytest_django import Settings

from molts.supervisor.given import Keys
from molts.supervisor.servers import find_livekit_server, livekit_config
from tests.agent_runtime.stack import ROOT, RedisServer, end, free_port, wait_for


@dataclass(frozen=True)
class MediaServer:
    """A running livekit-server and the keys that open it."""

    url: str
    key: str
    secret: str


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def media_server(redis_url: str) -> Iterator[MediaServer]:
    program = find_livekit_server(ROOT)
    assert program is not None, "livekit-server is missing: run `make setup`"
    keys = Keys("testkey", secrets.token_urlsafe(36))
    port = free_port()
    config = livekit_config(
        host="127.0.0.1",
        port=port,
        udp_port=free_port(),
        tcp_port=0,
        keys=keys,
        redis_url=redis_url,
        webhook_url=f"http://127.0.0.1:{free_port()}/webhooks/livekit",
    )
    process = subprocess.Popen([program, "--config-body", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("livekit-server", lambda: process.poll() is not None or _answers(port), seconds=20)
        assert process.poll() is None, "livekit-server ended by itself"
        yield MediaServer(url=f"ws://127.0.0.1:{port}", key=keys.key, secret=keys.secret)
    finally:
        end(process, terms=2)  # the first asks it to wait for everybody to leave


def _answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=1):
        return True
    return False


@pytest.fixture
def live_servers(settings: Settings, redis_url: str, media_server: MediaServer) -> MediaServer:
    """Settings as in a running copy, with names of their own in Redis and on the media server."""
    instance = f"t{uuid.uuid4().hex[:6]}"
    settings.MOLTS_INSTANCE = instance
    settings.MOLTS_AGENT_NAME = f"{instance}-agent"
    settings.REDIS_URL = redis_url
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": redis_url, "KEY_PREFIX": instance}}
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [redis_url], "prefix": f"{instance}.channels"},
        }
    }
    settings.LIVEKIT_URL = settings.LIVEKIT_PUBLIC_URL = media_server.url
    settings.LIVEKIT_API_KEY, settings.LIVEKIT_API_SECRET = media_server.key, media_server.secret
    return media_server
