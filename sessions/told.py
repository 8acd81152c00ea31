"""What a project's webhooks are told of a conversation."""

from __future__ import annotations

from typing import Any

from projects.webhooks import services as webhooks
from projects.webhooks.choices import EventType
from sessions.choices import SessionSource
from sessions.models import LiveSession


def tell_started(session: LiveSession) -> None:
    """The agent is there. Call it in the transaction that says so."""
    _tell(session, EventType.SESSION_STARTED)


def tell_ended(session: LiveSession) -> None:
    """The conversation is over, also one that never started. Call it in the transaction that says so."""
    _tell(session, EventType.SESSION_ENDED)


def forget(session: LiveSession) -> None:
    """It was erased. Call it in the transaction that does so."""
    webhooks.forget(project=session.project, about=session.pk)


def _tell(session: LiveSession, type: EventType) -> None:
    if session.source != SessionSource.CHECK:  # those are this server's own
        webhooks.publish(session.project, type, _facts(session))


def _facts(session: LiveSession) -> dict[str, Any]:
    return {
        "session_id": session.pk,
        "agent": {"id": session.agent_id, "slug": session.agent.slug, "name": session.agent.name},
        "participant_name": session.visitor_name,
        "source": session.source,
        "state": session.state,
        "reason": session.reason or None,
        "created_at": session.created_at,
        "active_at": session.active_at,
        "ended_at": session.ended_at,
    }
