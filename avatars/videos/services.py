"""What can happen to a job: it is ordered, claimed, held, finished, tried again, given up, cancelled, forgotten."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.base import File
from django.db import transaction
from django.db.models import Count, F, Max, QuerySet
from django.utils import timezone

from avatars.models import Agent
from avatars.videos import queue
from avatars.videos.choices import LIVE_STATES, JobKind, JobState
from avatars.videos.models import JobStage, VideoJob
from avatars.videos.report import StageFailed, StageReport, VideoReport
from avatars.videos.spec import VideoSpec
from avatars.videos.stages import StageName
from avatars.videos.stages.publish import Upload
from avatars.videos.told import tell_over
from molts.errors import Busy, MoltsError, Unavailable
from projects.models import Project
from projects.usage.services import Usage, record_usage
from projects.webhooks.services import check_callback_url

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=15)
MOST_ATTEMPTS = {JobKind.PREVIEW: 2, JobKind.VIDEO: 3}
"""Ours, kept in rows: a broker counts nothing that is lost with it."""
INTERRUPTED = "Making it was interrupted. Ask for it again."
SEND_AGAIN_AFTER = timedelta(seconds=30)
SENT_AGAIN_AT_ONCE = 10
TRY_AGAIN_AFTER = timedelta(seconds=20)
KEPT_FOR = {JobKind.PREVIEW: timedelta(seconds=600)}
"""After the end. A video is kept until somebody deletes it, or its project."""
MOST_WAITING = 200
"""Videos of one project that are not over."""
MOST_AT_ONCE = 2
"""Videos of one project in the making."""


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


def order_video(
    *,
    agent: Agent,
    spec: VideoSpec,
    title: str = "",
    metadata: Mapping[str, Any] | None = None,
    callback_url: str = "",
    user_id: int | None = None,
) -> VideoJob:
    """Write a video down and have it made. A queue that is away delays it and no more: the row is what counts.

    Raises Busy when as many of the project's wait as may, and BadInput for a `callback_url` that is not called.
    """
    if callback_url:
        check_callback_url(callback_url)
    with transaction.atomic():
        # The project's row is the lock: two that ask at once are counted one after the other.
        Project.objects.select_for_update(of=("self",)).get(pk=agent.project_id)
        check_room(project_id=agent.project_id)
        job = VideoJob.objects.create(
            kind=JobKind.VIDEO,
            project_id=agent.project_id,
            agent=agent,
            ordered_by_id=user_id,
            title=title,
            metadata=dict(metadata or {}),
            callback_url=callback_url,
            order=spec.as_json(),
        )
        transaction.on_commit(lambda: _send_quietly(job))
    return job


def check_room(*, project_id: uuid.UUID) -> None:
    """Raises Busy when as many of the project's videos wait or are being made as may."""
    live = VideoJob.objects.filter(kind=JobKind.VIDEO, project_id=project_id, state__in=LIVE_STATES)
    if live.count() >= MOST_WAITING:
        raise Busy(
            f"{MOST_WAITING} videos of this project wait or are being made. Order again when some are done.",
            code="too_many_videos",
        )


# -- Making -----------------------------------------------------------------------------------------------------------
def claim_turn(*, worker: str) -> VideoJob | None:
    """The next job in turn, for the one worker that may make it now; None when there is none.

    Previews come first, since somebody waits for them. Then projects take turns: the one with the fewest videos in the
    making, of those the one that has waited longest. A message to the workers says that there is a job, not which.
    """
    for job_id in _in_turn():
        job = claim_job(job_id=job_id, worker=worker)
        if job is not None:
            return job
    return None


