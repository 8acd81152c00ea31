"""Keeps the log readable where nothing of ours failed: one line instead of a traceback, and no line without end."""

from __future__ import annotations

import logging

from molts.redact import hide_secrets

LONGEST_ADDRESS = 300  # letters; strangers choose how long theirs are


class ShortRefusals(logging.Filter):
    """Requests that were refused (Django notes some as errors, with a traceback), and a database that is away."""

    def filter(self, record: logging.LogRecord) -> bool:
        from molts.database import unavailable  # settings, which name this class, come before Django's database

        error = record.exc_info[1] if record.exc_info else None
        status = getattr(record, "status_code", 500)
        if status < 500:
            record.exc_info = record.exc_text = None
            if isinstance(record.args, tuple):
                record.args = tuple(shortened(each) if isinstance(each, str) else each for each in record.args)
            if record.levelno > logging.WARNING:
                record.levelno, record.levelname = logging.WARNING, "WARNING"
        elif trouble := unavailable(error):
            record.msg, record.args = f"{record.getMessage()}: {trouble.trouble}. {trouble.fix}.", None
            record.exc_info = record.exc_text = None
        return True


class PlainAccess(logging.Filter):
    """For the web server's log of requests: paths without what was asked for, in which names and words may stand.

    It is the logger's filter, not a handler's: the server's own format wants the parts of a line, each in its place.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple) and len(record.args) > 2:
            client, method, address, *rest = record.args
            record.args = (client, method, shortened(hide_secrets(str(address).partition("?")[0])), *rest)
        return True


def shortened(address: str) -> str:
    return address if len(address) <= LONGEST_ADDRESS else f"{address[:LONGEST_ADDRESS]}…"
