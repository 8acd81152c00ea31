"""A database that cannot be written: 503 at every door, reading goes on, and operators are told what to mend."""

from __future__ import annotations

import logging
import os
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import SuspiciousOperation
from django.db import DatabaseError, OperationalError, connection
from django.db.utils import DatabaseErrorWrapper
from django.test import Client

from avatars.models import Agent
from molts import asgi, doctor
from molts.database import DatabaseUnavailable, check_writable, unavailable, unwritable, waiting_at_most
from molts.doctor_checks.findings import Level
from molts.management.commands.up import CannotStart, database_trouble, migrate
from molts.refusals import ShortRefusals
from molts.supervisor.console import Console
from projects.models import ApiKey
from sessions.models import LiveSession, RoomLink
from tests.api import by_key, error_of
from tests.forms import admin_url
from tests.sessions.factories import make_session
from tests.sessions.test_consumers import visitor_cookie

SignIn = Callable[[User], Client]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("live_servers")]


# -- Ways in which it cannot be written -------------------------------------------------------------------------------
@contextmanager
def read_only() -> Iterator[None]:
    """SQLite's own refusal, as of a file that may not be written; files cannot be closed to root, who runs tests."""
    with pragma("query_only", 1, 0):
        yield


@contextmanager
def full() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")  # no free page is left
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
    with pragma("max_page_count", pages, 1_000_000_000):
        yield


@contextmanager
def locked() -> Iterator[None]:
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pragma("busy_timeout", 50, 4000):
            yield
        other.execute("ROLLBACK")


@contextmanager
def pragma(name: str, value: int, after: int) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {name} = {value}")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA {name} = {after}")


WAYS = [read_only, locked]
way = pytest.mark.parametrize("cannot_write", WAYS, ids=lambda each: each.__name__)


# -- Doors ------------------------------------------------------------------------------------------------------------
@way
def test_who_wants_to_write_is_told_to_come_again(
    cannot_write: Any, api_key: tuple[ApiKey, str], agent: Agent, link: RoomLink, bob: User, sign_in: SignIn
) -> None:
    key, member, visitor = by_key(api_key[1]), sign_in(bob), Client(raise_request_exception=False)
    member.raise_request_exception = False
    session = make_session(agent)
    with cannot_write():
        answers = [
            key.post("sessions", {"agent": "ada"}),
            key.post("token", {"room_config": {"agents": [{"agent_name": "ada"}]}}, Idempotency_Key="k"),
            key.post(f"sessions/{session.pk}/end"),
            visitor.post(f"/r/{link.public_id}/start", {}, "application/json"),
        ]
        pages = [
            member.post(admin_url(Agent, "duplicate", agent.pk)),
            visitor.post("/admin/login/", {"username": "bob", "password": "x"}),
        ]

    for answer in answers:
        assert answer.status_code == 503, answer.content
        assert answer["Retry-After"]
        assert error_of(answer)["code"] == "unavailable"
        assert str(connection.settings_dict["NAME"]) not in answer.content.decode()
    assert pages[0].status_code == 503
    assert pages[0]["Retry-After"]
    assert "Something went wrong" in pages[0].content.decode()
    assert pages[1].status_code == 200, "a wrong password is no write"
    assert LiveSession.objects.count() == 1


@way
def test_reading_goes_on(
    cannot_write: Any, api_key: tuple[ApiKey, str], agent: Agent, link: RoomLink, bob: User, sign_in: SignIn
) -> None:
    """Also the first request of a key, whose use is otherwise noted."""
    key, member, session = by_key(api_key[1]), sign_in(bob), make_session(agent)
    with cannot_write():
        for path in ("sessions", f"sessions/{session.pk}", f"sessions/{session.pk}/transcript", "agents"):
            assert key.get(path).status_code == 200, path
        for url in ("/", f"/r/{link.public_id}", "/check", "/healthz", "/admin/", admin_url(Agent, "changelist")):
            assert member.get(url).status_code == 200, url
        assert member.get(admin_url(Agent, "change", agent.pk)).status_code == 200
        assert member.get(admin_url(LiveSession, "change", session.pk)).status_code == 200

    assert key.get("sessions").status_code == 200
    api_key[0].refresh_from_db()
    assert api_key[0].last_used_at is not None, "noted as soon as it can be"