def _in_turn() -> Iterator[uuid.UUID]:
    queued = VideoJob.objects.filter(state=JobState.QUEUED).order_by("created_at")
    queued = queued.exclude(not_before__gt=timezone.now())
    yield from queued.filter(kind=JobKind.PREVIEW).values_list("pk", flat=True)
    videos = VideoJob.objects.filter(kind=JobKind.VIDEO)
    by_project = videos.order_by().values_list("project_id")
    running = dict(by_project.filter(state=JobState.RUNNING).annotate(Count("pk")))
    waiting = queued.filter(kind=JobKind.VIDEO).values_list("project_id", "pk")
    projects = {project_id for project_id, _ in waiting}
    served = dict(by_project.filter(project_id__in=projects, started_at__isnull=False).annotate(Max("started_at")))
    never = datetime.min.replace(tzinfo=UTC)

    def turn(each: tuple[uuid.UUID | None, uuid.UUID]) -> tuple[int, datetime]:
        return running.get(each[0], 0), served.get(each[0]) or never

    for project_id, job_id in sorted(waiting, key=turn):  # of one project: in the order in which they were ordered
        if running.get(project_id, 0) < MOST_AT_ONCE:
            yield job_id


def claim_job(*, job_id: uuid.UUID, worker: str) -> VideoJob | None:
    """The job, for the one worker that may make it now; None for all others."""
    now = timezone.now()
    claimed = VideoJob.objects.filter(pk=job_id, state=JobState.QUEUED).update(
        state=JobState.RUNNING,
        attempts=F("attempts") + 1,
        claimed_by=worker[:100],
        lease_until=now + LEASE,
        started_at=now,
        progress=0.0,
    )
    return VideoJob.objects.get(pk=job_id) if claimed else None


def hold_job(*, job: VideoJob, stage: str, progress: float, seconds_left: float | None = None) -> bool:
    """Renew the lease and note how far the job is. False: it is not this worker's any more, or nobody wants it."""
    lease = timezone.now() + LEASE
    news = {"stage": stage[:40], "progress": progress, "seconds_left": seconds_left}
    return bool(_held(job).update(lease_until=lease, **news))


def note_stages(*, job: VideoJob, stages: Mapping[StageName, StageReport]) -> None:
    """Write down when stages began and ended, as long as the job is this attempt's."""
    if stages and _held(job).exists():
        _write_stages(job, stages)


def _write_stages(job: VideoJob, stages: Mapping[StageName, StageReport]) -> None:
    for name, stage in stages.items():
        JobStage.objects.update_or_create(
            job=job,
            name=name,
            defaults={
                "attempt": job.attempts,
                "key": stage.key,
                "note": stage.note[:200],
                "reused": stage.reused,
                "started_at": datetime.fromtimestamp(stage.started_at, UTC),
                "ended_at": datetime.fromtimestamp(stage.ended_at, UTC) if stage.ended_at else None,
            },
        )


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


def finish_video(*, job: VideoJob, file: Upload, thumbnail: Upload, duration: float, report: VideoReport) -> bool:
    """Publish a video with all that is written of it, or nothing: False when it came too late."""
    with transaction.atomic():
        # The row is the lock: files are put into their places by the attempt that holds it, and by no other.
        if _held(job).select_for_update(of=("self",), no_key=True).first() is None:
            return False
        _held(job).update(
            state=JobState.DONE,
            stage="Done",
            progress=1.0,
            seconds_left=None,
            output=file.name,
            thumbnail=thumbnail.name,
            media_type="video/mp4",
            duration=duration,
            error="",
            error_code="",
            error_attr="",
            failed_stage="",
            ended_at=timezone.now(),
        )
        _write_stages(job, report.stages)
        _record_used(job, report, duration)
        job.refresh_from_db()
        announce(job)
        for upload in (file, thumbnail):  # last: what fails before leaves no file without its row
            upload.publish()
    _send_next(job)
    return True


def _record_used(job: VideoJob, report: VideoReport, duration: float = 0.0) -> None:
    job.refresh_from_db(fields=["project_id", "agent_id"])  # either may have been deleted since
    if job.project_id is not None:
        owner: Any = job  # of a project, as the line above says
        for usage in _used(job, report, duration):
            record_usage(owner=owner, usage=usage)


def _used(job: VideoJob, report: VideoReport, duration: float = 0.0) -> list[Usage]:
    """Sums by voice, under names that stay the same in every attempt: what was kept of one is not spoken again."""
    sums: dict[tuple[str, str, str], float] = {}
    for words in report.spoken.values():
        for unit, quantity in (("characters", float(words.characters)), ("audio_seconds", words.seconds)):
            of = (words.provider, words.model, unit)
            sums[of] = sums.get(of, 0.0) + quantity
    used = [
        Usage(f"tts:{provider}:{model}:{unit}"[:120], "tts", provider[:50], model[:100], unit, _rounded(quantity))
        for (provider, model, unit), quantity in sums.items()
    ]
    if duration:
        engine = VideoSpec.model_validate(job.order).scenes[0].avatar.engine
        used.append(Usage(f"avatar:{engine}", "avatar", engine[:50], "", "video_seconds", _rounded(duration)))
    return used


