"""What a job logs says whether something is wrong."""

from __future__ import annotations

import logging

import pytest

from agent_runtime.job_logs import calm


@pytest.mark.parametrize(
    ("message", "level"),
    [
        ("livekit::rtc_engine - publisher data channel '_reliable' closed unexpectedly", "INFO"),
        ("livekit::rtc_engine - signal client closed: it hung", "ERROR"),
    ],
)
def test_channels_that_close_with_their_room_are_no_error(message: str, level: str) -> None:
    record = logging.LogRecord("livekit", logging.ERROR, __file__, 1, "%s", (message,), None)
    assert calm(record)
    assert (record.levelname, record.levelno) == (level, getattr(logging, level))
    assert record.getMessage() == message
