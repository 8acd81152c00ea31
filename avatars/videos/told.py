"""What a project's webhooks are told of a video."""

from __future__ import annotations

from typing import Any

from avatars.videos.choices import STATUSES, JobState
from avatars.videos.links import video_links
from avatars.videos.models import VideoJob
from projects.webhooks.choices import EventType
from projects.webhooks.services import publish


def tell_over(job: VideoJob) -> None:
    """The video is there, or has failed. Call it in the transaction that says so."""
    if job.project is None:  # deleted; so are its endpoints
        return
    type = EventType.VIDEO_COMPLETED if job.state == JobState.DONE else EventType.VIDEO_FAILED
    publish(job.project, type, _facts(job), callback_url=job.callback_url or None)


def _facts(job: VideoJob) -> dict[str, Any]:
    error = {"code": job.error_code, "detail": job.error, "stage": job.failed_stage or None}
    agent = job.agent and {"id": job.agent.pk, "slug": job.agent.slug, "name": job.agent.name}
    return {
        "video_id": job.pk,
        "agent": agent,
        "title": job.title,
        "status": STATUSES[JobState(job.state)],
        **video_links(job),
        "duration": job.duration,
        "error": error if job.state == JobState.FAILED else None,
        "metadata": job.metadata,
        "created_at": job.created_at,
        "ended_at": job.ended_at,
    }
