"""`/healthz`, `/readyz`, `/metrics`: who may ask, and what they say when a part is away."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from avatars.models import Agent
from molts import beats
from molts.beats import WorkerInfo, WorkerKind
from sessions import presence
from tests.agent_runtime.stack import free_port
from tests.servers import MediaServer
from tests.sessions.factories import make_session

TOKEN = "a-token-for-the-watch"


def test_it_says_that_the_process_is_up_to_anybody(client: Client) -> None:
    response = client.get("/healthz", REMOTE_ADDR="203.0.113.9")
    assert (response.status_code, response.content) == (200, b"ok\n")


@pytest.mark.django_db
def test_it_is_ready_when_database_redis_and_media_server_answer(client: Client, live_servers: MediaServer) -> None:
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"ready": True, "checks": {"database": "ok", "redis": "ok", "media_server": "ok"}}


@pytest.mark.django_db
def test_it_names_the_part_that_is_away(client: Client, live_servers: MediaServer, settings: Settings) -> None:
    settings.LIVEKIT_URL = f"ws://127.0.0.1:{free_port()}"
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == {
        "database": "ok",
        "redis": "ok",
        "media_server": "The media server is out of reach.",
    }
    settings.REDIS_URL = f"redis://:a-password@127.0.0.1:{free_port()}/0"
    answer = client.get("/readyz")
    assert answer.json()["checks"]["redis"] == "Redis is out of reach."
    assert b"a-password" not in answer.content


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/readyz", "/metrics"])
@pytest.mark.parametrize(
    ("address", "headers", "allowed"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("203.0.113.9", {}, False),
        ("", {}, False),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.9"}, False),
        ("127.0.0.1", {"Forwarded": "for=203.0.113.9"}, False),
        ("203.0.113.9", {"Authorization": f"Bearer {TOKEN}"}, True),
        ("203.0.113.9", {"Authorization": "Bearer "}, False),
        ("203.0.113.9", {"Authorization": "Bearer wrong"}, False),
        ("203.0.113.9", {"Authorization": "Bearer \xe9"}, False),
    ],
)
def test_it_answers_operators_only(
    client: Client,
    live_servers: MediaServer,
    settings: Settings,
    path: str,
    address: str,
    headers: dict[str, str],
    allowed: bool,
) -> None:
    settings.MOLTS_HEALTH_TOKEN = TOKEN
    response = client.get(path, REMOTE_ADDR=address, headers=headers)
    assert response.status_code == (200 if allowed else 403)


@pytest.mark.django_db
def test_an_empty_token_opens_nothing(client: Client, live_servers: MediaServer, settings: Settings) -> None:
    settings.MOLTS_HEALTH_TOKEN = ""
    for header in ("Bearer ", "Bearer", ""):
        response = client.get("/metrics", REMOTE_ADDR="203.0.113.9", headers={"Authorization": header})
        assert response.status_code == 403


@pytest.mark.django_db
def test_it_counts_conversations_and_slots(
    client: Client, agent: Agent, live_servers: MediaServer, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for state in ("waiting", "active", "active", "ended"):
        make_session(agent, state=state)
    beats.beat_worker(WorkerInfo("one", "host", 1, 4, 1))
    beats.beat_worker(WorkerInfo("two", "host", 2, 8, 2))
    beats.beat_worker(WorkerInfo("three", "host", 3, 2, 1), WorkerKind.AVATAR)
    presence.beat_avatar("avatar-1", {"frames": 900, "dropped": 2, "gaps": 1, "interval_p99_ms": 44, "skew_p99_ms": 7})
    presence.beat_avatar("avatar-2", {"frames": 100, "interval_p99_ms": 52})
    presence.count_avatar(joins=1, join_seconds=2)
    presence.count_avatar(joins=1, join_seconds=1, answers=1)
    presence.beat_clock()
    with django_assert_num_queries(2):  # conversations, videos
        text = client.get("/metrics").content.decode()
    values = dict(re.findall(r"^(molts_\S+) (\d+)(?:\.0)?$", text, re.M))
    assert values == {
        'molts_sessions{state="waiting"}': "1",
        'molts_sessions{state="active"}': "2",
        "molts_redis_up": "1",
        "molts_clock_up": "1",
        "molts_agent_workers": "2",
        "molts_agent_slots": "12",
        "molts_agent_slots_used": "3",
        'molts_video_jobs{state="queued"}': "0",
        'molts_video_jobs{state="running"}': "0",
        "molts_render_workers": "0",
        "molts_render_slots": "0",
        "molts_render_slots_used": "0",
        "molts_avatar_workers": "1",
        "molts_avatar_slots": "2",
        "molts_avatar_slots_used": "1",
        "molts_avatars": "2",
        "molts_avatar_frame_interval_p99_ms": "52",
        "molts_avatar_skew_p99_ms": "7",
        "molts_avatar_frames": "1000",
        "molts_avatar_frames_dropped": "2",
        "molts_avatar_audio_gaps": "1",
        "molts_avatar_joins_total": "2",
        "molts_avatar_join_seconds_total": "3",
        "molts_avatar_lost_total": "0",
        "molts_avatar_missed_total": "0",
        "molts_avatar_answers_total": "1",
        "molts_avatar_playback_seconds_total": "0",
    }
    from prometheus_client.parser import text_string_to_metric_families

    assert {family.name for family in text_string_to_metric_families(text)} >= {"molts_sessions", "molts_agent_slots"}


@pytest.mark.django_db
def test_it_does_not_call_workers_gone_that_it_cannot_ask_for(client: Client, settings: Settings) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    text = client.get("/metrics").content.decode()
    assert "molts_redis_up 0" in text
    assert "molts_agent_workers" not in text
