"""Background work with webhooks. The clock sends these; `services.nudge` sends the first one sooner."""

from __future__ import annotations

from celery import shared_task

from projects.webhooks import sending, services


@shared_task(name=services.SEND_TASK)
def send_due() -> None:
    """Wake the sender of this worker."""
    sending.wake()


@shared_task(name="projects.webhooks.tasks.clear_old", soft_time_limit=60, time_limit=90)
def clear_old() -> None:
    """Delete what was told long ago, a part at a time."""
    services.clear_old()
