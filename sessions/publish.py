"""Sends events to everyone who watches a session. Hints only: what matters is in the database first."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import uuid
from functools import lru_cache
from typing import Any

from channels.layers import get_channel_layer
from django.db import transaction

from sessions.choices import LIVE_STATES
from sessions.events import SessionEvent, SessionStateEvent, TranscriptFinal, encode

logger = logging.getLogger(__name__)

PUBLISH_SECONDS = 2.0


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
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        await asyncio.wait_for(layer.group_send(group_name(session_id), _message(event)), PUBLISH_SECONDS)
    except Exception:  # whatever the layer's client raises: Redis errors, timeouts
        logger.warning("event not published", extra={"session_id": str(session_id), "event": event.type}, exc_info=True)


def publish(session_id: uuid.UUID, event: SessionEvent) -> None:
    """Publish from synchronous code; waits until it is sent, so that events keep their order."""
    future = asyncio.run_coroutine_threadsafe(apublish(session_id, event), _loop(os.getpid()))
    try:
        future.result(timeout=PUBLISH_SECONDS + 1)
    except TimeoutError:
        logger.warning("event not published in time", extra={"session_id": str(session_id), "event": event.type})


def publish_on_commit(session_id: uuid.UUID, event: SessionEvent) -> None:
    """Publish once the surrounding transaction is durable, or not at all."""
    transaction.on_commit(lambda: publish(session_id, event))


@lru_cache(maxsize=1)
def _loop(pid: int) -> asyncio.AbstractEventLoop:
    """One event loop a process, in a thread of its own.

    The layer keeps its connection per loop. A loop made for each call would mean a new connection for each event; one
    per process id, because a forked child inherits the object but not the thread.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name=f"publish-{pid}", daemon=True).start()
    return loop
