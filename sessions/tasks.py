"""Background work with conversations. A task takes an id, calls one service, and owns its retry policy."""

from __future__ import annotations

import logging
import uuid

from celery import shared_task

from molts.errors import Unavailable
from sessions import presence
from sessions.reconcile import reconcile_all, reconcile_session

logger = logging.getLogger(__name__)


@shared_task(name="sessions.tasks.reconcile", soft_time_limit=60, time_limit=90)
def reconcile() -> None:
    """One round. What is out of reach now is looked at in the next."""
    try:
        reconcile_all()
    except Unavailable as error:
        logger.warning("reconciler round skipped: %s", error.detail)


@shared_task(name="sessions.tasks.reconcile_one", autoretry_for=(Unavailable,), max_retries=3, retry_backoff=1)
def reconcile_one(session_id: str) -> None:
    reconcile_session(uuid.UUID(session_id))


@shared_task(name="sessions.tasks.report_agent_exit", autoretry_for=(Unavailable,), max_retries=3, retry_backoff=1)
def report_agent_exit(session_id: str, identity: str) -> None:
    """A worker saw a job of this session end: do not wait for its beat to run out.

    `identity` is who it was in the room: when another job has taken its place, that one's beat is left alone.
    """
    try:
        identifier = uuid.UUID(session_id)
    except ValueError:
        return
    presence.forget_agent(identifier, identity)
    reconcile_session(identifier)
