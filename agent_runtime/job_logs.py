"""Logs of job processes."""

from __future__ import annotations

import logging

CLOSED = "closed unexpectedly"


def log_through_parent() -> None:
    """LiveKit sends a job's records to the worker, which prints them; printing them here too would double each line."""
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if type(handler) is not logging.StreamHandler]
    logging.getLogger("livekit").addFilter(calm)


def calm(record: logging.LogRecord) -> bool:
    """A filter that turns the errors of every ordinary end into information.

    The media server closes a room's data channels a moment before it says that the room is closed, and the client
    library cannot know then. Channels that break otherwise make it connect anew, which it logs as well.
    """
    if record.levelno == logging.ERROR and CLOSED in record.getMessage():
        record.levelno, record.levelname = logging.INFO, logging.getLevelName(logging.INFO)
    return True
