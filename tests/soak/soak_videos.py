"""Videos while what makes them is killed: each is completed, once, with one file and one set of usage rows.

A real worker of the queue `media`, a real Redis and a database of its own; the engine is a stand-in that draws a few
ellipses, and the voice is espeak-ng. `MOLTS_SOAK_VIDEO_KILLS` says how many videos lose the process that renders or the
pool's process at a random moment, `MOLTS_SOAK_VIDEO_TREES` how many lose the whole worker, `MOLTS_SOAK_VIDEO_QUEUE` how
many wait when Redis is emptied.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis

from tests.agent_runtime.stack import RedisServer, end, wait_for
from tests.avatars.test_old_database import ROOT, manage

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("MOLTS_SOAK_VIDEO_KILLS", "50"))
TREES = int(os.environ.get("MOLTS_SOAK_VIDEO_TREES", "20"))
QUEUED = int(os.environ.get("MOLTS_SOAK_VIDEO_QUEUE", "100"))
BACK_SECONDS = 35.0
EMPTIED_SECONDS = 90.0
SCRIPT = "Hello there, my name is Ada. This is the second sentence of it. And this is the third one, which is the last."
ENGINE = """
import django
django.setup()
from avatars.engines import ENGINES
from tests.avatars.stand_in import HERE
ENGINES["puppet"] = HERE + ".Round"
"""
WORK = f"{ENGINE}from celery.__main__ import main; main()"
ORDER = """
import sys, json, django
django.setup()
from avatars.models import Agent, Avatar
from avatars.services import snapshot_agent
from avatars.videos import services
from avatars.videos.ordering import plan_scene, plan_video
from projects.services import create_project
agent = Agent.objects.first()
if agent is None:
    project = create_project(name="Soak")
    face = Avatar.objects.create(project=project, name="Ada", engine="puppet", options={"character": "mira"})
    agent = Agent.objects.create(project=project, name="Ada", slug="ada", avatar=face)
count, script = int(sys.argv[1]), sys.argv[2]
for _ in range(count):
    spec = plan_video(scenes=[plan_scene(agent=snapshot_agent(agent), script=script)])
    print(services.order_video(agent=agent, spec=spec).pk)
"""
READ = """
import json, django
django.setup()
from avatars.videos.models import VideoJob
rows = [
    {
        "id": str(job.pk), "state": job.state, "stage": job.stage, "progress": job.progress, "attempts": job.attempts,
        "error": job.error, "stages": [stage.name for stage in job.stages.all()], "output": job.output.name,
        "took": (job.ended_at - job.started_at).total_seconds() if job.ended_at else None,
        "used": sorted([used.unit, float(used.quantity)] for used in job.usage_records.all()),
    }
    for job in VideoJob.objects.prefetch_related("stages", "usage_records")
]
print(json.dumps(rows))
"""


class Works:
    """A data folder with its database and queue, one worker at a time, and the clock."""

    def __init__(self, folder: Path, redis: RedisServer, running: ExitStack) -> None:
        self.folder, self.redis, self._running = folder, redis, running
        self.env = os.environ | {
            "DJANGO_SETTINGS_MODULE": "molts.settings",
            "MOLTS_DATA_DIR": str(folder),
            "MOLTS_INSTANCE": f"s{os.getpid()}",
            "REDIS_URL": redis.url,
        }
        manage(folder, "migrate", "--no-input", "--skip-checks", "--verbosity", "0")
        self._start("jobs", "worker", "-Q", "default", "--pool", "threads", "--concurrency", "1", "-n", "jobs@h")
        self._start("clock", "beat", "--schedule", str(folder / "beat"))
        self.worker = self.start_worker()

    def start_worker(self) -> subprocess.Popen[bytes]:
        self.worker = self._start("render", "worker", "-Q", "media", "--concurrency", "1", "-n", "render@h")
        return self.worker

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = self._running.enter_context((self.folder / f"{name}.log").open("ab"))
        command = [sys.executable, "-c", WORK, "-A", "molts", *arguments, "--loglevel", "INFO"]
        process = subprocess.Popen(
            command, cwd=ROOT, env=self.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._running.callback(end, process)
        return process

    def order(self, count: int = 1, script: str = SCRIPT) -> list[str]:
        return self._run(ORDER, str(count), script).split()

    def is_running(self, video: str) -> bool:
        return bool(self.rows()[video]["state"] == "running")

    def is_tried_again(self, video: str) -> bool:
        return bool(self.rows()[video]["attempts"] > 1)

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in json.loads(self._run(READ))}

    def _run(self, code: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1] if code is READ else done.stdout

    def makers(self) -> list[psutil.Process]:
        """The pool's processes and those that render for them."""
        with suppress(psutil.Error):
            return psutil.Process(self.worker.pid).children(recursive=True)
        return []

    def wait_until_done(self, ids: list[str], *, seconds: float) -> dict[str, dict[str, Any]]:
        deadline = time.monotonic() + seconds
        while True:
            rows = self.rows()
            if all(rows[one]["state"] in ("done", "failed") for one in ids):
                return rows
            assert time.monotonic() < deadline, [rows[one] for one in ids if rows[one]["state"] != "done"]
            time.sleep(0.5)

    def files(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "media").rglob("*") if path.is_file())


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Works]:
    redis_folder = tmp_path / "redis"
    redis_folder.mkdir()
    redis = RedisServer(redis_folder)
    try:
        with ExitStack() as running:
            yield Works(tmp_path, redis, running)
    finally:
        redis.stop()


