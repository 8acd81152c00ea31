"""Compares the conversations that should run with what really runs, and mends the difference.

Nothing here trusts a message that it was sent: every round looks at the database, at the media server and at who beats
in Redis. What cannot be looked at is unknown, and nothing is ended for being unknown.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from asgiref.sync import async_to_sync
from django.db.models import Max
from django.utils import timezone

from molts import beats
from molts.errors import Unavailable
from sessions import presence, rooms, services
from sessions.choices import (
    LIVE_STATES,
    AgentStateName,
    EndReason,
    NoticeCode,
    NoticeLevel,
    ParticipantKind,
    SessionSource,
    SessionState,
)
from sessions.models import LiveSession, Segment
from sessions.presence import Presence

logger = logging.getLogger(__name__)

AGENT_LATE = timedelta(seconds=5)
REDISPATCH_AFTER = timedelta(seconds=3)
STALE_AFTER = timedelta(seconds=3)  # what was seen so long ago is looked at again before it is acted on
GIVE_UP_AFTER = timedelta(seconds=120)
VISITOR_MUST_JOIN = timedelta(seconds=120)
PAGE_MUST_OPEN = timedelta(seconds=30)  # places of a link must not be held by nobody
# How long a visitor may be missed, on the page and in the room, before the conversation ends: a reload or a new
# connection is back by then, and so is everybody after Redis was emptied.
MISSED_SECONDS = 2.5
WARN_BEFORE_LIMIT = timedelta(seconds=60)
ROUND_LOCK_SECONDS = 30
SESSION_LOCK_SECONDS = 15


@dataclass(frozen=True)
class Seen:
    """What one look at a session found. `in_room` is None when the room is gone; `taken`: a job of it is starting."""

    presence: Presence
    in_room: tuple[rooms.RoomParticipant, ...] | None
    free_worker: bool
    taken: bool = False
    wanted_avatar: str | None = None

    def has_visitor(self, identity: str) -> bool:
        return self.presence.visitor or any(participant.identity == identity for participant in self.in_room or ())


def reconcile_all() -> int:
    """One round over everything; returns how many sessions were looked at. One process at a time."""
    with beats.only_one("reconcile", seconds=ROUND_LOCK_SECONDS) as mine:
        if not mine:
            return 0
        presence.beat_clock()
        live = list(LiveSession.objects.filter(state__in=LIVE_STATES).values_list("pk", flat=True))
        for session_id in live:
            try:
                reconcile_session(session_id)
            except Unavailable as error:
                logger.warning("session not reconciled: %s", error.detail)
        _close_leftover_rooms()
        return len(live)


def reconcile_session(session_id: uuid.UUID) -> None:
    """Bring one session in line. Raises Unavailable when Redis or the media server cannot be asked."""
    with beats.only_one(f"session:{session_id}", seconds=SESSION_LOCK_SECONDS) as mine:
        if not mine:
            return
        session = LiveSession.objects.filter(pk=session_id).first()
        if session is None:
            return
        if not session.is_live:
            if session.room_closed_at is None:
                services.close_room(session=session)
            return
        _fix(session, _look(session), timezone.now())


def _look(session: LiveSession) -> Seen:
    found = async_to_sync(rooms.list_participants)(session.room_name)
    return Seen(
        presence=presence.presence(session.pk),
        in_room=None if found is None else tuple(found),
        free_worker=any(worker.has_free_slot for worker in beats.workers()),
        taken=presence.is_taken(session.pk),
        wanted_avatar=presence.wanted_avatar(session.pk),
    )


def _fix(session: LiveSession, seen: Seen, now: datetime) -> None:
    reason = _reason_to_end(session, seen, now)
    if reason is not None:
        services.end_session(session_id=session.pk, reason=reason)
        return
    if seen.has_visitor(session.visitor_identity):
        services.note_visitor_joined(session_id=session.pk)
    _warn_of_limit(session, now)
    if seen.presence.agent_generation is None:
        _call_agent(session, seen, now)
    elif seen.presence.agent_generation == session.claimed_generation:
        _keep_agent(session, seen)
    _remove_strangers(session, seen)


# -- Ending -----------------------------------------------------------------------------------------------------------
def _reason_to_end(session: LiveSession, seen: Seen, now: datetime) -> EndReason | None:
    if now > _limit(session):
        return EndReason.TIME_LIMIT
    if _has_left(session, seen, now):
        return EndReason.VISITOR_LEFT
    if _is_silent(session, seen, now):
        return EndReason.SILENCE
    return None


def _limit(session: LiveSession) -> datetime:
    longest = timedelta(seconds=session.max_seconds) if session.max_seconds else timedelta(days=1)
    return (session.active_at or session.created_at) + longest


def _has_left(session: LiveSession, seen: Seen, now: datetime) -> bool:
    if seen.has_visitor(session.visitor_identity):
        presence.forget_missed(session.pk)
        return False
    # Also for one who never came: that row may be late, and whoever was there a moment ago may only reload the page.
    missed = presence.missed_for(session.pk) > MISSED_SECONDS
    if session.visitor_joined_at is None:
        return missed and now - session.created_at > _patience(session) and not presence.is_awaited(session.pk)
    return missed


def _patience(session: LiveSession) -> timedelta:
    """How long a visitor may take to come. A page is there at once; a program's visitor is told where to go first."""
    return PAGE_MUST_OPEN if session.source == SessionSource.LINK else VISITOR_MUST_JOIN


