from __future__ import annotations

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from livekit import api

from avatars.models import Agent
from sessions import livekit_webhooks
from sessions.models import LiveSession
from sessions.tasks import reconcile_one
from tests.sessions.factories import make_session

Woken = list[tuple[str, float]]


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> Woken:
    """(session id, seconds from now) of every look that was asked for."""
    calls: Woken = []
    monkeypatch.setattr(
        reconcile_one,
        "apply_async",
        lambda args, countdown, **_: calls.append((args[0], countdown)),
    )
    return calls


@pytest.fixture
def session(agent: Agent) -> LiveSession:
    return make_session(agent)


def event(session: LiveSession, name: str, identity: str = "", reason: str = "CLIENT_INITIATED") -> dict[str, Any]:
    return {
        "event": name,
        "id": "EV_1",
        "room": {"name": session.room_name},
        "participant": {"identity": identity or session.visitor_identity, "disconnectReason": reason},
    }


def post(body: bytes, *, secret: str | None = None, digest: bytes | None = None, ttl: int = 60) -> int:
    token = (
        api.AccessToken(settings.LIVEKIT_API_KEY, secret or settings.LIVEKIT_API_SECRET)
        .with_ttl(timedelta(seconds=ttl))
        .with_sha256(base64.b64encode(digest or hashlib.sha256(body).digest()).decode())
        .to_jwt()
    )
    response = Client(enforce_csrf_checks=True).post(
        "/webhooks/livekit", body, content_type="application/webhook+json", headers={"Authorization": token}
    )
    return response.status_code


def test_it_looks_at_a_session_later_when_its_visitor_said_goodbye(session: LiveSession, woken: Woken) -> None:
    assert post(json.dumps(event(session, "participant_left")).encode()) == 200
    assert woken == [(str(session.pk), livekit_webhooks.VISITOR_RETURNS_WITHIN)]


def test_it_looks_at_once_when_the_visitor_was_cut_off(session: LiveSession, woken: Woken) -> None:
    assert post(json.dumps(event(session, "participant_left", reason="CONNECTION_TIMEOUT")).encode()) == 200
    assert woken == [(str(session.pk), 0)]


def test_it_looks_at_once_when_the_agent_left(session: LiveSession, woken: Woken) -> None:
    assert post(json.dumps(event(session, "participant_left", identity="agent-1")).encode()) == 200
    assert woken == [(str(session.pk), 0)]


def test_it_notes_the_visitor_who_joined(session: LiveSession, woken: Woken) -> None:
    body = json.dumps(event(session, "participant_joined")).encode()
    assert [post(body), post(body)] == [200, 200]
    session.refresh_from_db()
    assert session.visitor_joined_at is not None
    assert woken == []


@pytest.mark.parametrize("identity", ["", "somebody-else"])
def test_it_closes_a_room_that_an_old_token_opened_again(session: LiveSession, woken: Woken, identity: str) -> None:
    """On a media server of one's own, which may open rooms for whoever comes."""
    LiveSession.objects.filter(pk=session.pk).update(state="ended", room_closed_at=timezone.now())
    assert post(json.dumps(event(session, "participant_joined", identity=identity)).encode()) == 200
    session.refresh_from_db()
    assert session.room_closed_at is None  # so that the look closes it
    assert session.visitor_joined_at is None
    assert woken == [(str(session.pk), 0)]


def test_it_ignores_rooms_and_events_of_others(session: LiveSession, woken: Woken) -> None:
    stranger = {**event(session, "participant_left"), "room": {"name": "somebody-elses"}}
    for body in (stranger, event(session, "track_published"), event(session, "an_event_of_the_future")):
        assert post(json.dumps(body).encode()) == 200
    assert woken == []


@pytest.mark.parametrize(
    "forged",
    [
        {"secret": "another secret that is long enough to sign"},
        {"digest": hashlib.sha256(b"another body").digest()},
        {"ttl": -3600},
    ],
)
def test_it_believes_nothing_unsigned(session: LiveSession, woken: Woken, forged: dict[str, Any]) -> None:
    assert post(json.dumps(event(session, "participant_left")).encode(), **forged) == 401
    assert woken == []


def test_it_answers_without_a_traceback_to_whatever_comes(session: LiveSession, woken: Woken) -> None:
    client = Client()
    assert client.post("/webhooks/livekit", b"{}", content_type="application/json").status_code == 401
    assert client.get("/webhooks/livekit").status_code == 405
    assert post(b"\xff\xfe not json") == 401
    assert post(b"x" * 70_000) == 413
    assert woken == []
