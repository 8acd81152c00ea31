"""A database that cannot be written or reached: how that is told from errors of ours, and how it is asked.

It passes by itself or is mended by the operator, so whoever asks is told to come again (503), and the operator what to
mend: a file that is read-only, a full disk, another program that keeps it locked, a server that is away or read-only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import DatabaseError, InterfaceError, OperationalError, connection

from molts.errors import Unavailable

# SQLite's names of errors, without what follows the first word.
READ_ONLY, FULL, LOCKED, BROKEN = {"READONLY", "CANTOPEN", "PERM"}, {"FULL"}, {"BUSY", "LOCKED"}, {"IOERR"}
PASSING = READ_ONLY | FULL | LOCKED | BROKEN
# PostgreSQL's: a transaction that may only read; classes: connection, resources (disk full), stopping.
PG_READ_ONLY, PG_PASSING = "25006", ("08", "53", "57P")
PROBE_SECONDS = 2.0


class DatabaseUnavailable(Unavailable):
    """`trouble` and `mend` are for operators."""

    def __init__(self, trouble: str, fix: str) -> None:
        super().__init__("The data cannot be written at the moment. Try again in a moment.")
        self.trouble = trouble
        self.fix = fix


def unavailable(error: BaseException | None) -> DatabaseUnavailable | None:
    """What is wrong with the database, when that is what `error` says; None for errors of ours."""
    if isinstance(error, DatabaseUnavailable):
        return error
    if not isinstance(error, DatabaseError | InterfaceError):
        return None
    trouble = " ".join(str(error).split())[:160] or type(error).__name__
    kind = _sqlite_kind(error)
    if kind is not None:
        return DatabaseUnavailable(trouble, _sqlite_fix(kind)) if kind in PASSING else None
    state = getattr(error.__cause__, "sqlstate", None)
    if state == PG_READ_ONLY:
        fix = "Let the server accept writes (default_transaction_read_only, or a standby), or check DATABASE_URL"
        return DatabaseUnavailable(trouble, fix)
    passing = isinstance(error, OperationalError | InterfaceError) if state is None else state.startswith(PG_PASSING)
    fix = "Check DATABASE_URL, and that its server runs, lets us in and has room on its disk"
    return DatabaseUnavailable(trouble, fix) if passing else None


def check_writable() -> None:
    """Raises DatabaseUnavailable when nothing can be written. What it writes changes nothing."""
    try:
        with connection.cursor() as cursor:
            if connection.vendor != "sqlite":
                cursor.execute("SHOW transaction_read_only")
                if cursor.fetchone()[0] == "on":
                    raise DatabaseUnavailable("the server takes no writes", "Check DATABASE_URL: is it a standby?")
                return
        with waiting_at_most(PROBE_SECONDS), connection.cursor() as cursor:
            version = cursor.execute("PRAGMA user_version").fetchone()[0]
            cursor.execute(f"PRAGMA user_version = {int(version)}")  # written even when it is the same
    except (DatabaseError, InterfaceError) as error:
        raise unavailable(error) or DatabaseUnavailable(str(error), "Check DATABASE_URL") from error


@contextmanager
def waiting_at_most(seconds: float) -> Iterator[None]:
    """Waits less for other writers, where they exclude each other (SQLite)."""
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        usual = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {int(usual)}")


def _sqlite_kind(error: BaseException) -> str | None:
    """`READONLY` of SQLITE_READONLY_DIRECTORY; None when the error is another database's."""
    name = getattr(error.__cause__, "sqlite_errorname", None)
    return name.split("_")[1] if name else None


def _sqlite_fix(kind: str) -> str:
    path = Path(connection.settings_dict["NAME"])
    if kind in FULL:
        return f"Make room on the disk of {path.parent}"
    if kind in LOCKED:
        return f"Another program keeps {path} locked: end it, or wait until it is done"
    if closed := unwritable(path):
        return f"Let the user that runs molts write {' and '.join(str(each) for each in closed)}"
    return f"Check that {path.parent} is on a disk that can be written and has room"


def unwritable(path: Path) -> list[Path]:
    """Of a SQLite database's files and their folder, those that we may not write: one that another user's run left is
    enough."""
    beside = [path.with_name(f"{path.name}{ending}") for ending in ("", "-wal", "-shm", "-journal")]
    return [each for each in (*beside, path.parent) if each.exists() and not os.access(each, os.W_OK)]
