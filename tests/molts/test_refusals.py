"""What the log keeps of requests: neither what somebody searched for, nor addresses without end."""

from __future__ import annotations

import logging

from uvicorn.logging import AccessFormatter

from molts.redact import SecretFilter, remember_secret
from molts.refusals import LONGEST_ADDRESS, PlainAccess, ShortRefusals

ACCESS = '%(client_addr)s - "%(request_line)s" %(status_code)s'


def access_line(address: str) -> str:
    """What the web server writes of a request for `address`."""
    args = ("127.0.0.1:5", "GET", address, "1.1", 200)
    record = logging.makeLogRecord({"name": "uvicorn.access", "msg": '%s - "%s %s HTTP/%s" %d', "args": args})
    assert PlainAccess().filter(record)
    assert SecretFilter().filter(record)
    return AccessFormatter(ACCESS, use_colors=False).format(record)


def test_the_log_of_requests_keeps_no_name_that_was_searched_for() -> None:
    assert access_line("/admin/live_sessions/livesession/?q=Ms+Smith") == (
        '127.0.0.1:5 - "GET /admin/live_sessions/livesession/ HTTP/1.1" 200 OK'
    )


def test_a_secret_in_an_address_is_hidden_and_the_line_is_written() -> None:
    remember_secret("correct-horse-battery")
    line = access_line("/x/correct-horse-battery/?key=correct-horse-battery")
    assert "correct-horse" not in line
    assert line.endswith(' HTTP/1.1" 200 OK')


def test_a_long_address_is_cut() -> None:
    assert len(access_line("/" + "a" * 30_000)) < LONGEST_ADDRESS + 100
    args = ("/" + "a" * 30_000,)
    record = logging.LogRecord("django.request", logging.WARNING, "", 0, "Not Found: %s", args, None)
    record.status_code = 404
    assert ShortRefusals().filter(record)
    assert len(record.getMessage()) < LONGEST_ADDRESS + 100


def test_the_web_server_logs_by_it() -> None:
    assert any(isinstance(each, PlainAccess) for each in logging.getLogger("uvicorn.access").filters)
