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
from avatars.videos.models import VideoJob
from avatars.videos.previews import make_preview
from avatars.videos.work import Made, Work
from molts.errors import MoltsError, Unavailable

logger = logging.getLogger(__name__)

HOLD_SECONDS = 0.5
MAKERS: Mapping[JobKind, Callable[[Work], Made]] = {JobKind.PREVIEW: make_preview}


def run_job(*, job_id: uuid.UUID, worker: str) -> None:
    """Make the job, unless another worker does or it is over."""
    job = services.claim_job(job_id=job_id, worker=worker)
    if job is None:
        return
    try:
        with tempfile.TemporaryDirectory(prefix="molts-video-", ignore_cleanup_errors=True) as folder:
            _make(job, Path(folder))
    except MoltsError as error:
        services.fail_job(job=job, error=error)
    except Exception:
        logger.exception("a job could not be done", extra={"job": str(job.pk)})
        services.fail_job(job=job, error=Unavailable("It could not be made. The server's log says why."))


def _make(job: VideoJob, folder: Path) -> None:
    work = Work(job, folder)
    with Holder(work):
        made = MAKERS[JobKind(job.kind)](work)
    if not work.dropped.is_set():
        clip = ContentFile(made.clip, name=f"{job.pk}{made.suffix}")
        services.finish_job(job=job, clip=clip, media_type=made.media_type)


class Holder:
    """Renews the lease of a job from a thread, for as long as its block lasts."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._over = threading.Event()
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
        try:
            return services.hold_job(job=self._work.job, stage=self._work.stage, progress=self._work.progress)
        except DatabaseError:
            logger.warning("the lease of a job could not be renewed", extra={"job": str(self._work.job.pk)})
            return None
