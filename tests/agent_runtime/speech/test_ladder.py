"""When the model's size changes, and how: the policy on a made-up clock, the change on an engine that can fail."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pytest_django import Settings

from agent_runtime.speech.ladder import (
    PATIENCE_AT_MOST,
    RETRY_SECONDS,
    Ladder,
    LadderPolicy,
    LadderSettings,
    Load,
    Processor,
    parse_gpu,
)
from molts.errors import BadConfiguration

SETTINGS = LadderSettings(rungs=("tiny", "base", "small"), seconds=20)
BUSY, FREE, MIDDLING = Load(0.95), Load(0.1), Load(0.65)


class Walk:
    """A policy and its clock. Time passes in steps of two seconds."""

    def __init__(self, **options: object) -> None:
        self.policy = LadderPolicy(SETTINGS, **{"home": "small", **options})  # type: ignore[arg-type]
        self.now = 1000.0

    def go(self, load: Load, seconds: float) -> list[str]:
        """Names of the models changed to meanwhile."""
        changes = []
        until = self.now + seconds
        while self.now < until:
            self.now += 2
            name = self.policy.sample(self.now, load)
            if name is not None:
                self.policy.moved(self.now, name)
                changes.append(name)
        return changes


def test_it_goes_down_a_size_at_a_time_and_stays_at_the_last() -> None:
    walk = Walk()

    assert walk.go(BUSY, 20) == []
    assert walk.go(BUSY, 4) == ["base"]
    assert walk.go(BUSY, 200) == ["tiny"]


def test_it_comes_back_later_than_it_went_and_never_beyond_the_chosen_model() -> None:
    walk = Walk(home="base")
    walk.go(BUSY, 30)

    assert walk.go(FREE, 60) == []
    assert walk.go(FREE, 4) == ["base"]
    assert walk.go(FREE, 1000) == []


def test_between_the_bounds_nothing_changes() -> None:
    walk = Walk()
    walk.go(BUSY, 30)

    assert walk.go(MIDDLING, 1000) == []


def test_every_break_starts_the_time_anew() -> None:
    walk = Walk()

    for _ in range(20):
        assert walk.go(BUSY, 18) == []
        assert walk.go(MIDDLING, 2) == []


def test_the_bounds_themselves_are_inside() -> None:
    walk = Walk()
    assert walk.go(Load(0.8), 100) == []
    walk.go(BUSY, 30)
    assert walk.go(Load(0.5), 500) == []


def test_short_memory_counts_whatever_the_load() -> None:
    walk = Walk()

    assert walk.go(Load(0.0, memory_short=True), 30) == ["base"]
    assert walk.go(Load(0.0, memory_short=True), 30) == ["tiny"]


def test_it_does_not_swing_between_two_sizes() -> None:
    """A load that only the smaller model can bear: the larger one is tried less and less often."""
    walk = Walk(home="base")
    changes = []
    for _ in range(3600 * 2):
        changes += walk.go(BUSY if walk.policy.current == "base" else FREE, 2)

    assert walk.policy.up_seconds == SETTINGS.seconds * 3 * PATIENCE_AT_MOST
    assert len(changes) < 4 * 3600 / walk.policy.up_seconds * 2 + 12
    walk.go(FREE, 1000)
    assert walk.policy.current == "base"
    walk.go(MIDDLING, 3600)
    walk.go(BUSY, 60)
    assert walk.policy.up_seconds == SETTINGS.seconds * 3, "an hour on the larger one: it can bear it after all"


def test_models_that_are_not_here_are_no_rungs() -> None:
    walk = Walk(has=lambda name: name != "base")

    assert walk.go(BUSY, 100) == ["tiny"]


def test_the_chosen_model_is_used_once_it_has_come() -> None:
    here = {"tiny"}
    walk = Walk(has=lambda name: name in here)
    assert walk.policy.here == ["tiny"]
    walk.policy.current = "tiny"

    assert walk.go(MIDDLING, 100) == []
    here.add("small")
    assert walk.go(MIDDLING, 10) == ["small"]


def test_a_model_that_cannot_be_loaded_is_left_alone_for_a_while() -> None:
    walk = Walk()
    walk.policy.failed(walk.now, "base")

    assert walk.go(BUSY, 100) == ["tiny"]
    assert walk.go(FREE, 100) == ["small"]
    walk.now += RETRY_SECONDS
    assert walk.go(BUSY, 100)[0] == "base"


def test_a_model_off_the_ladder_never_changes() -> None:
    walk = Walk(home="/srv/our-whisper")

    assert walk.go(BUSY, 1000) == []
    assert walk.policy.current == "/srv/our-whisper"


class StandInEngine:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.broken: set[str] = set()

    async def load(self, name: str) -> None:
        if name in self.broken:
            raise BadConfiguration(f"{name} is broken")
        self.done.append(f"load {name}")

    def use(self, name: str) -> None:
        self.done.append(f"use {name}")

    def drop(self, name: str) -> None:
        self.done.append(f"drop {name}")


class Machine:
    """A load and a clock."""

    def __init__(self) -> None:
        self.load = BUSY
        self.now = 0.0

    def ladder(self, engine: StandInEngine) -> Ladder:
        policy = LadderPolicy(SETTINGS, home="small")
        return Ladder(engine, policy, read_load=lambda: self.load, clock=lambda: self.now)

    async def watch(self, ladder: Ladder, seconds: float) -> None:
        for _ in range(int(seconds / 2)):
            self.now += 2
            await ladder.look()


async def test_a_model_is_loaded_before_it_is_used_and_the_old_one_dropped_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine, machine = StandInEngine(), Machine()
    ladder = machine.ladder(engine)

    await machine.watch(ladder, 24)

    assert engine.done == ["load base", "use base", "drop small"]
    state = ladder.state()
    assert (state["current"], state["home"], state["moves"], state["reason"]) == ("base", "small", 1, "load 95%")
    assert state["below"] == 1
    assert "from small to base: load 95%" in caplog.text
    machine.load = FREE
    await machine.watch(ladder, 100)
    assert engine.done[3:] == ["load small", "use small", "drop base"]
    assert (ladder.state()["reason"], ladder.state()["below"]) == ("", 0)


async def test_a_short_peak_is_smoothed_away() -> None:
    engine, machine = StandInEngine(), Machine()
    ladder = machine.ladder(engine)
    machine.load = Load(0.7)
    await machine.watch(ladder, 20)
    for _ in range(30):
        machine.load = Load(1.0)
        await machine.watch(ladder, 2)
        machine.load = Load(0.6)
        await machine.watch(ladder, 4)

    assert engine.done == []


async def test_a_model_that_fails_changes_nothing_and_the_next_is_tried() -> None:
    engine, machine = StandInEngine(), Machine()
    engine.broken = {"base"}
    ladder = machine.ladder(engine)

    await machine.watch(ladder, 22)
    assert (engine.done, ladder.state()["error"]) == ([], "base is broken")
    await machine.watch(ladder, 4)
    assert engine.done == ["load tiny", "use tiny", "drop small"]


async def test_out_of_memory_falls_at_once_until_there_is_nothing_smaller() -> None:
    engine, machine = StandInEngine(), Machine()
    ladder = machine.ladder(engine)

    assert await ladder.fall("out of GPU memory")
    assert ladder.state()["reason"] == "out of GPU memory"
    assert await ladder.fall("out of GPU memory")
    assert not await ladder.fall("out of GPU memory")
    assert ladder.state()["current"] == "tiny"


async def test_it_falls_past_a_size_that_cannot_be_loaded() -> None:
    engine, machine = StandInEngine(), Machine()
    engine.broken = {"base"}
    ladder = machine.ladder(engine)

    assert await ladder.fall("out of GPU memory")
    assert ladder.state()["current"] == "tiny"


async def test_its_loop_outlives_a_load_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_runtime.speech.ladder.LOOK_SECONDS", 0.001)
    looks = []

    def read() -> Load:
        looks.append(1)
        raise OSError("no such counter")

    ladder = Ladder(StandInEngine(), LadderPolicy(SETTINGS, home="small"), read_load=read)
    running = asyncio.create_task(ladder.run())
    async with asyncio.timeout(5):
        while len(looks) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    running.cancel()


@pytest.mark.parametrize(
    ("told", "load"),
    [
        ("37, 20100, 24564\n", Load(0.37)),
        ("10, 900, 24564\n95, 20000, 24564\n", Load(0.95, memory_short=True)),
        ("[N/A], [N/A], [N/A]\n", Load(0.0)),
        ("", Load(0.0)),
    ],
)
def test_it_reads_what_nvidia_smi_tells(told: str, load: Load) -> None:
    assert parse_gpu(told) == load


def test_it_reads_the_processor() -> None:
    read = Processor()
    assert 0 <= read().busy <= 1


def test_in_a_container_its_own_limit_counts(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (group / "cpu.max").write_text("1000 100000\n")
    (group / "cpu.stat").write_text("usage_usec 0\n")
    read = Processor(tmp_path)
    (group / "cpu.stat").write_text("usage_usec 60000000\n")

    assert read().busy == 1.0


def test_its_settings_come_from_the_environment(settings: Settings) -> None:
    settings.MOLTS_SPEECH_LADDER, settings.MOLTS_SPEECH_LOAD_HIGH = ["tiny", "small"], 90

    assert LadderSettings.from_settings() == LadderSettings(("tiny", "small"), high=0.9, low=0.5, seconds=20)
