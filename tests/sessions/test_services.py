from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from avatars.models import Agent
from molts.errors import HIDDEN, BadInput, Busy, Gone
from molts.redact import remember_secret
from sessions import rooms, services
from sessions.choices import NoticeCode, NoticeLevel
from sessions.events import SessionEvent
from sessions.models import LiveSession, RoomLink, Segment
from sessions.services import Latency
from tests.sessions.factories import make_session, say

pytestmark = pytest.mark.usefixtures("quiet_events")


@pytest.fixture
def open_rooms(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A media server that says yes."""
    opened: list[str] = []

    async def open_room(name: str) -> None:
        opened.append(name)

    async def other(name: str, **_: Any) -> str:
        return ""

    monkeypatch.setattr(rooms, "open_room", open_room)
    monkeypatch.setattr(rooms, "dispatch_agent", other)
    monkeypatch.setattr(rooms, "close_room", other)
    return opened


def together(count: int, call: Callable[[int], object]) -> list[object]:
    """Results (or exceptions) of `count` calls that start at the same moment."""
    gate = threading.Barrier(count)
    results: list[object] = [None] * count

    def run(number: int) -> None:
        gate.wait(10)
        try:
            results[number] = call(number)
        except Exception as error:
            results[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.django_db(transaction=True)
def test_it_numbers_segments_without_gap_or_double_however_many_write(agent: Agent) -> None:
    session = make_session(agent)
    together(8, lambda number: [say(session, "user", f"{number}-{i}") for i in range(10)])
    assert list(session.segments.order_by("seq").values_list("seq", flat=True)) == list(range(1, 81))


@pytest.mark.django_db(transaction=True)
def test_it_records_a_segment_once_when_two_write_it_at_the_same_time(agent: Agent) -> None:
    session = make_session(agent)

    def record(_: int) -> Segment:
        return services.record_segment(
            session_id=session.pk, segment_id="same", role="user", text="once", start_ms=0, end_ms=1
        )

    results = together(4, record)
    assert {getattr(result, "seq", result) for result in results} == {1}
    session.refresh_from_db()
    assert session.last_seq == 1


@pytest.mark.django_db(transaction=True)
def test_it_ends_a_session_for_exactly_one_caller(agent: Agent, open_rooms: list[str]) -> None:
    session = make_session(agent)
    reasons = ["ended_by_user", "visitor_left", "time_limit", "ended_by_api"]
    results = together(4, lambda number: services.end_session(session_id=session.pk, reason=reasons[number]))
    assert sorted(map(bool, results)) == [False, False, False, True]
    session.refresh_from_db()
    assert session.reason == reasons[results.index(True)]


@pytest.mark.django_db(transaction=True)
def test_it_never_lets_more_talk_than_the_link_allows(agent: Agent, link: RoomLink, open_rooms: list[str]) -> None:
    RoomLink.objects.filter(pk=link.pk).update(max_concurrent=2)
    results = together(6, lambda _: services.start_session(agent=agent, link=link))
    assert sum(isinstance(result, LiveSession) for result in results) == 2
    assert {result.code for result in results if isinstance(result, Busy)} == {"link_full"}


@pytest.mark.django_db(transaction=True)
def test_it_lets_one_job_claim_a_generation(agent: Agent) -> None:
    session = make_session(agent, state="waiting")
    results = together(4, lambda _: services.claim_session(session_id=session.pk, generation=1))
    assert sorted(map(bool, results)) == [False, False, False, True]


def test_it_refuses_a_claim_for_an_older_generation_and_for_one_never_asked_for(agent: Agent) -> None:
    session = make_session(agent, state="waiting", dispatch_generation=3, claimed_generation=2)
    assert not services.claim_session(session_id=session.pk, generation=2)
    assert not services.claim_session(session_id=session.pk, generation=4)
    assert services.claim_session(session_id=session.pk, generation=3)


def test_it_tells_of_a_segment_only_once_it_is_durable(
    agent: Agent, quiet_events: list[SessionEvent], django_capture_on_commit_callbacks: Any
) -> None:
    session = make_session(agent)
    with django_capture_on_commit_callbacks(execute=True):
        say(session, "user", "hello")
        assert quiet_events == []
    assert [event.type for event in quiet_events] == ["transcript.final"]


def test_it_snapshots_the_agent_so_that_later_edits_change_nothing(agent: Agent, open_rooms: list[str]) -> None:
    session = services.start_session(agent=agent)
    agent.name = "Somebody else"
    agent.save()
    session.refresh_from_db()
    assert session.spec["name"] == "Ada"
    assert session.spec["pipeline"]["tts"][-1]["provider"] == "espeak"


@pytest.mark.parametrize(
    ("changes", "error", "code"),
    [
        ({"revoked_at": "2020-01-01T00:00Z"}, Gone, "link_revoked"),
        ({"expires_at": "2020-01-01T00:00Z"}, Gone, "link_expired"),
    ],
)
def test_it_starts_nothing_on_a_link_that_is_over(
    agent: Agent, link: RoomLink, open_rooms: list[str], changes: dict[str, str], error: type[Gone], code: str
) -> None:
    RoomLink.objects.filter(pk=link.pk).update(**changes)
    with pytest.raises(error) as caught:
        services.start_session(agent=agent, link=link)
    assert caught.value.code == code
    assert LiveSession.objects.count() == 0
    assert open_rooms == []


@pytest.mark.parametrize("name", ["x" * 101, "x" * 1_000_000, "a\0b", "a\x1bb", "a\ud800b", "a\ue000b"])
def test_it_refuses_a_name_that_cannot_be_shown(agent: Agent, open_rooms: list[str], name: str) -> None:
    with pytest.raises(BadInput) as caught:
        services.start_session(agent=agent, visitor_name=name)
    assert caught.value.attr == "name"
    assert LiveSession.objects.count() == 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Anna\u00a0Maria", "Anna Maria"),
        ("\u2009Anna\tMaria\u3000", "Anna Maria"),
        ("\u202aAnna\u202c", "Anna"),
        ("Anna\u200b\ufeff", "Anna"),
        ("\u0639\u0644\u06cc\u200c\u0631\u0636\u0627", "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627"),
        ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
    ],
)
def test_it_takes_a_name_as_phones_and_other_scripts_write_it(given: str, kept: str) -> None:
    assert services.clean_name(given) == kept


def test_it_makes_one_link_for_one_session_of_a_program(agent: Agent, open_rooms: list[str]) -> None:
    session = services.start_session(agent=agent, source="api")
    assert session.link is not None
    assert session.link.one_session
    with pytest.raises(Gone):
        services.start_session(agent=agent, link=session.link)


def test_it_keeps_the_first_of_two_reports_of_a_turn(agent: Agent) -> None:
    session = make_session(agent)
    first = services.record_turn(session_id=session.pk, index=1, latency=Latency(total_ms=600))
    again = services.record_turn(session_id=session.pk, index=1, latency=Latency(total_ms=900))
    assert (first.pk, again.total_ms) == (again.pk, 600)


def test_it_erases_everything_of_a_conversation(agent: Agent, open_rooms: list[str]) -> None:
    session = make_session(agent)
    say(session, "user", "hello")
    services.record_turn(session_id=session.pk, index=1, latency=Latency())
    services.erase_session(session_id=session.pk)
    assert (LiveSession.objects.count(), Segment.objects.count()) == (0, 0)


def test_what_is_stored_of_a_vendors_words_holds_no_key(agent: Agent, quiet_events: list[SessionEvent]) -> None:
    remember_secret("vk-stored-canary-1")
    session = make_session(agent)
    services.add_notice(
        session_id=session.pk, level=NoticeLevel.ERROR, code=NoticeCode.LLM_FALLBACK, text="401: bad vk-stored-canary-1"
    )
    assert session.notices.get().text == f"401: bad {HIDDEN}"