def _warn_of_limit(session: LiveSession, now: datetime) -> None:
    if session.max_seconds and session.max_seconds > 120 and now > _limit(session) - WARN_BEFORE_LIMIT:
        services.add_notice(
            session_id=session.pk,
            level=NoticeLevel.INFO,
            code=NoticeCode.LIMIT_NEAR,
            text="This conversation ends in a minute.",
            once=True,
        )


def _is_silent(session: LiveSession, seen: Seen, now: datetime) -> bool:
    """By what the job says that happens, and by the transcript: rows are late when the database could not write, and a
    job that replaced another has heard nothing yet. While no job says anything, it is unknown."""
    limit = session.agent_snapshot.limits.silence_seconds
    quiet = seen.presence.quiet_seconds
    if not limit or quiet is None or session.active_at is None or session.agent_state != AgentStateName.LISTENING:
        return False
    if session.visitor_joined_at is None:
        return False  # nobody is there to be silent; how long they may take to come is another matter
    last = Segment.objects.filter(session=session).aggregate(at=Max("created_at"))["at"]
    unwritten = now - max(last or session.active_at, session.active_at, session.visitor_joined_at)
    return min(timedelta(seconds=quiet), unwritten) > timedelta(seconds=limit)


# -- Agents -----------------------------------------------------------------------------------------------------------
def _keep_agent(session: LiveSession, seen: Seen) -> None:
    """The job that has the session beats. One that was taken for lost only stood still; all others must go."""
    identity = seen.presence.agent_identity
    known = not identity or session.participants.filter(kind=ParticipantKind.AGENT, identity=identity).exists()
    if session.agent_state == AgentStateName.LOST:
        if known:  # else it is a new one, which says so itself once it is ready
            services.note_agent_back(session_id=session.pk)
        return
    if session.state != SessionState.ACTIVE or not identity or not known:
        return
    for participant in seen.in_room or ():
        if participant.is_agent and not _belongs(participant, identity, seen.wanted_avatar):
            async_to_sync(rooms.remove_participant)(session.room_name, participant.identity)


def _belongs(participant: rooms.RoomParticipant, agent: str, avatar: str | None) -> bool:
    """Whether this is the agent, or the one face that it called last. A vendor's face is known by no name."""
    if participant.identity == agent:
        return True
    return participant.on_behalf_of == agent and avatar in (None, participant.identity)


def _remove_strangers(session: LiveSession, seen: Seen) -> None:
    for participant in seen.in_room or ():
        if participant.is_standard and not participant.is_agent and participant.identity != session.visitor_identity:
            logger.warning("stranger put out of a room", extra={"session_id": str(session.pk)})
            async_to_sync(rooms.remove_participant)(session.room_name, participant.identity)


def _call_agent(session: LiveSession, seen: Seen, now: datetime) -> None:
    """No agent beats: say so, and ask for one whenever somebody could come."""
    dispatched = session.dispatched_at or session.created_at
    # The first call is made by whoever starts the session, and may be under way.
    unclaimed = session.claimed_generation < max(1, session.dispatch_generation)
    # Calling again withdraws the last call, and with it a job that is on its way.
    pending = unclaimed and (seen.taken or now - dispatched < REDISPATCH_AFTER)
    if session.state == SessionState.ACTIVE:
        services.mark_agent_lost(session_id=session.pk)
        if timezone.now() - now > STALE_AFTER:
            return  # whoever held up the database may be the agent, which is back then
        session.refresh_from_db(fields=["agent_lost_at"])
    elif now - session.created_at > AGENT_LATE:
        services.add_notice(
            session_id=session.pk,
            level=NoticeLevel.WARNING,
            code=NoticeCode.AGENT_LATE,
            text="The agent is late. Please stay, it is being called again.",
            once=True,
        )
    if _without_agent_since(session) + GIVE_UP_AFTER < now:
        lost = session.state == SessionState.ACTIVE
        services.end_session(session_id=session.pk, reason=EndReason.AGENT_LOST if lost else EndReason.NO_AGENT)
    elif seen.free_worker and not pending:
        presence.forget_taken(session.pk)
        async_to_sync(rooms.open_room)(session.room_name)  # the room may have gone with its last participant
        services.dispatch_agent(session=session)


def _without_agent_since(session: LiveSession) -> datetime:
    return session.agent_lost_at or session.created_at


# -- Rooms ------------------------------------------------------------------------------------------------------------
def _close_leftover_rooms() -> None:
    """Rooms of this installation whose session is over, unknown, or could not be closed when it ended."""
    # In the order of the index that holds nothing else: in any other, all conversations would be looked through.
    over = LiveSession.objects.filter(room_closed_at=None).exclude(state__in=LIVE_STATES).order_by("ended_at")
    for session in over[:50]:
        services.close_room(session=session)
    try:
        open_rooms = async_to_sync(rooms.list_room_names)(rooms.room_prefix())
    except Unavailable:
        return
    live = LiveSession.objects.filter(room_name__in=open_rooms, state__in=LIVE_STATES)
    for name in set(open_rooms).difference(live.values_list("room_name", flat=True)):
        if not rooms.is_running_check(name):
            async_to_sync(rooms.close_room)(name)
