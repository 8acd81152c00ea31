"""What a check of `manage.py doctor` says: a finding, its level, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PATIENCE_SECONDS = 3.0
"""So long a check waits for the part that it asks."""
START_IT = "Start molts: make up"


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # works, but somebody should know
    FAILED = "failed"  # something required does not work


@dataclass(frozen=True)
class Finding:
    """What one check saw. `mend` says what to do about it, empty when nothing needs doing."""

    level: Level
    text: str
    fix: str = ""


def ok(text: str) -> Finding:
    return Finding(Level.OK, text)


def warning(text: str, fix: str) -> Finding:
    return Finding(Level.WARNING, text, fix)


def failed(text: str, fix: str) -> Finding:
    return Finding(Level.FAILED, text, fix)


def short(error: object) -> str:
    text = " ".join(str(error).split())
    return text[:160] or type(error).__name__
