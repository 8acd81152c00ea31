"""Logs of job processes."""

from __future__ import annotations

import logging


def log_through_parent() -> None:
    """LiveKit sends a job's records to the worker, which prints them; printing them here too would double each line."""
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if type(handler) is not logging.StreamHandler]
