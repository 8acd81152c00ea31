"""Logs of job processes."""

from __future__ import annotations

import logging
import os

from agent_runtime.livekit_private import keep_media_log_native
from molts.redact import guard_logs

logger = logging.getLogger(__name__)

CLOSED = "closed unexpectedly"
NATIVE_LOG = "warn/" + "|".join(f"[^{CLOSED[place]}]{CLOSED[place + 1 :]}$" for place in range(len(CLOSED)))
"""RUST_LOG: warnings and worse, but for what ends in CLOSED. Its regular expressions can only say what is let through:
whatever ends otherwise, be it in the last letter, in the last but one, and so on. None of them may hold a slash."""


def log_through_parent() -> None:
    """LiveKit sends a job's records to the worker, which prints them; printing them here too would double each line."""
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if type(handler) is not logging.StreamHandler]
    logging.getLogger("livekit").addFilter(calm)
    guard_logs()  # the worker, which prints, does not know the keys of this job


def calm(record: logging.LogRecord) -> bool:
    """A filter that turns the errors of every ordinary end into information.

    The media server closes a room's data channels a moment before it says that the room is closed, and the client
    library cannot know then. Channels that break otherwise make it connect anew, which it logs as well.
    """
    if record.levelno == logging.ERROR and CLOSED in record.getMessage():
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
    return True


def log_media_natively() -> None:
    """Have LiveKit's media library write its log to standard error itself: from warnings on, without the one of `calm`,
    or as RUST_LOG says.

    Left alone it hands every record to Python, those for debugging too, and Python drops nearly all: 185 a second while
    a face speaks, each from a thread that waits for the interpreter, for a tenth of the face's processor time. There is
    no setting for it, so the library is told anew what it was told when it was loaded. To be called before a room is
    connected.
    """
    os.environ.setdefault("RUST_LOG", NATIVE_LOG)  # read once, when the library is loaded
    if not keep_media_log_native():  # another version of it, which works as well
        logger.warning("the media library hands its log to Python, which costs processor time")
