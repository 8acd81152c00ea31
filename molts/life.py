"""Signs of life of our own processes, for whoever keeps them running on this machine.

A process touches a file of its own once a second, from a thread. It stops when the process stands still, and when what
it is there for does not come round any more: its event loop, its scheduler, its pool of threads. A file needs no server
that might be away, and no clock: whoever watches only asks whether it was touched since the last look.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from pathlib import Path

from django.conf import settings

logger = logging.getLogger(__name__)

TOUCH_SECONDS = 1.0


def life_folder(data_dir: Path) -> Path:
    return data_dir / "run" / "life"


def life_file(data_dir: Path, part: str, pid: int) -> Path:
    """Where the process `pid` of this part shows that it lives."""
    return life_folder(data_dir) / f"{part}-{pid}"


class SignOfLife:
    """Shows that this process works, for as long as somebody calls `came_round` at least every `hung_seconds`.

    Use it as a context: the file is there from the first line of the block to the last.
    """

    def __init__(self, part: str, *, hung_seconds: float, touch_seconds: float = TOUCH_SECONDS) -> None:
        self._file = life_file(settings.MOLTS_DATA_DIR, part, os.getpid())
        self._hung_seconds = hung_seconds
        self._touch_seconds = touch_seconds
        self._came_round_at = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sign-of-life", daemon=True)

    @property
    def is_hung(self) -> bool:
        return time.monotonic() - self._came_round_at > self._hung_seconds

    def came_round(self) -> None:
        """What this process is there for has just been done, or could have been."""
        self._came_round_at = time.monotonic()

    def start(self) -> None:
        self.came_round()
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)

    def __enter__(self) -> SignOfLife:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        told = False
        while not self._closing.is_set():
            if self.is_hung:
                if not told:
                    logger.error("nothing has come round for %.0f s", self._hung_seconds)
                told = True
            else:
                told = False
                self._touch()
            self._closing.wait(self._touch_seconds)

    def _touch(self) -> None:
        # A folder that somebody removed, a disk that is full: the next touch may succeed.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file.touch(mode=0o600)
