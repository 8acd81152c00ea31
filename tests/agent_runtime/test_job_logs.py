"""What a job logs says whether something is wrong, and what it spares itself."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys

import pytest

from agent_runtime.job_logs import NATIVE_LOG, calm


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


@pytest.mark.parametrize(
    ("message", "is_let_through"),
    [
        ("publisher data channel '_reliable' closed unexpectedly", False),
        ("publisher data channel '_reliable' closed unexpectedly: no route", True),
        ("ended unexpectedly", True),
        ("signal client closed: it hung", True),
        ("", False),
    ],
)
def test_the_media_library_leaves_out_that_line_alone(message: str, is_let_through: bool) -> None:
    level, _, expression = NATIVE_LOG.partition("/")
    assert level == "warn"
    assert "/" not in expression
    assert bool(re.search(expression, message)) is is_let_through


# In a process of its own: the library is told for good.
PROGRAM = """
import asyncio, logging
from livekit import rtc
from livekit.rtc import _ffi_client
from agent_runtime.job_logs import log_media_natively

async def records():
    handed = []
    known = _ffi_client.to_python_level
    _ffi_client.to_python_level = lambda level: handed.append(level) or known(level)
    try:
        await asyncio.wait_for(rtc.Room().connect("ws://127.0.0.1:9", "no token"), 20)
    except rtc.ConnectError:
        return len(handed)

async def main():
    before = await records()
    log_media_natively()
    await asyncio.sleep(0.5)  # what was under way
    print(before, await records())

logging.disable()
asyncio.run(main())
"""


def test_the_media_library_keeps_its_log_from_python() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "RUST_LOG": "off"},
    )
    before, after = map(int, ran.stdout.split())
    assert before > 0, ran.stderr
    assert after == 0
