"""The picture of a conversation: lanes, marks, axis, and the bars of the waits."""

from __future__ import annotations

from datetime import timedelta

import pytest

from avatars.models import Agent
from sessions.models import LiveSession, Segment, SessionNotice, Turn
from sessions.timeline import MOST_PIXELS, Timeline, draw_timeline, draw_waits, percentiles
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


def draw(session: LiveSession, *lines: Segment, first: bool = True, last: bool = True) -> Timeline:
    return draw_timeline(session=session, segments=lines, notices=list(session.notices.all()), first=first, last=last)


def test_everybody_has_a_lane_on_one_axis(session: LiveSession) -> None:
    picture = draw(session, line(1, "agent", 10, 20), line(2, "user", 25, 50, interrupted=True))

    assert [(bar.role, bar.x, bar.width) for bar in picture.bars] == [
        ("agent", "10.000%", "10.000%"),
        ("user", "25.000%", "25.000%"),
    ]
    assert (picture.start_ms, picture.end_ms) == (0, 100_000)
    assert "(interrupted): line 2" in picture.bars[1].title
    assert picture.in_words == (
        "From 00:00:00 to 00:01:40: the visitor spoke 1 times, 00:00:25 in all, "
        "the agent spoke 1 times, 00:00:10 in all, 1 interrupted."
    )


def test_the_axis_has_room_for_its_labels(session: LiveSession) -> None:
    ticks = draw(session).ticks
    assert [tick.label for tick in ticks][:3] == ["0:00", "0:10", "0:20"]
    assert ticks[-1].label == "1:30"
    session.ended_at = session.created_at + timedelta(hours=3)
    day = draw(session)
    assert day.pixels == MOST_PIXELS
    assert 20 < len(day.ticks) < MOST_PIXELS / 70 + 1
    assert day.ticks[-1].label.startswith("2:")


def test_notices_stand_at_their_moment(session: LiveSession) -> None:
    notice = SessionNotice.objects.create(session=session, level="warning", code="agent_lost", text="Lost.")
    SessionNotice.objects.filter(pk=notice.pk).update(created_at=session.created_at + timedelta(seconds=40))

    (mark,) = draw(session).marks
    assert (mark.x, mark.level, mark.title) == ("40.000%", "warning", "00:00:40 Lost.")
    assert draw(session, line(9, "user", 60, 70), first=False).marks == (), "not in a later part"


def test_a_part_begins_with_its_first_line_and_ends_with_its_last(session: LiveSession) -> None:
    part = draw(session, line(201, "user", 60, 70), line(202, "agent", 72, 80), first=False, last=False)
    assert (part.start_ms, part.end_ms) == (60_000, 80_000)
    assert part.bars[0].x == "0.000%"


def test_an_empty_or_odd_conversation_is_drawn_too(session: LiveSession) -> None:
    session.ended_at = session.created_at
    assert draw(session).in_words == "From 00:00:00 to 00:00:10: nobody spoke."
    late = draw(session, line(1, "user", 30, 30))
    assert (late.bars[0].x, late.bars[0].width) == ("100.000%", "0.300%"), "too short to be seen"


def test_waits_share_one_scale() -> None:
    waits = draw_waits(
        [
            Turn(index=1, endpointing_ms=100, stt_ms=100, llm_ms=200, tts_ms=100, total_ms=500),
            Turn(index=2, llm_ms=100, total_ms=1_000),
            Turn(index=3, total_ms=250),
            Turn(index=4),
        ]
    )

    assert [(part.name, part.x, part.width) for part in waits[0].parts] == [
        ("endpointing", "0.000%", "10.000%"),
        ("stt", "10.000%", "10.000%"),
        ("llm", "20.000%", "20.000%"),
        ("tts", "40.000%", "10.000%"),
    ]
    assert [(part.name, part.width) for part in waits[1].parts] == [("llm", "10.000%")]
    assert [(part.name, part.width) for part in waits[2].parts] == [("unknown", "25.000%")]
    assert waits[3].parts == ()
    assert waits[1].cells == [None, None, 100, None, None, 1_000]


def test_waits_in_short() -> None:
    assert percentiles([]) == (None, None)
    assert percentiles([300]) == (300, 300)
    assert percentiles([100, 200, 300, 400, 500]) == (300, 480)
