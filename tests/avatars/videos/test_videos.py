"""Videos as rows: each is made once, whatever dies meanwhile, and one that cannot be made says where and why."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.utils import timezone

from avatars.models import Agent
from avatars.snapshots import AvatarSnapshot, Rung
from avatars.videos import queue, runner, services
from avatars.videos.choices import JobKind, JobState
from avatars.videos.models import VideoJob
from avatars.videos.ordering import plan_video
from avatars.videos.report import SpokenWords, StageFailed
from avatars.videos.spec import Scene
from avatars.videos.stages import StageName
from avatars.videos.tasks import sweep
from avatars.videos.work import MadeVideo, Work
from molts.errors import Busy, Unavailable
from tests.avatars.videos.test_pipeline import children

pytestmark = pytest.mark.django_db(transaction=True)
slow = pytest.mark.slow

AVATAR = AvatarSnapshot(name="Ada", engine="puppet", options={"character": "mira"})
Making = Callable[[Callable[[Work], MadeVideo]], None]


@pytest.fixture(autouse=True)
def _benches_of_its_own(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "bench_of", lambda job_id: tmp_path / "benches" / job_id.hex)


def order(agent: Agent, script: str = "Hello there. I am Ada.", **given: Any) -> VideoJob:
    scene = Scene(script=script, language="en", voices=(Rung(provider="espeak"),), avatar=AVATAR)
    return services.order_video(agent=agent, spec=plan_video(scenes=[scene]), **given)


def now(job: VideoJob) -> VideoJob:
    return VideoJob.objects.get(pk=job.pk)


def run(job: VideoJob, worker: str = "one") -> VideoJob:
    runner.run_job(job_id=job.pk, worker=worker)
    return now(job)


def expire(job: VideoJob) -> None:
    VideoJob.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def stored() -> list[str]:
    root = Path(default_storage.path(""))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def making(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Making:
    """Sets how videos are made; without it they take no time and are none."""

    def use(make: Callable[[Work], MadeVideo]) -> None:
        monkeypatch.setattr(runner, "MAKERS", {JobKind.VIDEO: make})
        monkeypatch.setattr(runner, "HOLD_SECONDS", 0.01)

    use(lambda work: quickly(work))
    return use


def quickly(work: Work) -> MadeVideo:
    work.report.begin(StageName.SPEECH)
    work.report.spoken["piece"] = SpokenWords("espeak", "en", 22, 1.5)
    work.report.end(StageName.SPEECH, key="abc", note="1 piece")
    file = work.folder / "made.mp4"
    file.write_bytes(b"a video")
    file.with_suffix(".jpg").write_bytes(b"a picture")
    return MadeVideo(file, file.with_suffix(".jpg"), 1.5)


# -- The whole way ----------------------------------------------------------------------------------------------------
@slow
def test_a_video_is_made_stored_and_accounted_for(
    agent: Agent, sent: list[object], engine: Callable[[str], None]
) -> None:
    job = order(agent, title="Welcome", metadata={"order": 7})
    assert (job.state, sent) == (JobState.QUEUED, [job.pk])

    done = run(job)

    assert (done.state, done.progress, done.error, done.attempts) == (JobState.DONE, 1.0, "", 1)
    name = f"agents/{agent.pk}/videos/{job.pk}"
    assert (done.output.name, done.thumbnail.name) == (f"{name}.mp4", f"{name}.jpg")
    assert stored() == [f"{name}.jpg", f"{name}.mp4"]
    assert done.output.read(12)[4:8] == b"ftyp"
    assert done.duration is not None
    stages = {stage.name: stage for stage in done.stages.all()}
    assert set(stages) == set(StageName)
    assert all(stage.ended_at and stage.ended_at >= stage.started_at for stage in stages.values())
    assert stages["compose"].key
    used = {record.unit: (record.provider, float(record.quantity)) for record in done.usage_records.all()}
    assert used["characters"] == ("espeak", 22)
    assert used["audio_seconds"][1] == pytest.approx(done.duration, abs=0.05)
    assert used["video_seconds"][0] == "puppet"
    assert used["video_seconds"][1] == pytest.approx(done.duration)
    assert not services.bench_of(job.pk).exists()


@slow
def test_a_killed_renderer_costs_an_attempt_and_no_word_is_spoken_twice(
    agent: Agent, sent: list[object], engine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine("Endless")
    job = order(agent)

    def kill() -> None:
        while not services.bench_of(job.pk).exists() or len([*services.bench_of(job.pk).glob("*.piece")]) < 1:
            pass_time.wait(0.01)
        while not (found := children()):
            pass_time.wait(0.01)
        found[0].kill()

    pass_time = threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    again = run(job)
    killer.join()

    assert (again.state, again.attempts, again.error_code, again.failed_stage) == ("queued", 1, "crashed", "lipsync")
    assert sent == [job.pk, job.pk], "a crash is tried again at once"
    engine("Round")

    done = run(job, "two")

    assert (done.state, done.attempts, done.error, done.failed_stage) == ("done", 2, "", "")
    assert done.usage_records.filter(unit="characters").get().quantity == 22


@slow
def test_cancelling_ends_what_is_rendering(agent: Agent, sent: list[object], engine: Callable[[str], None]) -> None:
    engine("Endless")
    job = order(agent)
    running = threading.Event()

    def cancel() -> None:
        from django.db import connections

        while not children():
            running.wait(0.01)
        services.cancel_video(job=job)
        connections.close_all()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    cancelled = run(job)
    canceller.join()

    assert (cancelled.state, cancelled.stage, cancelled.error) == ("cancelled", "Cancelled", "")
    assert not children()
    assert not services.bench_of(job.pk).exists()
    assert stored() == []


def test_what_was_spoken_for_a_cancelled_one_costs(agent: Agent, sent: list[object], making: Making) -> None:
    job = order(agent)

    def make(work: Work) -> MadeVideo:
        quickly(work)
        services.cancel_video(job=job)
        raise StageFailed(StageName.LIPSYNC, Unavailable("Nobody wants it any more.", code="cancelled"))

    making(make)
    assert run(job).state == JobState.CANCELLED
    assert now(job).usage_records.filter(unit="characters").get().quantity == 22


# -- Once, and not for ever -------------------------------------------------------------------------------------------
def test_who_comes_too_late_publishes_nothing(
    agent: Agent, sent: list[object], making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = order(agent)

    def overtaken(work: Work) -> MadeVideo:
        made = quickly(work)
        expire(job)
        sweep()
        making(quickly)
        assert run(job, "two").state == JobState.DONE
        return made

    making(overtaken)
    monkeypatch.setattr(runner, "HOLD_SECONDS", 600)  # it stands still and renews nothing
    done = run(job)

    assert (done.state, done.claimed_by, done.attempts) == ("done", "two", 2)
    assert len(stored()) == 2
    assert done.usage_records.filter(unit="characters").count() == 1


def test_one_that_loses_every_worker_fails_with_its_stage(agent: Agent, sent: list[object]) -> None:
    job = order(agent)
    for _ in range(services.MOST_ATTEMPTS[JobKind.VIDEO]):
        assert services.claim_turn(worker="one") is not None
        expire(job)
        sweep()

    failed = now(job)
    assert (failed.state, failed.error_code, failed.failed_stage, failed.attempts) == (
        "failed",
        "interrupted",
        "speech",
        3,
    )
    assert services.claim_turn(worker="one") is None


def test_a_poisoned_one_ends_with_reason_and_stage(agent: Agent, sent: list[object], making: Making) -> None:
    def crash(work: Work) -> MadeVideo:
        work.report.begin(StageName.LIPSYNC)
        raise StageFailed(StageName.LIPSYNC, Unavailable("It crashed.", code="crashed"))

    making(crash)
    job = order(agent)
    states = [run(job).state for _ in range(3)]

    assert states == ["queued", "queued", "failed"]
    assert (now(job).failed_stage, now(job).error) == ("lipsync", "It crashed.")


def test_a_vendor_that_is_away_is_given_time(agent: Agent, sent: list[object], making: Making) -> None:
    def away(work: Work) -> MadeVideo:
        quickly(work)
        raise StageFailed(StageName.SPEECH, Unavailable("No voice speaks."))

    making(away)
    job = order(agent)
    run(job)
    sweep()
    assert (now(job).state, sent) == ("queued", [job.pk])
    assert now(job).usage_records.filter(unit="characters").get().quantity == 22, "what was spoken costs"
    assert services.claim_turn(worker="one") is None, "not yet"
    later = timezone.now() - services.SEND_AGAIN_AFTER - timedelta(seconds=1)
    VideoJob.objects.update(sent_at=later, not_before=later)

    sweep()
    making(quickly)

    assert sent == [job.pk, job.pk]
    assert run(job).state == "done"
    assert now(job).usage_records.filter(unit="characters").count() == 1


def test_what_nobody_foresaw_is_told_without_its_secrets(agent: Agent, sent: list[object], making: Making) -> None:
    def fail(work: Work) -> MadeVideo:
        raise RuntimeError("a secret of the engine")

    making(fail)
    job = order(agent)
    for _ in range(3):
        VideoJob.objects.update(not_before=None)
        run(job)
    assert (now(job).state, now(job).failed_stage) == ("failed", "speech")
    assert "secret" not in now(job).error


def test_a_full_disk_publishes_nothing_and_is_tried_again(
    agent: Agent, sent: list[object], making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = order(agent)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", full)
        again = run(job)
    assert (again.state, again.failed_stage) == ("queued", "publish")
    assert "No space left" in again.error
    assert stored() == []

    VideoJob.objects.update(not_before=None)
    assert run(job).state == "done"
    assert len(stored()) == 2


def test_a_queue_that_is_away_loses_no_order(agent: Agent, monkeypatch: pytest.MonkeyPatch, making: Making) -> None:
    def away(job_id: object) -> None:
        raise Unavailable("Redis is out of reach.")

    monkeypatch.setattr(queue, "send", away)
    job = order(agent)
    sent: list[object] = []
    monkeypatch.setattr(queue, "send", sent.append)
    VideoJob.objects.update(sent_at=timezone.now() - services.SEND_AGAIN_AFTER - timedelta(seconds=1))

    sweep()

    assert sent == [job.pk]
    assert run(job).state == "done"


def test_the_end_is_announced_once(
    agent: Agent, sent: list[object], making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[tuple[object, str]] = []
    monkeypatch.setattr(services, "announce", lambda job: announced.append((job.pk, job.state)))
    first, second = order(agent), order(agent)
    run(first)
    run(first)
    for _ in range(3):
        expire(second)
        sweep()
    assert announced == [(first.pk, "done"), (second.pk, "done")]


# -- Turns and limits -------------------------------------------------------------------------------------------------
def test_projects_take_turns(agent: Agent, other_agent: Agent, sent: list[object], making: Making) -> None:
    ours = [order(agent) for _ in range(3)]
    theirs = order(other_agent)

    served = [services.claim_turn(worker=str(number)) for number in range(4)]

    assert [job.pk if job else None for job in served] == [ours[0].pk, theirs.pk, ours[1].pk, None]
    assert served[0] is not None
    VideoJob.objects.filter(pk=ours[0].pk).update(state=JobState.DONE)
    last = services.claim_turn(worker="four")
    assert last is not None
    assert last.pk == ours[2].pk


def test_one_that_had_to_wait_is_sent_when_another_is_over(agent: Agent, sent: list[object], making: Making) -> None:
    jobs = [order(agent) for _ in range(3)]
    held = services.claim_turn(worker="one")
    assert held is not None
    sent.clear()

    run(jobs[1])

    assert sent == [jobs[2].pk]


def test_a_preview_comes_first(agent: Agent, alice: User, sent: list[object]) -> None:
    order(agent)
    preview = services.create_job(kind=JobKind.PREVIEW, user_id=alice.pk, project_id=None, order={})
    first = services.claim_turn(worker="one")
    assert first is not None
    assert first.pk == preview.pk


def test_a_project_may_order_so_many(
    agent: Agent, other_agent: Agent, sent: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "MOST_WAITING", 2)
    job = order(agent)
    order(agent)
    with pytest.raises(Busy, match="2 videos of this project") as caught:
        order(agent)
    assert caught.value.code == "too_many_videos"
    order(other_agent)
    services.cancel_video(job=job)
    order(agent)


# -- Keeping and deleting ---------------------------------------------------------------------------------------------
def test_a_video_is_kept_until_it_is_deleted(agent: Agent, sent: list[object], making: Making) -> None:
    job = order(agent)
    run(job)
    VideoJob.objects.update(ended_at=timezone.now() - timedelta(days=400))
    sweep()
    assert len(stored()) == 2

    services.delete_video(job=job)  # as it was before it was made

    assert stored() == []
    assert not VideoJob.objects.exists()


def test_a_deleted_one_is_dropped_by_its_worker(agent: Agent, sent: list[object], making: Making) -> None:
    job = order(agent)

    def make(work: Work) -> MadeVideo:
        services.delete_video(job=now(job))
        assert work.dropped.wait(60)
        return quickly(work)

    making(make)
    runner.run_job(job_id=job.pk, worker="one")

    assert stored() == []
    assert not VideoJob.objects.exists()


def test_the_videos_of_a_project_go_with_it(agent: Agent, sent: list[object], making: Making) -> None:
    run(order(agent))
    order(agent)
    agent.project.delete()
    sweep()
    assert not VideoJob.objects.exists()
    assert stored() == []


def test_benches_of_what_is_over_are_cleared(agent: Agent, sent: list[object]) -> None:
    waiting, cancelled = order(agent), order(agent)
    for job in (waiting, cancelled):
        services.bench_of(job.pk).mkdir(parents=True)
    services.cancel_video(job=cancelled)

    sweep()

    assert services.bench_of(waiting.pk).exists()
    assert not services.bench_of(cancelled.pk).exists()
