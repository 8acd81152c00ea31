"""Jobs and clock end at once when they are asked to, with their work put away."""

from __future__ import annotations

import os
import shelve
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from pytest_django import Settings

from molts.celery import Clock, app
from tests.agent_runtime.stack import ROOT, end, wait_for

# What Python would still clear up at its end says so.
LATE = """
import os, sys
class Late:
    def __del__(self, write=os.write): write(1, b"cleared up")
sys.late = Late()
from celery.__main__ import main
main()
"""
# A task that runs when the worker is asked to stop.
SLOW = """
import time
from molts.celery import app
@app.task(name="slow")
def slow():
    print("slow began", flush=True)
    time.sleep(2)
    print("slow done", flush=True)
"""

Start = Callable[..., tuple[subprocess.Popen[bytes], Path]]


@pytest.fixture
def start(tmp_path: Path, redis_url: str) -> Iterator[Start]:
    with ExitStack() as running:

        def start(*arguments: str, before: str = "") -> tuple[subprocess.Popen[bytes], Path]:
            env = os.environ | {"MOLTS_DATA_DIR": str(tmp_path), "REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1"}
            log = tmp_path / f"{arguments[0]}.log"
            process = subprocess.Popen(
                [sys.executable, "-c", before + LATE, "-A", "molts", *arguments],
                cwd=ROOT,
                env=env | {"MOLTS_INSTANCE": f"t{os.getpid()}"},
                stdout=running.enter_context(log.open("wb")),
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            running.callback(end, process)
            return process, log

        yield start


def test_the_clock_keeps_its_schedule_and_ends(start: Start, tmp_path: Path) -> None:
    schedule = tmp_path / "clock-schedule"
    clock, log = start("beat", "--loglevel", "INFO", "--pidfile", "", "--schedule", str(schedule))
    wait_for("a round", lambda: b"Sending due task reconcile" in log.read_bytes())
    clock.send_signal(signal.SIGTERM)

    assert clock.wait(60) == 0, log.read_text()
    assert b"cleared up" not in log.read_bytes()
    with shelve.open(str(schedule), "r") as kept:  # noqa: S301 - written a moment ago by this test
        assert kept["entries"]["reconcile"].total_run_count >= 1


def test_a_clock_ends_with_its_round_when_the_exit_of_a_signal_got_lost(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MOLTS_DATA_DIR = tmp_path
    monkeypatch.setattr(Clock, "is_over", threading.Event())
    clock = Clock(app, schedule_filename=str(tmp_path / "schedule"))
    with pytest.raises(SystemExit):
        clock.end(signal.SIGTERM, None)
    with pytest.raises(SystemExit):
        clock.tick()
    assert clock.schedule, "what was kept is put away by the service, once"
    clock.close()


def test_a_job_that_runs_is_finished_first(start: Start) -> None:
    worker = ("worker", "-Q", "default", "--pool", "threads", "--concurrency", "1", "--loglevel", "INFO")
    jobs, log = start(*worker, "--without-gossip", "--without-mingle", "--without-heartbeat", before=SLOW)
    wait_for("the worker", lambda: b" ready." in log.read_bytes())
    send = "from molts.celery import app; app.send_task('slow')"
    subprocess.run([sys.executable, "-c", send], cwd=ROOT, env=psutil.Process(jobs.pid).environ(), check=True)
    wait_for("the job", lambda: b"slow began" in log.read_bytes())
    jobs.send_signal(signal.SIGTERM)

    assert jobs.wait(60) == 0, log.read_text()
    assert b"slow done" in log.read_bytes()
    assert b"cleared up" not in log.read_bytes()
