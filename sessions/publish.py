"""Publishes events of a conversation to everyone who watches it. Hints only: what matters is in the database first."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction

from molts import live_events
from sessions.choices import LIVE_STATES
from sessions.events import SessionEvent, SessionStateEvent, TranscriptFinal, encode


def group_name(session_id: uuid.UUID) -> str:
    return f"session.{session_id}"


def _message(event: SessionEvent) -> dict[str, Any]:
    return {
        "type": "session.event",
        "text": encode(event),
        "seq": event.seq if isinstance(event, TranscriptFinal) else None,
        "over": isinstance(event, SessionStateEvent) and event.state not in LIVE_STATES,
    }


async def apublish(session_id: uuid.UUID, event: SessionEvent) -> None:
    """Publish now. A channel layer that is down is logged and forgotten: sockets catch up from the database."""
    await live_events.asend(group_name(session_id), _message(event))


def publish(session_id: uuid.UUID, event: SessionEvent) -> None:
    """Publish from synchronous code; waits until it is sent, so that events keep their order."""
    live_events.wait_sent(apublish(session_id, event))


def publish_on_commit(session_id: uuid.UUID, event: SessionEvent) -> None:
    """Publish once the surrounding transaction is durable, or not at all."""
    transaction.on_commit(lambda: publish(session_id, event))
