"""What is drawn of a conversation: its lines and notices from when to when, and the figures of its turns."""

from __future__ import annotations

from datetime import timedelta

import pytest

from avatars.models import Agent
from sessions.models import LiveSession, Segment, SessionNotice, Turn
from sessions.timeline import Timeline, Wait, percentiles, timeline
from tests.sessions.factories import make_session


@pytest.fixture
def session(agent: Agent) -> LiveSession:
    """Over after 100 seconds."""
    session = make_session(agent, age_seconds=500, state="ended")
    session.ended_at = session.created_at + timedelta(seconds=100)
    return session


def line(seq: int, role: str, start: float, end: float, *, interrupted: bool = False) -> Segment:
    return Segment(
        seq=seq,
        segment_id=f"s{seq}",
        role=role,
        text=f"line {seq}",
        start_ms=round(start * 1000),
        end_ms=round(end * 1000),
        interrupted=interrupted,
    )


def picture(session: LiveSession, *lines: Segment, first: bool = True, last: bool = True) -> Timeline:
    return timeline(session=session, segments=lines, notices=list(session.notices.all()), first=first, last=last)


def test_it_goes_from_the_start_of_the_conversation_to_its_end(session: LiveSession) -> None:
    whole = picture(session, line(1, "agent", 10, 20), line(2, "user", 25, 50, interrupted=True))

    assert (whole.start_ms, whole.end_ms) == (0, 100_000)
    assert [(each.seq, each.role, each.start_ms, each.end_ms, each.interrupted) for each in whole.segments] == [
        (1, "agent", 10_000, 20_000, False),
        (2, "user", 25_000, 50_000, True),
    ]


def test_a_line_that_ends_after_the_conversation_is_in_it(session: LiveSession) -> None:
    assert picture(session, line(1, "user", 90, 101)).end_ms == 101_000


def test_notices_stand_at_their_moment_with_their_reason(session: LiveSession) -> None:
    notice = SessionNotice.objects.create(
        session=session, level="warning", code="agent_lost", text="Lost.", reason="It fell."
    )
    SessionNotice.objects.filter(pk=notice.pk).update(created_at=session.created_at + timedelta(seconds=40))

    (mark,) = picture(session).notices
    assert (mark.at_ms, mark.level, mark.text) == (40_000, "warning", "Lost. It fell.")


def test_a_notice_that_comes_after_the_end_is_in_it(session: LiveSession) -> None:
    notice = SessionNotice.objects.create(session=session, level="error", code="tts_lost", text="Lost.")
    SessionNotice.objects.filter(pk=notice.pk).update(created_at=session.created_at + timedelta(seconds=107))

    assert picture(session).end_ms == 107_000
    assert picture(session, line(1, "user", 90, 95), last=False).end_ms == 95_000


def test_a_part_begins_with_its_first_line_and_ends_with_its_last(session: LiveSession) -> None:
    part = picture(session, line(201, "user", 60, 70), line(202, "agent", 72, 80), first=False, last=False)
    assert (part.start_ms, part.end_ms) == (60_000, 80_000)


def test_an_empty_conversation_has_a_start_and_an_end(session: LiveSession) -> None:
    session.ended_at = session.created_at
    assert (picture(session).start_ms, picture(session).end_ms) == (0, 0)


def test_a_wait_has_its_figures_as_cells_and_as_the_event_names_them() -> None:
    wait = Wait(Turn(index=2, llm_ms=100, total_ms=1_000))

    assert wait.cells == [None, None, 100, None, None, 1_000]
    assert wait.data == {
        "turn": 2,
        "endpointing_ms": None,
        "stt_ms": None,
        "llm_ms": 100,
        "tts_ms": None,
        "avatar_ms": None,
        "total_ms": 1_000,
    }


def test_waits_in_short() -> None:
    assert percentiles([]) == (None, None)
    assert percentiles([300]) == (300, 300)
    assert percentiles([100, 200, 300, 400, 500]) == (300, 480)