def test_the_use_of_a_key_is_noted_without_waiting(api_key: tuple[ApiKey, str]) -> None:
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pragma("busy_timeout", 600_000, 4000):  # it would wait for ten minutes
            assert by_key(api_key[1]).get("agents").status_code == 200
            assert connection.cursor().execute("PRAGMA busy_timeout").fetchone()[0] == 600_000
        other.execute("ROLLBACK")


def test_web_requests_wait_for_other_writers_for_seconds_only() -> None:
    assert asgi.application is not None
    connection.close()
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA busy_timeout").fetchone()[0] == 4000


async def test_a_socket_without_its_database_is_closed_to_come_again(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await sync_to_async(make_session)(agent)

    def away(*args: Any) -> None:
        raise OperationalError("disk I/O error")

    monkeypatch.setattr("sessions.consumers._read", away)
    headers = [(b"cookie", visitor_cookie(session).encode()), (b"host", b"127.0.0.1:8000")]
    headers.append((b"origin", b"http://127.0.0.1:8000"))
    socket = WebsocketCommunicator(asgi.application, f"/ws/sessions/{session.pk}/", headers=headers)
    assert (await socket.connect(timeout=60))[0]
    assert (await socket.receive_output(60))["code"] == 1013
    await socket.wait()


# -- Operators --------------------------------------------------------------------------------------------------------
@way
def test_readyz_and_doctor_name_it(cannot_write: Any, client: Client) -> None:
    said = {read_only: "attempt to write a readonly database", locked: "database is locked"}[cannot_write]
    with cannot_write():
        answer = client.get("/readyz")
        row = doctor.check_database()

    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert answer.json()["checks"]["database"] == said
    assert row.level == Level.FAILED
    assert said in row.text
    assert row.fix
    assert client.get("/readyz").json()["checks"]["database"] == "ok"
    assert doctor.check_database().level == Level.OK


@way
def test_up_does_not_start_on_it(cannot_write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molts.management.commands.up.connections.close_all", lambda: None)
    with cannot_write(), pytest.raises(CannotStart, match=r"the database does not work \((attempt|database is locked)"):
        migrate(Console(open(os.devnull, "w")))  # noqa: SIM115


def test_a_full_disk_is_told(agent: Agent) -> None:
    links = [RoomLink(project=agent.project, agent=agent, name=f"{number} {'x' * 90}") for number in range(1000)]
    with full(), pytest.raises(OperationalError) as error:
        RoomLink.objects.bulk_create(links)

    told = unavailable(error.value)
    assert told is not None
    assert (told.trouble, told.fix[:22]) == ("database or disk is full", "Make room on the disk ")


def test_a_disk_that_takes_nothing_more_is_found_by_asking() -> None:
    """As the system says it, for a file that may not grow."""
    check_writable()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        with pytest.raises(DatabaseUnavailable) as error:
            check_writable()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.fix
    check_writable()


def test_asking_changes_nothing() -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA user_version = 7")
        check_writable()
        assert cursor.execute("PRAGMA user_version").fetchone()[0] == 7
        cursor.execute("PRAGMA user_version = 0")


def test_the_hint_names_each_file_that_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside the database that another user's run left is enough to make it read-only."""
    path = tmp_path / "molts.sqlite3"
    for ending in ("", "-wal", "-shm"):
        path.with_name(f"molts.sqlite3{ending}").touch()
    closed = {path.with_name("molts.sqlite3-shm")}
    monkeypatch.setattr("os.access", lambda each, mode: Path(each) not in closed)
    monkeypatch.setitem(connection.settings_dict, "NAME", str(path))

    assert unwritable(path) == [path.with_name("molts.sqlite3-shm")]
    told = unavailable(sqlite_error("SQLITE_READONLY_CANTINIT"))
    assert told is not None
    assert told.fix == f"Let the user that runs molts write {path}-shm"
    closed.add(tmp_path)
    assert [each.name for each in unwritable(path)] == ["molts.sqlite3-shm", tmp_path.name]
    assert f"{path}-shm and {tmp_path}" in database_trouble(sqlite_error("SQLITE_CANTOPEN"))


def sqlite_error(name: str) -> DatabaseError:
    cause = sqlite3.OperationalError("unable to open database file")
    cause.sqlite_errorname = name
    error = OperationalError(*cause.args)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        *(("SQLITE_READONLY", True), ("SQLITE_READONLY_DIRECTORY", True), ("SQLITE_BUSY_SNAPSHOT", True)),
        *(("SQLITE_IOERR_WRITE", True), ("SQLITE_FULL", True), ("SQLITE_ERROR", False), ("SQLITE_MISMATCH", False)),
    ],
)
def test_only_what_passes_is_a_503(name: str, passes: bool) -> None:
    assert (unavailable(sqlite_error(name)) is not None) is passes


