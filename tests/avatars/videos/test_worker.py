"""The part `render` as it is: a Celery worker of the queue `media`, and what becomes of a job when it is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from molts.celery import RENDER_NICENESS
from molts.life import life_file
from tests.agent_runtime.stack import end, wait_for
from tests.avatars.test_old_database import ROOT, manage

pytestmark = pytest.mark.slow

# Stand-ins for the engine and the voice, and a lease that a test can wait for.
BEFORE = """
import sys
from datetime import timedelta
import django
django.setup()
from avatars.engines import ENGINES
from avatars.videos import previews, services
from tests.avatars.stand_in import HERE
from tests.avatars.videos.stand_ins import FACE, tone
ENGINES["puppet"] = HERE + "." + sys.argv.pop()
previews.speak_sample = lambda **_: tone()
services.LEASE = timedelta(seconds=3)
"""
WORK = BEFORE + "from celery.__main__ import main; main()"
ORDER = (
    BEFORE
    + """
from django.contrib.auth.models import User
user, _ = User.objects.get_or_create(username="alice")
print(previews.start_preview(user_id=user.pk, engine="puppet", face=FACE, text="Hello"))
"""
)
ASK = BEFORE + "previews.preview_state(user_id=1, ticket=sys.argv[1])"


class Copy:
    """A data folder with its database and queue, and the workers that run on it."""

    def __init__(self, folder: Path, redis_url: str, running: ExitStack) -> None:
        self.folder = folder
        self._running = running
        self._env = os.environ | {
            "DJANGO_SETTINGS_MODULE": "molts.settings",
            "MOLTS_DATA_DIR": str(folder),
            "MOLTS_INSTANCE": f"v{os.getpid()}",
            "REDIS_URL": redis_url,
        }
        manage(folder, "migrate", "--no-input", "--skip-checks", "--verbosity", "0")

    def start_worker(self, name: str, engine: str) -> subprocess.Popen[bytes]:
        arguments = (
            "-A",
            "molts",
            "worker",
            "-Q",
            "media",
            "--pool",
            "prefork",
            "--concurrency",
            "1",
            "-n",
            f"{name}@h",
        )
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO")
        log = self.log(name).open("wb")
        process = subprocess.Popen(
            [sys.executable, "-c", WORK, *arguments, *quiet, engine],
            cwd=ROOT,
            env=self._env,
            stdout=self._running.enter_context(log),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._running.callback(end, process)
        wait_for(f"the worker {name}", lambda: b" ready." in self.log(name).read_bytes())
        return process

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def order(self) -> str:
        return self._run(ORDER, "Round")

    def ask(self, ticket: str) -> None:
        self._run(ASK, ticket, "Round")

    def row(self) -> dict[str, Any]:
        with closing(sqlite3.connect(self.folder / "molts.sqlite3", timeout=20)) as database:
            database.row_factory = sqlite3.Row
            return dict(database.execute("SELECT * FROM videos_videojob ORDER BY created_at DESC").fetchone())

    def _run(self, code: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def copy(tmp_path: Path, redis_url: str) -> Iterator[Copy]:
    with ExitStack() as running:
        yield Copy(tmp_path, redis_url, running)


def test_one_that_is_dropped_makes_room_and_one_whose_worker_is_killed_is_made_by_the_next(copy: Copy) -> None:
    first = copy.start_worker("first", "Endless")
    family = [psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)]
    assert {process.nice() for process in family} == {RENDER_NICENESS}, "conversations come first"
    assert life_file(copy.folder, "render", first.pid).exists()
    copy.order()
    wait_for("the face", lambda: copy.row()["stage"] == "Preparing the face")
    dropped = copy.row()["id"]

    ticket = copy.order()

    wait_for("the next", lambda: copy.row()["id"] != dropped and copy.row()["stage"] == "Preparing the face")
    assert (copy.row()["attempts"], copy.row()["claimed_by"]) == (1, "first@h")

    os.killpg(first.pid, signal.SIGKILL)
    first.wait(10)
    second = copy.start_worker("second", "Round")

    wait_for("the end of the lease", lambda: copy.row()["lease_until"] < f"{datetime.now(UTC):%F %T.%f}")
    copy.ask(ticket)  # a page that asks does what the clock would do
    wait_for("the clip", lambda: copy.row()["state"] == "done")
    assert (copy.row()["attempts"], copy.row()["claimed_by"]) == (2, "second@h")
    assert (copy.folder / "media" / copy.row()["output"]).read_bytes()
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0
