"""Keeps one engine host running: a lock so that there is one, a restart with growing pauses, an end with its parent."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

logger = logging.getLogger("molts_engine_adapter")

CHILD = "--supervised"
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 300.0
GOOD_SECONDS = 60.0  # having run so long makes the next pause short again
STOP_SECONDS = 8.0
LOOK_SECONDS = 0.2


def end_with_input() -> None:
    """In the child: end at once when the supervisor's end of the pipe is gone, however it went."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    os._exit(0)


def lock_path(address: str) -> str:
    if address.startswith("unix:"):
        return address[5:] + ".lock"
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    return os.path.join(tempfile.gettempdir(), f"molts-engine-{os.getuid()}-{name}.lock")


class Crash:
    """A host that ended badly and is to be started again. `again_in`: seconds; `mark`: what it was started with."""

    def __init__(self, pid: int, mark: str, text: str, again_at: float) -> None:
        self.pid = pid
        self.mark = mark
        self.text = text
        self.again_in = again_at - time.time()


def last_crash(address: str) -> Crash | None:
    """What the supervisor of this address waits for; None when its host runs, or there is none."""
    try:
        with open(lock_path(address), encoding="utf-8") as lock:
            crash = Crash(**json.load(lock))
    except (OSError, ValueError, TypeError):
        return None
    return None if crash.again_in < 0 or _gone(crash.pid) else crash


def _note(lock: int, **crash: Any) -> None:
    """In the lock's file, for `last_crash`; without anything it is empty."""
    os.ftruncate(lock, 0)
    if crash:
        os.pwrite(lock, json.dumps(crash).encode(), 0)


def keep_running(words: list[str], address: str, *, parent: int = 0, mark: str = "") -> int:
    """Run `python -m molts_engine_adapter WORDS` until it ends well, we are told to stop, or process `parent` ends.
    Returns at once when another supervisor serves this address."""
    lock = os.open(lock_path(address), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        logger.info("another one serves %s already", address)
        os.close(lock)
        return 0
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: stopping.append(number))
    pause, crashes = FIRST_PAUSE, 0
    while not stopping:
        _note(lock)
        started = time.monotonic()
        child = subprocess.Popen([sys.executable, "-m", __package__, *words, CHILD], stdin=subprocess.PIPE)
        while child.poll() is None and not stopping and not _gone(parent):
            time.sleep(LOOK_SECONDS)
        if child.poll() is None:
            _stop(child)
            return 0
        if child.returncode == 0:
            return 0
        if time.monotonic() - started > GOOD_SECONDS:
            pause, crashes = FIRST_PAUSE, 0
        crashes += 1
        text = f"its host ended {crashes} times in a row ({child.returncode})"
        _note(lock, pid=os.getpid(), mark=mark, text=text, again_at=time.time() + pause)
        logger.error("the engine host ended (%s); starting it anew in %.1f s", child.returncode, pause)
        until = time.monotonic() + pause
        while time.monotonic() < until and not stopping and not _gone(parent):
            time.sleep(LOOK_SECONDS)
        if _gone(parent):
            return 0
        pause = min(LONGEST_PAUSE, 2 * pause)
    return 0


def _gone(parent: int) -> bool:
    if not parent:
        return False
    try:
        os.kill(parent, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait(STOP_SECONDS)