@pytest.mark.parametrize(
    ("cause", "passes"),
    [
        (psycopg.errors.ReadOnlySqlTransaction, True),
        (psycopg.errors.DiskFull, True),
        (psycopg.errors.TooManyConnections, True),
        (psycopg.errors.AdminShutdown, True),
        (psycopg.errors.ConnectionFailure, True),
        (psycopg.OperationalError, True),
        (psycopg.errors.UndefinedTable, False),
        (psycopg.errors.UniqueViolation, False),
        (psycopg.errors.InvalidTextRepresentation, False),
    ],
)
def test_postgresql_says_it_by_its_codes(cause: type[psycopg.Error], passes: bool) -> None:
    wrapped: Any = DatabaseErrorWrapper(type("Postgres", (), {"Database": psycopg, "errors_occurred": False})())
    with pytest.raises(DatabaseError) as error, wrapped:
        raise cause("words of the server")

    assert (unavailable(error.value) is not None) is passes


def test_what_is_no_error_of_the_database_is_none() -> None:
    assert unavailable(None) is None
    assert unavailable(ValueError("x")) is None


def test_waiting_less_ends_with_its_block() -> None:
    with connection.cursor() as cursor:
        before = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        with waiting_at_most(1.5):
            assert cursor.execute("PRAGMA busy_timeout").fetchone()[0] == 1500
        assert cursor.execute("PRAGMA busy_timeout").fetchone()[0] == before


# -- The log ----------------------------------------------------------------------------------------------------------
def record_of(error: Exception, **extra: Any) -> logging.LogRecord:
    record = logging.makeLogRecord({"levelno": logging.ERROR, "levelname": "ERROR", "msg": "refused", **extra})
    record.exc_info = (type(error), error, None)
    assert ShortRefusals().filter(record)
    return record


def test_a_refusal_is_one_line_that_is_no_error() -> None:
    record = record_of(
        SuspiciousOperation("a lookup"), name="django.security.DisallowedModelAdminLookup", status_code=400
    )

    assert (record.exc_info, record.levelname) == (None, "WARNING")
    assert "\n" not in logging.Formatter().format(record)


def test_a_database_that_is_away_is_one_line_with_its_mend() -> None:
    record = record_of(sqlite_error("SQLITE_FULL"), status_code=503)

    assert (record.exc_info, record.levelname) == (None, "ERROR")
    assert "Make room" in logging.Formatter().format(record)


def test_an_error_of_ours_keeps_its_traceback() -> None:
    assert record_of(ValueError("ours"), status_code=500).exc_info is not None


def test_what_the_console_writes_of_a_refused_request_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    console = logging.Handler()
    lines: list[str] = []
    console.emit = lambda record: lines.append(logging.Formatter().format(record))  # type: ignore[method-assign]
    logs: dict[str, Any] = settings.LOGGING
    assert "short" in logs["handlers"]["console"]["filters"]
    console.addFilter(ShortRefusals())
    logging.getLogger().addHandler(console)
    try:
        Client(raise_request_exception=False).get("/", headers={"Host": "evil.example"})
        Client().generic("POST", "/language", b"x", "multipart/form-data; boundary=x; charset=hex")
    finally:
        logging.getLogger().removeHandler(console)
    assert lines
    assert not [line for line in lines if "Traceback" in line]
