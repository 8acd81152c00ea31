"""Keeps one engine host running: a lock so that there is one, a restart with growing pauses, an end with its parent."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time

logger = logging.getLogger("molts_engine_adapter")

CHILD = "--supervised"
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
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


def keep_running(words: list[str], address: str, *, parent: int = 0) -> int:
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
    pause = FIRST_PAUSE
    while not stopping:
        started = time.monotonic()
        child = subprocess.Popen([sys.executable, "-m", __package__, *words, CHILD], stdin=subprocess.PIPE)
        while child.poll() is None and not stopping and not _gone(parent):
            time.sleep(LOOK_SECONDS)
        if child.poll() is None:
            _stop(child)
            return 0
        if child.returncode == 0:
            return 0
        pause = FIRST_PAUSE if time.monotonic() - started > GOOD_SECONDS else pause
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
