"""How much of the machine is ours: a container or a service may be given less than the kernel shows."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")


def usable_cores(root: Path = ROOT) -> int:
    """Processors that this process may keep busy, at least one."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(there, core_limit(root) or there)))


def core_limit(root: Path = ROOT) -> float | None:
    """The limit of our control group (cgroup v2, `cpu.max`) in processors; None where there is none."""
    with suppress(OSError, ValueError):
        quota, period = (_group(root) / "cpu.max").read_text().split()
        return int(quota) / int(period)  # "max" is no number
    return None


def seconds_used(root: Path = ROOT) -> float | None:
    """Processor time of all in our control group so far; None where it is not counted."""
    with suppress(OSError, ValueError, KeyError):
        counted = dict(line.split() for line in (_group(root) / "cpu.stat").read_text().splitlines())
        return int(counted["usage_usec"]) / 1e6
    return None


def _group(root: Path) -> Path:
    """Folder of our control group. Raises OSError or ValueError where there is none."""
    lines = (root / "proc/self/cgroup").read_text().splitlines()
    ours = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if ours is None:
        raise ValueError("no control group of version 2")
    return root / "sys/fs/cgroup" / ours.strip("/")
