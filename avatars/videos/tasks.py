"""Work with videos that Celery does: a task takes an id and calls one service."""

from __future__ import annotations

import uuid
from typing import Any

from celery import shared_task

from avatars.videos import services
from avatars.videos.queue import RUN_TASK

RUN_SECONDS = 4 * 3600
"""Longer than anything in the runner may take, by its own deadlines: the last means against one that is stuck."""


@shared_task(name=RUN_TASK, bind=True, time_limit=RUN_SECONDS)
def run(self: Any, job_id: str) -> None:
    """Make one video; on the queue `media` only, so that nothing else waits for it."""
    from avatars.videos.runner import run_job  # what makes videos is loaded where they are made

    run_job(job_id=uuid.UUID(job_id), worker=str(self.request.hostname or "worker"))


@shared_task(name="avatars.videos.tasks.sweep", soft_time_limit=60, time_limit=90)
def sweep() -> None:
    """A round of keeping order."""
    services.take_back_expired()
    services.resend_waiting()
    services.delete_old()
    services.clear_benches()
