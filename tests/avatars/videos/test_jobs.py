"""Jobs: one worker makes each, a lost worker loses none, and none is made for ever."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone

from avatars.videos import queue, runner, services
from avatars.videos.choices import JobKind, JobState
from avatars.videos.models import VideoJob
from avatars.videos.tasks import sweep
from avatars.videos.work import Made, Work
from molts.errors import BadInput, Unavailable

CLIP = Made(b"a clip", ".mp4", "video/mp4")
Making = Callable[[Callable[[Work], Made]], None]


@pytest.fixture
def job(sent: list[object], alice: User) -> VideoJob:
    """One that waits."""
    picture = ContentFile(b"a face", name="face.png")
    return services.create_job(kind=JobKind.PREVIEW, user_id=alice.pk, project_id=None, order={}, picture=picture)


@pytest.fixture
def making(monkeypatch: pytest.MonkeyPatch) -> Making:
    """Sets how previews are made, and how often their lease is renewed."""

    def use(make: Callable[[Work], Made]) -> None:
        monkeypatch.setattr(runner, "MAKERS", {JobKind.PREVIEW: make})
        monkeypatch.setattr(runner, "HOLD_SECONDS", 0.01)

    return use


def claimed(job: VideoJob, worker: str = "one") -> VideoJob:
    mine = services.claim_job(job_id=job.pk, worker=worker)
    assert mine is not None
    return mine


def expire(job: VideoJob) -> None:
    VideoJob.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def now(job: VideoJob) -> VideoJob:
    return VideoJob.objects.get(pk=job.pk)


# -- Claims and leases ------------------------------------------------------------------------------------------------
def test_one_worker_gets_a_job(job: VideoJob) -> None:
    mine = claimed(job)

    assert services.claim_job(job_id=job.pk, worker="two") is None
    assert services.claim_job(job_id=uuid.uuid4(), worker="two") is None
    assert (mine.state, mine.attempts, mine.claimed_by) == ("running", 1, "one")
    assert mine.lease_until is not None
    assert mine.lease_until > timezone.now()


def test_whoever_holds_a_job_says_how_far_it_is(job: VideoJob) -> None:
    mine = claimed(job)
    expire(job)

    assert services.hold_job(job=mine, stage="Rendering", progress=0.4)

    held = now(job)
    assert (held.stage, held.progress) == ("Rendering", 0.4)
    assert held.lease_until is not None
    assert held.lease_until > timezone.now()


def test_a_job_that_lost_its_worker_is_made_by_another(job: VideoJob, sent: list[object]) -> None:
    first = claimed(job)
    sweep()
    assert now(job).state == "running", "its lease lasts"
    expire(job)

    sweep()

    assert (now(job).state, sent) == ("queued", [job.pk])
    second = claimed(job, "two")
    assert second.attempts == 2
    assert not services.hold_job(job=first, stage="Rendering", progress=0.9), "who was thought lost sees it"
    assert not services.finish_job(job=first, clip=ContentFile(b"late", name="late.mp4"), media_type="video/mp4")
    assert not services.fail_job(job=first, error=Unavailable("Too late."))
    assert services.finish_job(job=second, clip=ContentFile(b"good", name="good.mp4"), media_type="video/mp4")
    done = now(job)
    assert (done.state, done.progress, done.output.read()) == ("done", 1.0, b"good")
    assert done.output.storage.listdir("videos")[1] == ["face.png", "good.mp4"], "what came too late is not kept"


def test_one_that_loses_every_worker_fails(job: VideoJob) -> None:
    for _ in range(services.MOST_ATTEMPTS[JobKind.PREVIEW]):
        assert now(job).state == "queued"
        claimed(job)
        expire(job)
        sweep()

    failed = now(job)
    assert (failed.state, failed.error_code, failed.attempts) == (
        "failed",
        "interrupted",
        services.MOST_ATTEMPTS[JobKind.PREVIEW],
    )
    assert "Ask for it again" in failed.error


def test_one_that_waits_for_long_is_sent_again(job: VideoJob, sent: list[object]) -> None:
    """Redis may have been emptied."""
    sweep()
    assert sent == []
    VideoJob.objects.update(sent_at=timezone.now() - services.SEND_AGAIN_AFTER - timedelta(seconds=1))

    sweep()
    sweep()

    assert sent == [job.pk]


def test_a_queue_that_is_away_stops_no_round(job: VideoJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(job_id: object) -> None:
        raise Unavailable("Redis is out of reach.")

    monkeypatch.setattr(queue, "send", away)
    claimed(job)
    expire(job)

    sweep()

    assert now(job).state == "queued"


def test_the_database_keeps_one_preview_a_person(job: VideoJob, alice: User, charlie: User) -> None:
    order: dict[str, Any] = {"kind": JobKind.PREVIEW, "project_id": None, "order": {}}
    with pytest.raises(IntegrityError), transaction.atomic():
        services.create_job(user_id=alice.pk, **order)
    services.create_job(user_id=charlie.pk, **order)
    services.cancel_jobs(VideoJob.objects.filter(ordered_by=alice))
    services.create_job(user_id=alice.pk, **order)


@pytest.mark.parametrize("state", [JobState.DONE, JobState.FAILED, JobState.CANCELLED])
def test_what_is_over_is_deleted_with_its_files_after_a_while(job: VideoJob, state: JobState) -> None:
    services.finish_job(job=claimed(job), clip=ContentFile(b"clip", name="clip.mp4"), media_type="video/mp4")
    VideoJob.objects.update(state=state)
    sweep()
    assert now(job).state == state
    storage = job.picture.storage
    VideoJob.objects.update(ended_at=timezone.now() - services.KEPT_FOR[JobKind.PREVIEW] - timedelta(seconds=1))

    sweep()

    assert not VideoJob.objects.exists()
    assert storage.listdir("videos") == ([], [])


def test_the_files_of_somebody_who_was_deleted_are_deleted_too(job: VideoJob, alice: User) -> None:
    services.cancel_jobs(VideoJob.objects.all())
    alice.delete()
    VideoJob.objects.update(ended_at=timezone.now() - services.KEPT_FOR[JobKind.PREVIEW] - timedelta(seconds=1))

    sweep()

    assert not VideoJob.objects.exists()
    assert job.picture.storage.listdir("videos") == ([], [])


# -- The runner -------------------------------------------------------------------------------------------------------
def run(job: VideoJob) -> VideoJob:
    runner.run_job(job_id=job.pk, worker="one")
    return now(job)


@pytest.mark.django_db(transaction=True)
def test_progress_is_seen_while_a_job_is_made(job: VideoJob, making: Making) -> None:
    seen = threading.Event()

    def make(work: Work) -> Made:
        assert now(job).state == "running"
        work.tell("Rendering", 0.5)
        while (now(job).stage, now(job).progress) != ("Rendering", 0.5):
            seen.wait(0.01)
        return CLIP

    making(make)

    done = run(job)

    assert (done.state, done.stage, done.media_type) == ("done", "Done", "video/mp4")
    assert done.output.read() == b"a clip"


@pytest.mark.django_db(transaction=True)
def test_a_job_that_is_cancelled_is_dropped_by_its_worker(job: VideoJob, making: Making) -> None:
    def make(work: Work) -> Made:
        services.cancel_jobs(VideoJob.objects.filter(pk=job.pk))
        assert work.dropped.wait(60)
        return CLIP

    making(make)

    cancelled = run(job)

    assert (cancelled.state, cancelled.output.name) == ("cancelled", "")


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_for_a_moment_costs_no_job(
    job: VideoJob, making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, tried = services.hold_job, threading.Semaphore(0)

    def hold_later(**given: object) -> bool:
        tried.release()
        if tried._value < 3:
            raise DatabaseError("away")
        return hold(**given)  # type: ignore[arg-type]

    monkeypatch.setattr(services, "hold_job", hold_later)

    def make(work: Work) -> Made:
        while tried._value < 4:
            work.dropped.wait(0.01)
        assert not work.dropped.is_set()
        return CLIP

    making(make)

    assert run(job).state == "done"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("error", "code", "text", "attr"),
    [
        (BadInput("No face was found.", attr="portrait"), "invalid", "No face was found.", "portrait"),
        (RuntimeError("a secret of the engine"), "unavailable", "It could not be made", ""),
    ],
)
def test_why_a_job_failed_is_told(
    job: VideoJob, making: Making, error: Exception, code: str, text: str, attr: str
) -> None:
    def make(work: Work) -> Made:
        raise error

    making(make)

    failed = run(job)

    assert (failed.state, failed.error_code, failed.error_attr) == ("failed", code, attr)
    assert text in failed.error
    assert "secret" not in failed.error