def _rounded(quantity: float) -> Decimal:
    return Decimal(str(round(quantity, 4)))


def fail_video(*, job: VideoJob, error: StageFailed, report: VideoReport) -> bool:
    """Have it tried again where that may help and is not too often, else fail it. False when it is not this worker's
    any more. What voices were used for is kept either way, also of one that was cancelled."""
    again = error.retryable and job.attempts < MOST_ATTEMPTS[JobKind.VIDEO]
    with transaction.atomic():
        told = {**_words_of(error), "failed_stage": error.stage.value}
        if again:
            # A part that is away is given time, then `resend_waiting` sends it. A process that crashed needs none.
            not_before = None if error.code == "crashed" else timezone.now() + TRY_AGAIN_AFTER
            changed = _queue_again(_held(job), not_before=not_before, **told)
        else:
            changed = _end(_held(job), error, failed_stage=error.stage.value)
        if changed:
            _write_stages(job, report.stages)
        cancelled = VideoJob.objects.filter(pk=job.pk, state=JobState.CANCELLED, attempts=job.attempts)
        if changed or cancelled.exists():
            _record_used(job, report)
        if changed and not again:
            job.refresh_from_db()
            announce(job)
    if changed and again and error.code == "crashed":
        _send_quietly(job)
    elif changed:
        _send_next(job)
    return bool(changed)


def announce(job: VideoJob) -> None:
    """Tell those outside that a video is done or has failed.

    Called once for a video, in the transaction that ends it: what is written here is written with the end, or not.
    """
    logger.info("a video is over", extra={"job": str(job.pk), "state": job.state, "attempts": job.attempts})
    tell_over(job)


def fail_job(*, job: VideoJob, error: MoltsError) -> bool:
    return bool(_end(_held(job), error))


def bench_of(job_id: uuid.UUID) -> Path:
    """The folder in which attempts at this video keep what they have done."""
    return Path(settings.MOLTS_DATA_DIR) / "videos" / job_id.hex


def clear_bench(job_id: uuid.UUID) -> None:
    """Delete it once the video is over; one that is to be tried again keeps it."""
    if not VideoJob.objects.filter(pk=job_id, state__in=LIVE_STATES).exists():
        shutil.rmtree(bench_of(job_id), ignore_errors=True)


def _held(job: VideoJob) -> QuerySet[VideoJob]:
    return VideoJob.objects.filter(pk=job.pk, state=JobState.RUNNING, attempts=job.attempts)


def _end(jobs: QuerySet[VideoJob], error: MoltsError, **more: Any) -> int:
    ended = {"state": JobState.FAILED, "seconds_left": None, "ended_at": timezone.now()}
    return jobs.update(**ended, **_words_of(error), **more)


def _queue_again(jobs: QuerySet[VideoJob], **more: Any) -> int:
    waiting = {"state": JobState.QUEUED, "stage": "Waiting", "progress": 0.0, "seconds_left": None}
    return jobs.update(**waiting, lease_until=None, sent_at=timezone.now(), **more)


def _words_of(error: MoltsError) -> dict[str, str]:
    return {"error_code": error.code[:40], "error": error.detail[:500], "error_attr": (error.attr or "")[:40]}


# -- Ending before it is made -----------------------------------------------------------------------------------------
def cancel_jobs(jobs: QuerySet[VideoJob]) -> int:
    """Have nobody make these any more; a worker that makes one finds out within a second."""
    return jobs.filter(state__in=LIVE_STATES).update(state=JobState.CANCELLED, ended_at=timezone.now())


def cancel_video(*, job: VideoJob) -> bool:
    """Whether it was cancelled: one that is over stays as it is."""
    if not cancel_jobs(VideoJob.objects.filter(pk=job.pk)):
        return False
    VideoJob.objects.filter(pk=job.pk).update(stage="Cancelled", seconds_left=None)
    _send_next(job)
    return True


