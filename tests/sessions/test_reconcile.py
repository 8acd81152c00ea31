"""What the reconciler decides, one look at a time. That it sees rightly is shown with real servers elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.utils import timezone

from avatars.models import Agent
from molts import beats
from molts.errors import Unavailable
from sessions import presence, reconcile, rooms, services
from sessions.events import SessionEvent
from sessions.models import LiveSession
from sessions.presence import Presence
from sessions.reconcile import Seen, reconcile_session
from sessions.rooms import RoomParticipant
from tests.sessions.factories import make_session, say

Look = Callable[..., None]


class Media:
    """The media server's side: what was asked of it."""

    def __init__(self) -> None:
        self.dispatched: list[str] = []
        self.closed: list[str] = []


@pytest.fixture(autouse=True)
def media(monkeypatch: pytest.MonkeyPatch, quiet_events: list[SessionEvent]) -> Media:
    media = Media()

    async def dispatch(room_name: str, *, metadata: str) -> str:
        media.dispatched.append(metadata)
        return "AD_1"

    async def close(room_name: str) -> None:
        media.closed.append(room_name)

    async def open_room(room_name: str) -> None: ...

    @contextmanager
    def only_one(name: str, *, seconds: float) -> Iterator[bool]:
        yield True

    monkeypatch.setattr(rooms, "dispatch_agent", dispatch)
    monkeypatch.setattr(rooms, "close_room", close)
    monkeypatch.setattr(rooms, "open_room", open_room)
    monkeypatch.setattr(beats, "only_one", only_one)
    monkeypatch.setattr(presence, "missed_for", lambda session_id: 60.0)
    monkeypatch.setattr(presence, "forget_missed", lambda session_id: None)
    monkeypatch.setattr(presence, "is_awaited", lambda session_id: False)
    monkeypatch.setattr(presence, "forget_taken", lambda session_id: None)
    return media


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    """Says what the next look at a session finds."""

    def look(
        *,
        agent: int | None = 1,
        socket: bool = True,
        in_room: bool = True,
        worker: bool = True,
        taken: bool = False,
        quiet: float | None = 0.0,
    ) -> None:
        def found(session: LiveSession) -> Seen:
            people = (RoomParticipant(session.visitor_identity, is_agent=False, is_active=True),) if in_room else ()
            return Seen(Presence(agent, socket, quiet_seconds=quiet), people, worker, taken)

        monkeypatch.setattr(reconcile, "_look", found)

    return look


def state_of(session: LiveSession) -> tuple[str, str]:
    session.refresh_from_db()
    return session.state, session.reason


def test_it_leaves_a_healthy_session_alone(agent: Agent, look: Look, media: Media) -> None:
    session = make_session(agent, age_seconds=60, visitor_joined_at=timezone.now())
    look()
    reconcile_session(session.pk)
    assert state_of(session) == ("active", "")
    assert (media.dispatched, media.closed) == ([], [])


def test_it_ends_a_session_whose_visitor_left_page_and_room(agent: Agent, look: Look, media: Media) -> None:
    session = make_session(agent, age_seconds=20, visitor_joined_at=timezone.now())
    look(socket=False, in_room=False)
    reconcile_session(session.pk)
    assert state_of(session) == ("ended", "visitor_left")
    assert media.closed == [session.room_name]
    assert session.room_closed_at is not None


@pytest.mark.parametrize(("socket", "in_room"), [(False, True), (True, False)])
def test_it_keeps_a_session_while_page_or_room_still_has_the_visitor(
    agent: Agent, look: Look, socket: bool, in_room: bool
) -> None:
    session = make_session(agent, age_seconds=60, visitor_joined_at=timezone.now())
    look(socket=socket, in_room=in_room)
    reconcile_session(session.pk)
    assert state_of(session) == ("active", "")


