"""What providers were used for: counted once, deleted with its owner, and moved here with every row."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from avatars.models import Agent
from projects.usage.models import UsageRecord
from projects.usage.services import Usage, record_usage
from sessions import services
from sessions.models import LiveSession
from tests.avatars.test_old_database import ROOT, manage
from tests.projects.world import make_session


def used(quantity: int, source: str = "1:llm") -> Usage:
    return Usage(source, "llm", "scripted", "scripted", "tokens_in", Decimal(quantity))


@pytest.fixture
def session(agent: Agent) -> LiveSession:
    """A conversation with one record."""
    return make_session(agent)


def test_a_later_sum_of_a_source_replaces_the_earlier(session: LiveSession) -> None:
    for quantity in (10, 25):
        record_usage(owner=session, usage=used(quantity))

    kept = session.usage_records.get(source_id="1:llm")
    assert kept.quantity == 25
    assert (kept.owner, kept.project) == (session, session.project)


def test_each_owner_has_sums_of_its_own(session: LiveSession, agent: Agent) -> None:
    other = make_session(agent)
    record_usage(owner=session, usage=used(10))
    record_usage(owner=other, usage=used(7))

    assert session.usage_records.get(source_id="1:llm").quantity == 10
    assert other.usage_records.get(source_id="1:llm").quantity == 7


def test_records_end_at_the_projects_of_whoever_looks(session: LiveSession, alice: User, charlie: User) -> None:
    assert UsageRecord.objects.for_actor(alice).count() == 1
    assert UsageRecord.objects.for_actor(charlie).count() == 0


@pytest.mark.parametrize("whole", ["session", "agent", "project"])
def test_records_go_with_what_they_were_used_for(whole: str, session: LiveSession) -> None:
    {"session": session, "agent": session.agent, "project": session.project}[whole].delete()

    assert not UsageRecord.objects.exists()


def test_nothing_is_written_for_a_conversation_that_was_deleted(session: LiveSession) -> None:
    session_id = session.pk
    session.delete()

    with pytest.raises(LiveSession.DoesNotExist):
        services.record_session_usage(session_id=session_id, usage=used(10))
    assert not UsageRecord.objects.exists()


# -- The move ---------------------------------------------------------------------------------------------------------
COLUMNS = "id, source_id, kind, provider, model, unit, quantity, cost, currency, created_at"
ROWS = [
    (3, "1:tts", "tts", "espeak", "en-us", "characters", 42, None, "USD", "2026-11-01 10:00:00"),
    (7, "1:llm", "llm", "scripted", "", "tokens_in", 2.5, 0.25, "EUR", "2026-11-02 10:00:00"),
]


@pytest.mark.slow
def test_every_row_is_moved_and_back(tmp_path: Path) -> None:
    """From the table of conversations in a database of an earlier release, whose users may have to go back to it."""
    dump = (ROOT / "tests" / "fixtures" / "before_typed_snapshots.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "molts.sqlite3")) as database:
        database.executescript(dump)
        (session, project) = database.execute("SELECT id, project_id FROM live_sessions_livesession").fetchone()
        marks = ", ".join("?" * 11)
        insert = f"INSERT INTO live_sessions_usagerecord ({COLUMNS}, session_id) VALUES ({marks})"  # noqa: S608
        database.executemany(insert, [(*row, session) for row in ROWS])
        database.commit()

        manage(tmp_path, "migrate", "--no-input", "--skip-checks", "--verbosity", "0")

        moved = database.execute(f"SELECT {COLUMNS}, owner_id, project_id FROM usage_usagerecord ORDER BY id")  # noqa: S608
        assert moved.fetchall() == [(*row, session, project) for row in ROWS]
        owners = "SELECT model FROM django_content_type WHERE id IN (SELECT owner_type_id FROM usage_usagerecord)"
        assert database.execute(owners).fetchall() == [("livesession",)]

        manage(tmp_path, "migrate", "--skip-checks", "--verbosity", "0", "live_sessions", "0004")

        back = database.execute(f"SELECT {COLUMNS}, session_id FROM live_sessions_usagerecord ORDER BY id")  # noqa: S608
        assert back.fetchall() == [(*row, session) for row in ROWS]
        assert database.execute("SELECT id FROM usage_usagerecord").fetchall() == []
