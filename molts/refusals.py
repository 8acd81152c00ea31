"""Keeps the log readable where nothing of ours failed: one line instead of a traceback."""

from __future__ import annotations

import logging


class ShortRefusals(logging.Filter):
    """Requests that were refused (Django notes some as errors, with a traceback), and a database that is away."""

    def filter(self, record: logging.LogRecord) -> bool:
        from molts.database import unavailable  # settings, which name this class, come before Django's database

        error = record.exc_info[1] if record.exc_info else None
        status = getattr(record, "status_code", 500)
        if status < 500:
            record.exc_info = record.exc_text = None
            if record.levelno > logging.WARNING:
                record.levelno, record.levelname = logging.WARNING, "WARNING"
        elif trouble := unavailable(error):
            record.msg, record.args = f"{record.getMessage()}: {trouble.trouble}. {trouble.mend}.", None
            record.exc_info = record.exc_text = None
        return True