@pytest.mark.parametrize(("source", "seconds"), [("link", 30), ("api", 120)])
def test_it_waits_for_a_visitor_who_never_came(agent: Agent, look: Look, source: str, seconds: int) -> None:
    young, old = (make_session(agent, age_seconds=age, source=source) for age in (seconds - 5, seconds + 1))
    look(socket=False, in_room=False)
    for session in (young, old):
        reconcile_session(session.pk)
    assert (state_of(young), state_of(old)) == (("active", ""), ("ended", "visitor_left"))


def test_it_ends_at_the_time_limit(agent: Agent, look: Look) -> None:
    session = make_session(agent, age_seconds=901, visitor_joined_at=timezone.now())
    look()
    reconcile_session(session.pk)
    assert state_of(session) == ("ended", "time_limit")


def test_it_ends_after_long_silence_but_not_while_somebody_talks(agent: Agent, look: Look) -> None:
    agent.silence_seconds = 30
    agent.save()
    joined = timezone.now() - timedelta(seconds=40)
    quiet = make_session(agent, age_seconds=40, visitor_joined_at=joined)
    spoken = make_session(agent, age_seconds=40, visitor_joined_at=joined)
    say(spoken, "user", "hello")
    answering = make_session(agent, age_seconds=40, visitor_joined_at=joined, agent_state="speaking")
    look(quiet=40)
    for session in (quiet, spoken, answering):
        reconcile_session(session.pk)
    assert [state_of(session)[1] for session in (quiet, spoken, answering)] == ["silence", "", ""]


