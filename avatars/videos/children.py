"""The processes in which engines render: what they get of ours, and how much memory they hold."""

from __future__ import annotations

import os

import psutil

PROGRAMS = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
GRAPHICS = ("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "OMP_NUM_THREADS")


def child_environment() -> dict[str, str]:
    """Where programs are, and nothing that opens anything."""
    return {name: os.environ[name] for name in (*PROGRAMS, *GRAPHICS) if name in os.environ}


def memory_of(pid: int) -> int:
    """Bytes that a process holds of its own; 0 when it is gone. What it shares with others does not count: poses."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return int(memory.rss - getattr(memory, "shared", 0))
