"""Conversations for tests, without a media server."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from django.utils import timezone

from avatars.models import Agent
from avatars.services import resolve_snapshot, save_agent_revision
from sessions.choices import SessionState
from sessions.models import LiveSession, RoomLink
from sessions.services import record_segment


def make_session(
    agent: Agent,
    *,
    link: RoomLink | None = None,
    age_seconds: float = 0,
    state: str = SessionState.ACTIVE,
    **fields: Any,
) -> LiveSession:
    """A session that began `age_seconds` ago."""
    revision = save_agent_revision(agent=agent)
    created = timezone.now() - timedelta(seconds=age_seconds)
    values: dict[str, Any] = {
        "project": agent.project,
        "agent": agent,
        "revision": revision,
        "link": link,
        "room_name": f"molts-{secrets.token_urlsafe(12)}",
        "visitor_identity": f"visitor-{secrets.token_urlsafe(6)}",
        "state": state,
        "spec": resolve_snapshot(revision.agent_snapshot).as_json(),
        "max_seconds": 900,
        "created_at": created,
        "active_at": created if state == SessionState.ACTIVE else None,
        "agent_state": "listening" if state == SessionState.ACTIVE else "initializing",
        "dispatch_generation": 1,
        "claimed_generation": 1 if state == SessionState.ACTIVE else 0,
        "dispatched_at": created,
    }
    return LiveSession.objects.create(**{**values, **fields})


def say(session: LiveSession, role: str, text: str, at_ms: int = 0, *, end_ms: int | None = None) -> int:
    """Record one utterance; returns its seq."""
    return record_segment(
        session_id=session.pk,
        segment_id=secrets.token_hex(8),
        role=role,
        text=text,
        start_ms=at_ms,
        end_ms=at_ms + 900 if end_ms is None else end_ms,
    ).seq