def delete_video(*, job: VideoJob) -> None:
    """Delete it with its files; a worker that makes it finds out within a second."""
    with transaction.atomic():
        # As it is now: it may have been finished since it was read.
        stored = VideoJob.objects.select_for_update(of=("self",)).filter(pk=job.pk).first()
        if stored is None:
            return
        stored.delete()
    delete_files(stored)


def give_up_waiting(*, job: VideoJob, error: MoltsError) -> None:
    """Fail a job that nobody has begun."""
    _end(VideoJob.objects.filter(pk=job.pk, state=JobState.QUEUED), error)


# -- Keeping order ----------------------------------------------------------------------------------------------------
def take_back_expired() -> None:
    """Queue again what lost its worker, or fail it when that has happened too often."""
    expired = VideoJob.objects.filter(state=JobState.RUNNING, lease_until__lt=timezone.now())
    for kind, most in MOST_ATTEMPTS.items():
        for job in expired.filter(kind=kind, attempts__gte=most):
            _give_up(job)
    for job in expired:
        if _queue_again(expired.filter(pk=job.pk, attempts=job.attempts)):
            logger.warning("a job lost its worker", extra={"job": str(job.pk), "worker": job.claimed_by})
            _send_quietly(job)


def _give_up(job: VideoJob) -> None:
    with transaction.atomic():
        if not _end(_held(job).filter(lease_until__lt=timezone.now()), Unavailable(INTERRUPTED, code="interrupted")):
            return
        if job.kind == JobKind.VIDEO:
            unfinished = job.stages.filter(ended_at=None).first()
            stage = unfinished.name if unfinished else StageName.SPEECH
            VideoJob.objects.filter(pk=job.pk).update(failed_stage=stage)
            job.refresh_from_db()
            announce(job)


def resend_waiting() -> None:
    """Tell the workers again of jobs that have waited for long: a queue that was emptied has lost them.

    A message says that there is a job, not which, and a worker that has made one finds the next by itself. So a few are
    enough, and none where nobody reads them.
    """
    now = timezone.now()
    waiting = VideoJob.objects.filter(state=JobState.QUEUED, sent_at__lt=now - SEND_AGAIN_AFTER)
    oldest = waiting.exclude(not_before__gt=now).order_by("sent_at").only("pk")[:SENT_AGAIN_AT_ONCE]
    for job in oldest if queue.is_read() else ():
        if waiting.filter(pk=job.pk).update(sent_at=now):
            _send_quietly(job)


def delete_old() -> None:
    """Delete jobs that are over, with their files, when what they made has been kept for as long as its kind is."""
    for kind, time in KEPT_FOR.items():
        old = VideoJob.objects.filter(kind=kind, ended_at__lt=timezone.now() - time).exclude(state__in=LIVE_STATES)
        for job in old:
            delete_files(job)
            job.delete()
    orphans = VideoJob.objects.filter(kind=JobKind.VIDEO, project=None)
    cancel_jobs(orphans)
    for job in orphans:
        delete_video(job=job)


def clear_benches() -> None:
    """Delete what attempts have left of videos that are over: of those cancelled while no worker had them."""
    folder = bench_of(uuid.UUID(int=0)).parent
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    for name in names:
        with suppress(ValueError):
            clear_bench(uuid.UUID(name))


def delete_files(job: VideoJob) -> None:
    for file in (job.picture, job.output, job.thumbnail):
        if file.name:
            file.storage.delete(file.name)


def _send_next(job: VideoJob) -> None:
    """Tell the workers of a video that waits in this project: its message may have come while too many were made."""
    waiting = VideoJob.objects.filter(kind=JobKind.VIDEO, project=job.project, state=JobState.QUEUED)
    first = waiting.exclude(not_before__gt=timezone.now()).order_by("created_at").first()
    if first is not None:
        _send_quietly(first)


def _send_quietly(job: VideoJob) -> None:
    try:
        queue.send(job.pk)
    except Unavailable:
        logger.warning("the workers' queue is out of reach", extra={"job": str(job.pk)})  # it is sent again later
