"""A folder for files that must not outlive their process, however that ends.

Each process has a folder of its own and holds a lock on it. The lock goes with the process, by `kill -9` too; whoever
starts next removes the folders that nobody holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

PREFIX = "molts-speech-"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new empty folder in the system's temporary folder; gone at the end of the block. Raises OSError."""
    _remove_abandoned()
    unfinished = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    held = os.open(unfinished, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        # It gets the name that others look for once it is locked, so none takes it for abandoned.
        folder = unfinished.rename(unfinished.with_name(unfinished.name[1:]))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(held)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, somebody else's, no folder, or gone meanwhile
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(held).st_uid == os.getuid():
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)
                    logger.info("removed uploads of a speech server that was killed")
            finally:
                os.close(held)
