"""What a whole copy costs while nobody talks: processor time of every process below one `up`, and their memory.

The servers that are not ours (Redis, the media server) stand in the same table: they are the floor.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.molts.test_up import WHISPER, RunningUp, running_up

SETTLE_SECONDS = float(os.environ.get("BENCH_SETTLE_SECONDS", "30"))
MEASURE_SECONDS = float(os.environ.get("BENCH_MEASURE_SECONDS", "60"))
LIMIT_PERCENT = 5.0
FOREIGN = ("redis", "media")
PARTS = {
    "redis": "redis-server",
    "media": "livekit-server",
    "web": "uvicorn",
    "jobs": "molts worker",
    "clock": "molts beat",
    "agent": "run_agent",
    "guardian": "guardian.py",
}


@dataclass(frozen=True)
class Use:
    """Processor time in seconds and memory in bytes (PSS: shared pages counted once), children included."""

    seconds: float
    memory: int


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_a_whole_copy_takes_under_five_percent_of_one_core_at_rest(tmp_path: Path) -> None:
    with running_up(tmp_path, MOLTS_WHISPER_MODEL=str(WHISPER)) as up:
        up.wait_for("^molts is ready", seconds=180)
        time.sleep(SETTLE_SECONDS)
        before, started = measure(up), time.monotonic()
        time.sleep(MEASURE_SECONDS)
        after, seconds = measure(up), time.monotonic() - started
        up.stop()

    percents = {name: (after[name].seconds - before[name].seconds) / seconds * 100 for name in after}
    total = sum(percents.values())
    print(f"\nat rest, {seconds:.0f} s, percent of one core (PSS in MB):")
    for name, percent in percents.items():
        print(f"  {name:<9} {percent:6.2f}  {after[name].memory / 1e6:7.1f}")
    floor = sum(percents[name] for name in FOREIGN)
    print(f"  {'all':<9} {total:6.2f}  {sum(use.memory for use in after.values()) / 1e6:7.1f}")
    print(f"  of which servers that are not ours: {floor:.2f}")
    assert total < LIMIT_PERCENT


def measure(up: RunningUp) -> dict[str, Use]:
    found = {"up": use_of([psutil.Process(up.process.pid)])}
    for name, word in PARTS.items():
        part = up.part(word)
        found[name] = use_of([part, *part.children(recursive=True)])
    return found


def use_of(processes: list[psutil.Process]) -> Use:
    seconds, memory = 0.0, 0
    for process in processes:
        try:
            times = process.cpu_times()
            # Children that have ended are in their parent's account.
            seconds += times.user + times.system + times.children_user + times.children_system
            memory += process.memory_full_info().pss
        except psutil.Error:
            continue
    return Use(seconds, memory)
