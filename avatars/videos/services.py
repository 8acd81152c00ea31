"""What can happen to a job: it is ordered, claimed, held, finished, given up, cancelled, forgotten."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.core.files.base import File
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from avatars.videos import queue
from avatars.videos.choices import LIVE_STATES, JobKind, JobState
from avatars.videos.models import VideoJob
from molts.errors import MoltsError, Unavailable

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=15)
MOST_ATTEMPTS = 2
INTERRUPTED = "Making it was interrupted. Ask for it again."
SEND_AGAIN_AFTER = timedelta(seconds=30)
KEPT_FOR = {JobKind.PREVIEW: timedelta(seconds=600)}


# -- Ordering ---------------------------------------------------------------------------------------------------------
def create_job(
    *,
    kind: JobKind,
    user_id: int | None,
    project_id: uuid.UUID | None,
    order: Mapping[str, Any],
    picture: File[bytes] | None = None,
) -> VideoJob:
    """Write a job down. `send_job` has it made, once the transaction is through."""
    job = VideoJob(kind=kind, ordered_by_id=user_id, project_id=project_id, order=dict(order))
    if picture is not None:
        job.picture.save(picture.name or str(job.pk), picture, save=False)
    try:
        with transaction.atomic():
            job.save(force_insert=True)
    except Exception:
        delete_files(job)
        raise
    return job


def send_job(*, job: VideoJob) -> None:
    """Raises Unavailable when no worker can be told of the job, which has failed then."""
    try:
        queue.send(job.pk)
    except Unavailable as error:
        _end(VideoJob.objects.filter(pk=job.pk, state=JobState.QUEUED), error)
        raise


# -- Making -----------------------------------------------------------------------------------------------------------
def claim_job(*, job_id: uuid.UUID, worker: str) -> VideoJob | None:
    """The job, for the one worker that may make it now; None for all others."""
    now = timezone.now()
    claimed = VideoJob.objects.filter(pk=job_id, state=JobState.QUEUED).update(
        state=JobState.RUNNING,
        attempts=F("attempts") + 1,
        claimed_by=worker[:100],
        lease_until=now + LEASE,
        started_at=now,
    )
    return VideoJob.objects.get(pk=job_id) if claimed else None


def hold_job(*, job: VideoJob, stage: str, progress: float) -> bool:
    """Renew the lease and note how far the job is. False: it is not this worker's any more, or nobody wants it."""
    lease = timezone.now() + LEASE
    return bool(_held(job).update(lease_until=lease, stage=stage[:40], progress=progress))


def finish_job(*, job: VideoJob, clip: File[bytes], media_type: str) -> bool:
    """Keep what was made. False when it came too late; then nothing is kept."""
    job.output.save(clip.name or str(job.pk), clip, save=False)
    finished = _held(job).update(
        state=JobState.DONE,
        stage="Done",
        progress=1.0,
        output=job.output.name,
        media_type=media_type,
        ended_at=timezone.now(),
    )
    if not finished:
        job.output.storage.delete(job.output.name or "")
    return bool(finished)


def fail_job(*, job: VideoJob, error: MoltsError) -> bool:
    return bool(_end(_held(job), error))


def _held(job: VideoJob) -> QuerySet[VideoJob]:
    return VideoJob.objects.filter(pk=job.pk, state=JobState.RUNNING, attempts=job.attempts)


def _end(jobs: QuerySet[VideoJob], error: MoltsError) -> int:
    return jobs.update(
        state=JobState.FAILED,
        error_code=error.code[:40],
        error=error.detail[:500],
        error_attr=(error.attr or "")[:40],
        ended_at=timezone.now(),
    )


# -- Ending before it is made -----------------------------------------------------------------------------------------
def cancel_jobs(jobs: QuerySet[VideoJob]) -> int:
    """Have nobody make these any more; a worker that makes one finds out within a second."""
    return jobs.filter(state__in=LIVE_STATES).update(state=JobState.CANCELLED, ended_at=timezone.now())


def give_up_waiting(*, job: VideoJob, error: MoltsError) -> None:
    """Fail a job that nobody has begun."""
    _end(VideoJob.objects.filter(pk=job.pk, state=JobState.QUEUED), error)


# -- Keeping order ----------------------------------------------------------------------------------------------------
def take_back_expired() -> None:
    """Queue again what lost its worker, or fail it when that has happened too often."""
    expired = VideoJob.objects.filter(state=JobState.RUNNING, lease_until__lt=timezone.now())
    _end(expired.filter(attempts__gte=MOST_ATTEMPTS), Unavailable(INTERRUPTED, code="interrupted"))
    for job in expired:
        again = expired.filter(pk=job.pk, attempts=job.attempts).update(
            state=JobState.QUEUED, stage="Waiting", progress=0.0, lease_until=None, sent_at=timezone.now()
        )
        if again:
            logger.warning("a job lost its worker", extra={"job": str(job.pk), "worker": job.claimed_by})
            _send_quietly(job)


def resend_waiting() -> None:
    """Tell the workers again of jobs that have waited for long: a queue that was emptied has lost them."""
    now = timezone.now()
    waiting = VideoJob.objects.filter(state=JobState.QUEUED, sent_at__lt=now - SEND_AGAIN_AFTER)
    for job in waiting:
        if waiting.filter(pk=job.pk).update(sent_at=now):
            _send_quietly(job)


def delete_old() -> None:
    """Delete jobs that are over, with their files, when what they made has been kept for as long as its kind is."""
    for kind, time in KEPT_FOR.items():
        old = VideoJob.objects.filter(kind=kind, ended_at__lt=timezone.now() - time).exclude(state__in=LIVE_STATES)
        for job in old:
            delete_files(job)
            job.delete()


def delete_files(job: VideoJob) -> None:
    for file in (job.picture, job.output):
        if file.name:
            file.storage.delete(file.name)


def _send_quietly(job: VideoJob) -> None:
    try:
        queue.send(job.pk)
    except Unavailable:
        logger.warning("the workers' queue is out of reach", extra={"job": str(job.pk)})  # it is sent again later
