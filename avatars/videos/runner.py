"""Makes one job: claims it, has the maker of its kind make it, finishes or fails it. Exactly one worker does.

While the maker works, a thread renews the lease, notes the progress, and finds out whether the job is still wanted.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from django.core.files.base import ContentFile
from django.db import DatabaseError, connections

from avatars.videos import services
from avatars.videos.choices import JobKind
from avatars.videos.ordered import make_ordered
from avatars.videos.previews import make_preview
from avatars.videos.report import StageFailed, StageReport
from avatars.videos.stages import StageName
from avatars.videos.stages.publish import uploaded
from avatars.videos.work import Made, MadeVideo, Work
from molts.errors import MoltsError, Unavailable

logger = logging.getLogger(__name__)

HOLD_SECONDS = 0.5
MAKERS: Mapping[JobKind, Callable[[Work], Made | MadeVideo]] = {
    JobKind.PREVIEW: make_preview,
    JobKind.VIDEO: make_ordered,
}


def run_job(*, job_id: uuid.UUID, worker: str) -> None:
    """Make the job that is next in turn: this one or, where others come first, another. None may be left."""
    job = services.claim_turn(worker=worker)
    if job is None:
        logger.info("no job is to be made", extra={"job": str(job_id)})
        return
    with tempfile.TemporaryDirectory(prefix="molts-video-", ignore_cleanup_errors=True) as folder:
        work = Work(job, Path(folder))
        try:
            with Holder(work):
                made = MAKERS[JobKind(job.kind)](work)
                if isinstance(made, MadeVideo):
                    _publish(work, made)
            if isinstance(made, Made) and not work.dropped.is_set():
                clip = ContentFile(made.clip, name=f"{job.pk}{made.suffix}")
                services.finish_job(job=job, clip=clip, media_type=made.media_type)
        except MoltsError as error:
            _fail(work, error)
        except Exception:
            logger.exception("a job could not be done", extra={"job": str(job.pk)})
            _fail(work, Unavailable("It could not be made. The server's log says why."))
    services.clear_bench(job.pk)


def _fail(work: Work, error: MoltsError) -> None:
    if work.job.kind != JobKind.VIDEO:
        services.fail_job(job=work.job, error=error)
        return
    if not isinstance(error, StageFailed):
        error = StageFailed(next(reversed(work.report.stages), StageName.SPEECH), error)
    services.fail_video(job=work.job, error=error, report=work.report)


def _publish(work: Work, made: MadeVideo) -> None:
    """Put a video where it is found, as the last of its stages."""
    report, job = work.report, work.job
    report.begin(StageName.PUBLISH, "Storing")
    name = f"agents/{job.agent_id or 'deleted'}/videos/{job.pk}"
    try:
        with uploaded(made.file, f"{name}.mp4") as file, uploaded(made.thumbnail, f"{name}.jpg") as thumbnail:
            report.end(StageName.PUBLISH)
            services.finish_video(job=job, file=file, thumbnail=thumbnail, duration=made.duration, report=report)
    except Unavailable as error:
        raise StageFailed(StageName.PUBLISH, error) from error


class Holder:
    """Renews the lease of a job from a thread, for as long as its block lasts."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._over = threading.Event()
        self._written: dict[StageName, StageReport] = {}
        self._thread = threading.Thread(target=self._run, name="job-holder", daemon=True)

    def __enter__(self) -> Holder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        held_at = time.monotonic()
        try:
            while not self._over.wait(HOLD_SECONDS):
                held = self._hold()
                if held:
                    held_at = time.monotonic()
                elif held is False or time.monotonic() - held_at > services.LEASE.total_seconds():
                    self._work.dropped.set()
                    return
        finally:
            connections.close_all()

    def _hold(self) -> bool | None:
        """None while the database cannot say."""
        job, report = self._work.job, self._work.report
        try:
            held = services.hold_job(
                job=job, stage=report.text, progress=report.progress, seconds_left=report.seconds_left
            )
            news = {name: stage for name, stage in dict(report.stages).items() if self._written.get(name) is not stage}
            services.note_stages(job=job, stages=news)
            self._written |= news
            return held
        except DatabaseError:
            logger.warning("the lease of a job could not be renewed", extra={"job": str(self._work.job.pk)})
            return None
