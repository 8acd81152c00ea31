"""Signs of life: every part gives them, and what is silent is found out, whichever way it hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from pytest_django import Settings

from molts.celery import Clock, WorkerLife, app
from molts.life import SignOfLife, life_file
from molts.redact import Redactor
from molts.supervisor.names import CLOCK, JOBS, MEDIA, PART_NAMES, REDIS, RENDER
from molts.supervisor.process import Supervisor
from molts.supervisor.signs import Touched
from molts.supervisor.stack import Stack
from tests.molts.test_supervisor import Witness, given, make_stack, part_of, until


@pytest.fixture
def data_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.MOLTS_DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def life(data_dir: Path) -> Iterator[SignOfLife]:
    """One that calls itself hung after half a second."""
    with SignOfLife("agent", hung_seconds=0.5, touch_seconds=0.02) as life:
        yield life


def wait_until(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


# -- in the process ----------------------------------------------------------------------------------------------------
def test_the_file_is_touched_while_the_loop_comes_round_and_is_gone_with_the_process(data_dir: Path) -> None:
    file = life_file(data_dir, "agent", os.getpid())
    with SignOfLife("agent", hung_seconds=60, touch_seconds=0.02):
        wait_until(file.exists)
        first = file.stat().st_mtime_ns
        wait_until(lambda: file.stat().st_mtime_ns > first)
    assert not file.exists()


def test_a_loop_that_does_not_come_round_is_not_shown_as_alive_until_it_does(life: SignOfLife, data_dir: Path) -> None:
    file = life_file(data_dir, "agent", os.getpid())
    wait_until(lambda: life.is_hung)
    last = file.stat().st_mtime_ns

    life.came_round()

    wait_until(lambda: file.stat().st_mtime_ns > last)


def test_a_folder_that_was_removed_costs_no_sign_of_life(life: SignOfLife, data_dir: Path) -> None:
    file = life_file(data_dir, "agent", os.getpid())
    wait_until(file.exists)
    file.unlink()
    file.parent.rmdir()

    life.came_round()

    wait_until(file.exists)


def test_a_worker_whose_threads_are_all_stuck_is_hung(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loop still runs: what goes the way of a task shows that none gets done."""
    sent: list[Callable[[], object]] = []

    class Pool:
        def apply_async(self, target: Callable[[], object]) -> None:
            sent.append(target)

    step = WorkerLife(None)
    step._life = SignOfLife("jobs", hung_seconds=0.05)
    for _ in range(5):
        step._send_round(Pool())

    assert len(sent) == 1, "a stuck pool gets a queue of questions"
    wait_until(lambda: step._life is not None and step._life.is_hung)
    sent[0]()
    assert not step._life.is_hung
    step._send_round(Pool())
    assert len(sent) == 2


# -- from outside ------------------------------------------------------------------------------------------------------
async def test_a_file_that_was_not_touched_since_the_last_look_is_silence(data_dir: Path) -> None:
    file = life_file(data_dir, "clock", 7)
    file.parent.mkdir(parents=True)
    alive = Touched(data_dir, "clock")
    assert not await alive(7)

    file.touch()
    assert await alive(7)
    assert not await alive(7)

    os.utime(file, (0, 0))  # a clock that was set back is no silence
    assert await alive(7)


async def test_the_file_of_another_process_counts_for_nothing(data_dir: Path) -> None:
    file = life_file(data_dir, "agent", 7)
    file.parent.mkdir(parents=True)
    file.touch()

    assert not await Touched(data_dir, "agent")(8)


async def test_nobody_is_called_dead_for_waiting_for_a_redis_that_is_away(data_dir: Path) -> None:
    async def away() -> bool:
        return False

    async def there() -> bool:
        return True

    file = life_file(data_dir, "jobs", 7)
    file.parent.mkdir(parents=True)
    file.touch()
    waiting, stuck = Touched(data_dir, "jobs", needs=away), Touched(data_dir, "jobs", needs=there)

    assert [await waiting(7), await waiting(7)] == [True, True]
    assert [await stuck(7), await stuck(7)] == [True, False]


def test_every_part_is_asked_for_a_sign_of_life(tmp_path: Path) -> None:
    assert {part.name for part in make_stack(tmp_path).parts if part.alive is not None} == set(PART_NAMES)


# -- the real parts ----------------------------------------------------------------------------------------------------
@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[tuple[Supervisor, Witness]]:
    witness = Witness()
    supervisor = Supervisor(
        log_folder=tmp_path / "logs", redact=Redactor(), reporter=witness, first_delay=0.1, watch_seconds=0.2
    )
    yield supervisor, witness
    await supervisor.stop()


def is_replaced(supervisor: Supervisor, name: str, first: int) -> bool:
    return supervisor.pid(name) not in (None, first)


async def start_and_freeze(supervisor: Supervisor, stack: Stack, name: str) -> int:
    """Stops the process of this part as soon as the supervisor has had a sign of life of it."""
    part, lived = part_of(stack, name), asyncio.Event()
    alive = part.alive
    assert alive is not None

    async def noting(pid: int) -> bool:
        lives = await alive(pid)
        if lives:
            lived.set()
        return lives

    await supervisor.start(replace(part, alive=noting))
    await supervisor.wait_ready(name, deadline=90)
    async with asyncio.timeout(90):
        await lived.wait()
    pid = supervisor.pid(name)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    return pid


@pytest.mark.slow
async def test_servers_that_stand_still_are_replaced(keeper: tuple[Supervisor, Witness], tmp_path: Path) -> None:
    supervisor, witness = keeper
    stack = make_stack(tmp_path)
    for name in (REDIS, MEDIA):
        first = await start_and_freeze(supervisor, stack, name)
        await until(partial(is_replaced, supervisor, name, first), seconds=60)
        await until(partial(witness.said, name, "running again"), seconds=60)
        assert witness.said(name, "gives no sign of life") == 1


@pytest.mark.slow
async def test_processes_of_celery_that_stand_still_are_replaced(
    keeper: tuple[Supervisor, Witness], tmp_path: Path
) -> None:
    supervisor, witness = keeper
    stack = make_stack(tmp_path, given(DATABASE_URL=f"sqlite:///{tmp_path / 'molts.sqlite3'}"))
    migrate = await asyncio.create_subprocess_exec(*stack.command("migrate", "-v", "0"), env=part_of(stack, JOBS).env)
    assert await migrate.wait() == 0
    await supervisor.start(part_of(stack, REDIS))
    await supervisor.wait_ready(REDIS, deadline=60)
    # The web, and every part while somebody talks: make soak.
    for name in (JOBS, CLOCK, RENDER):
        first = await start_and_freeze(supervisor, stack, name)
        await until(partial(is_replaced, supervisor, name, first), seconds=60)
        second = supervisor.pid(name)
        assert second is not None
        await until(life_file(tmp_path, name, second).exists, seconds=90)
        assert not psutil.pid_exists(first)
        assert witness.said(name, "gives no sign of life") == 1


def test_the_clock_and_the_worker_are_those_that_show_their_life(tmp_path: Path) -> None:
    assert WorkerLife in app.steps["worker"]
    command = part_of(make_stack(tmp_path), CLOCK).command
    assert command[command.index("--scheduler") + 1] == f"{Clock.__module__}:{Clock.__name__}"