def test_who_is_not_there_yet_is_not_silent(agent: Agent, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.silence_seconds = 30
    agent.save()
    reading = make_session(agent, age_seconds=50, source="api")
    just_in = make_session(agent, age_seconds=50, source="api", visitor_joined_at=timezone.now())
    look(socket=False, in_room=False, quiet=50)
    reconcile_session(reading.pk)
    look(quiet=50)
    reconcile_session(just_in.pk)
    assert [state_of(session) for session in (reading, just_in)] == [("active", "")] * 2


def test_it_waits_longer_for_a_visitor_who_reads_the_page(
    agent: Agent, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, nobody = (make_session(agent, age_seconds=200, source="api") for _ in range(2))
    monkeypatch.setattr(presence, "is_awaited", lambda session_id: session_id == reading.pk)
    look(socket=False, in_room=False)
    for session in (reading, nobody):
        reconcile_session(session.pk)
    assert (state_of(reading), state_of(nobody)) == (("active", ""), ("ended", "visitor_left"))


@pytest.mark.parametrize("said", [0.0, 29.0, None])
def test_it_ends_no_talk_whose_rows_are_late(agent: Agent, look: Look, said: float | None) -> None:
    """The database could not write for two minutes; the job says when somebody spoke last, or nobody knows."""
    agent.silence_seconds = 30
    agent.save()
    session = make_session(agent, age_seconds=150, visitor_joined_at=timezone.now())
    look(quiet=said)
    reconcile_session(session.pk)
    assert state_of(session) == ("active", "")


def test_it_waits_for_the_return_of_a_visitor_whose_coming_was_written_late(
    agent: Agent, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make_session(agent, age_seconds=150, visitor_joined_at=None)
    look(socket=False, in_room=False)
    monkeypatch.setattr(presence, "missed_for", lambda session_id: 1.0)  # a reload of the page
    reconcile_session(session.pk)
    assert state_of(session) == ("active", "")
    monkeypatch.setattr(presence, "missed_for", lambda session_id: 3.0)
    reconcile_session(session.pk)
    assert state_of(session) == ("ended", "visitor_left")


def test_it_says_once_that_the_agent_is_late_and_calls_it_again(agent: Agent, look: Look, media: Media) -> None:
    session = make_session(agent, state="waiting", age_seconds=6)
    look(agent=None)
    reconcile_session(session.pk)
    reconcile_session(session.pk)
    assert [notice.code for notice in session.notices.all()] == ["agent_late"]
    assert media.dispatched == [str(session.pk)]  # the second look is within three seconds of the first call
    session.refresh_from_db()
    assert session.dispatch_generation == 2


def test_it_leaves_the_first_call_to_whoever_starts_the_session(agent: Agent, look: Look, media: Media) -> None:
    young = make_session(agent, state="waiting", dispatch_generation=0, dispatched_at=None, age_seconds=1)
    forgotten = make_session(agent, state="waiting", dispatch_generation=0, dispatched_at=None, age_seconds=4)
    look(agent=None)
    reconcile_session(young.pk)
    reconcile_session(forgotten.pk)
    assert media.dispatched == [str(forgotten.pk)]


def test_it_calls_nobody_while_no_worker_has_room(agent: Agent, look: Look, media: Media) -> None:
    session = make_session(agent, state="waiting", age_seconds=30)
    look(agent=None, worker=False)
    reconcile_session(session.pk)
    assert media.dispatched == []
    assert state_of(session) == ("waiting", "")


@pytest.mark.parametrize("age", [60, 600])
def test_it_replaces_a_lost_agent_at_once(
    agent: Agent, look: Look, media: Media, quiet_events: list[SessionEvent], age: int
) -> None:
    session = make_session(agent, age_seconds=age, agent_state="speaking", visitor_joined_at=timezone.now())
    look(agent=None)
    reconcile_session(session.pk)
    session.refresh_from_db()
    assert session.agent_state == "lost"
    assert media.dispatched == [str(session.pk)]
    assert [event.type for event in quiet_events] == ["agent.state"]  # the notice follows with the commit
    assert [notice.code for notice in session.notices.all()] == ["agent_lost"]


def test_it_notices_an_agent_that_only_stood_still(agent: Agent, look: Look, media: Media) -> None:
    session = make_session(agent, age_seconds=60, agent_state="lost", agent_lost_at=timezone.now())
    look(agent=1)
    reconcile_session(session.pk)
    session.refresh_from_db()
    assert session.agent_state == "listening"
    assert [notice.code for notice in session.notices.all()] == ["agent_back"]
    assert media.dispatched == []


def test_it_gives_up_after_two_minutes_without_an_agent(agent: Agent, look: Look) -> None:
    never = make_session(agent, state="waiting", age_seconds=121)
    lost = make_session(
        agent, age_seconds=300, agent_state="lost", agent_lost_at=timezone.now() - timedelta(seconds=121)
    )
    look(agent=None, worker=False)
    for session in (never, lost):
        reconcile_session(session.pk)
    assert (state_of(never), state_of(lost)) == (("failed", "no_agent"), ("failed", "agent_lost"))


def test_it_closes_the_room_of_a_session_that_ended_while_the_media_server_was_away(
    agent: Agent, media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(room_name: str) -> None:
        raise Unavailable("The media server is out of reach.")

    session = make_session(agent)
    with monkeypatch.context() as patch:
        patch.setattr(rooms, "close_room", away)
        assert services.end_session(session_id=session.pk, reason="ended_by_user")
    session.refresh_from_db()
    assert session.room_closed_at is None
    reconcile_session(session.pk)
    assert media.closed == [session.room_name]


def test_it_ends_nothing_when_it_cannot_look(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(session: LiveSession) -> Seen:
        raise Unavailable("Redis is out of reach.")

    monkeypatch.setattr(reconcile, "_look", blind)
    session = make_session(agent, age_seconds=10_000)
    with pytest.raises(Unavailable):
        reconcile_session(session.pk)
    assert state_of(session) == ("active", "")


def test_it_lets_a_job_start_that_a_worker_has_taken(agent: Agent, look: Look, media: Media) -> None:
    session = make_session(agent, state="waiting", age_seconds=20)
    look(agent=None, taken=True)
    reconcile_session(session.pk)
    assert media.dispatched == []
    look(agent=None, taken=False)
    reconcile_session(session.pk)
    assert media.dispatched == [str(session.pk)]


def test_it_calls_another_agent_when_the_one_that_came_is_gone(agent: Agent, look: Look, media: Media) -> None:
    session = make_session(agent, state="waiting", age_seconds=2, claimed_generation=1)
    look(agent=None, taken=True)
    reconcile_session(session.pk)
    assert media.dispatched == [str(session.pk)]


def test_it_leaves_it_to_a_new_agent_to_say_that_it_is_there(agent: Agent, look: Look, media: Media) -> None:
    session = make_session(agent, agent_state="lost", agent_lost_at=timezone.now(), dispatch_generation=2)
    look(agent=2)  # beats, and has not claimed the session yet
    reconcile_session(session.pk)
    session.refresh_from_db()
    assert (session.agent_state, media.dispatched) == ("lost", [])


def test_it_says_once_that_the_limit_is_near(agent: Agent, look: Look) -> None:
    session = make_session(agent, age_seconds=845, agent_state="speaking", visitor_joined_at=timezone.now())
    look()
    for _ in range(2):
        reconcile_session(session.pk)
    assert [notice.code for notice in session.notices.all()] == ["limit_near"]
    assert state_of(session) == ("active", "")


@pytest.mark.parametrize("source", ["link", "api"])
def test_it_gives_whoever_is_missed_a_moment_to_come_back(
    agent: Agent, look: Look, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    session = make_session(agent, age_seconds=60, source=source, visitor_joined_at=timezone.now())
    look(socket=False, in_room=False)
    monkeypatch.setattr(presence, "missed_for", lambda session_id: 0.0)
    reconcile_session(session.pk)
    assert state_of(session) == ("active", "")
    monkeypatch.setattr(presence, "missed_for", lambda session_id: 5.0)
    reconcile_session(session.pk)
    assert state_of(session) == ("ended", "visitor_left")


def test_it_says_nothing_of_what_a_lost_agent_does_before_it_is_back(
    agent: Agent, look: Look, quiet_events: list[SessionEvent]
) -> None:
    session = make_session(agent, age_seconds=60, agent_state="lost", agent_lost_at=timezone.now())
    services.note_agent_state(session_id=session.pk, state="speaking")
    assert quiet_events == []
    look(agent=1)
    reconcile_session(session.pk)
    services.note_agent_state(session_id=session.pk, state="speaking")
    assert [event.state for event in quiet_events if event.type == "agent.state"] == ["listening", "speaking"]


@pytest.mark.parametrize(("wanted", "removed"), [("avatar-two", ["avatar-one"]), (None, [])])
def test_one_face_too_many_must_go(
    agent: Agent, media: Media, monkeypatch: pytest.MonkeyPatch, wanted: str | None, removed: list[str]
) -> None:
    """The agent called `wanted` last. Without a call of ours the face is a vendor's, whatever its name."""
    session = make_session(agent, age_seconds=60, visitor_joined_at=timezone.now())
    session.participants.create(kind="agent", identity="agent-one", joined_at=timezone.now())
    session.claimed_generation = session.dispatch_generation = 1
    session.save()
    people = [RoomParticipant(session.visitor_identity, is_agent=False, is_active=True)]
    people.append(RoomParticipant("agent-one", is_agent=True, is_active=True, is_standard=False))
    for name in ("avatar-one", "avatar-two"):
        people.append(RoomParticipant(name, True, True, on_behalf_of="agent-one", is_standard=False))
    seen = Seen(Presence(1, True, "agent-one"), tuple(people), True, False, wanted)
    monkeypatch.setattr(reconcile, "_look", lambda session: seen)
    put_out: list[str] = []

    async def remove(room_name: str, identity: str) -> None:
        put_out.append(identity)

    monkeypatch.setattr(rooms, "remove_participant", remove)
    reconcile_session(session.pk)
    assert put_out == removed
