"""The way of a job to the workers. Losing a message loses no job: rows are the truth (`services.resend_waiting`)."""

from __future__ import annotations

import uuid

from celery import current_app

from molts import beats
from molts.errors import Unavailable

QUEUE = "media"
MESSAGE_LASTS = 60  # seconds: a worker that comes back finds no pile of them; what waits is sent again
RENDER_COMMAND = f"celery -A molts worker -Q {QUEUE} --concurrency 1"
"""What starts a worker by hand."""
RUN_TASK = "avatars.videos.tasks.run"


def send(job_id: uuid.UUID) -> None:
    """Have a worker look at this job. Raises Unavailable when the queue is out of reach."""
    try:
        with beats.sending() as sending:
            current_app.send_task(RUN_TASK, args=(str(job_id),), queue=QUEUE, expires=MESSAGE_LASTS, **sending)
    except Unavailable as error:
        raise Unavailable("Redis is out of reach, so no video can be made.") from error


def is_read() -> bool:
    """Whether a worker is there that reads the queue. Yes while nobody can say."""
    try:
        return bool(beats.workers(beats.WorkerKind.RENDER))
    except Unavailable:
        return True