def check_once(works: Works, rows: dict[str, dict[str, Any]], ids: list[str]) -> None:
    """Each is completed; one file and picture each; the same usage, whatever it went through; nothing else is left."""
    assert {rows[one]["state"] for one in ids} == {"done"}, [rows[one] for one in ids if rows[one]["state"] != "done"]
    assert works.files() == sorted(f"{one}{suffix}" for one in rows for suffix in (".jpg", ".mp4"))
    used = {json.dumps(rows[one]["used"]) for one in ids}
    assert len(used) == 1, used
    assert len(rows[ids[0]]["used"]) == 3
    assert all(sorted(rows[one]["stages"]) == ["compose", "lipsync", "publish", "speech"] for one in ids)
    assert not [*(works.folder / "videos").glob("*")]


def test_videos_are_made_once_whatever_process_is_killed(works: Works) -> None:
    chance = random.Random(4711)
    script = f"{SCRIPT} " * 3
    works.wait_until_done(works.order(script=script), seconds=180)  # the face is drawn
    (video,) = works.order(script=script)
    usual = works.wait_until_done([video], seconds=60)[video]["took"]
    attempts: list[int] = []
    done: list[str] = []
    for number in range(KILLS):
        ids = works.order(script=script)
        time.sleep(chance.uniform(0.0, usual))
        if victims := works.makers():
            with suppress(psutil.Error):
                chance.choice(victims).kill()
        rows = works.wait_until_done(ids, seconds=120)
        attempts.append(rows[ids[0]]["attempts"])
        done += ids
        print(f"{number + 1}/{KILLS}: {attempts[-1]} attempts", flush=True)
    check_once(works, works.rows(), done)
    print(f"{KILLS} videos, {sum(count > 1 for count in attempts)} of them in more than one attempt")


def test_a_whole_worker_that_is_killed_is_replaced_in_time(works: Works) -> None:
    chance = random.Random(4711)
    works.wait_until_done(works.order(), seconds=180)
    for number in range(TREES):
        (video,) = works.order(script=f"{SCRIPT} " * 4)
        wait_for("a worker", partial(works.is_running, video), seconds=60)
        time.sleep(chance.uniform(0.0, 1.0))
        os.killpg(works.worker.pid, signal.SIGKILL)
        works.worker.wait(10)
        killed = time.monotonic()
        if works.rows()[video]["state"] == "done":
            works.start_worker()
            continue
        works.start_worker()
        wait_for("the next attempt", partial(works.is_tried_again, video), seconds=60)
        took = time.monotonic() - killed
        print(f"{number + 1}/{TREES}: taken up after {took:.1f} s", flush=True)
        assert took < BACK_SECONDS
        works.wait_until_done([video], seconds=180)


def test_a_queue_that_is_emptied_loses_no_video(works: Works) -> None:
    works.wait_until_done(works.order(), seconds=180)
    ids = works.order(QUEUED, "Good morning.")
    with Redis.from_url(works.redis.url) as client:
        client.flushall()
    emptied = time.monotonic()
    rows = works.wait_until_done(ids, seconds=EMPTIED_SECONDS + 600)
    took = time.monotonic() - emptied
    print(f"{QUEUED} videos within {took:.0f} s of the emptying, {took / QUEUED:.2f} s each")
    check_once(works, rows, ids)
