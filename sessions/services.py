"""What can happen to a conversation. Every door (pages, API, admin, tasks, worker) goes through here."""

from __future__ import annotations

import secrets
import unicodedata
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from asgiref.sync import async_to_sync
from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone

from avatars.models import Agent
from avatars.services import resolve_snapshot, save_agent_revision
from avatars.snapshots import AgentSnapshot
from molts.errors import BadInput, Busy, Conflict, Gone, MoltsError
from molts.redact import hide_secrets
from molts.text import clean_line, clean_text
from projects.models import Project
from projects.usage.models import UsageRecord
from projects.usage.services import Usage, record_usage
from sessions import events, rooms, told
from sessions.choices import (
    FAILURES,
    LIVE_STATES,
    AgentStateName,
    EndReason,
    NoticeCode,
    NoticeLevel,
    ParticipantKind,
    SessionSource,
    SessionState,
)
from sessions.models import (
    LiveSession,
    Participant,
    RoomLink,
    Segment,
    SessionNotice,
    Turn,
)
from sessions.publish import publish, publish_on_commit

MAX_NAME = 100
MAX_REASON = 300
MAX_TEXT = 4_000
MOST_TYPED, TYPED_SECONDS = 20, 10
"""So many lines may a visitor type in so many seconds: nobody does, and each may cost an answer."""
UNSHOWN = frozenset(("Cc", "Cs", "Co"))  # control characters, halves of characters, and what has no shape of its own
# Long, and part of no list.
LONG_TEXTS = ("spec", "agent__instructions", "agent__greeting", "agent__knowledge")
TRIAL_LASTS = timedelta(hours=1)


# -- Starting ---------------------------------------------------------------------------------------------------------
def check_link(*, link: RoomLink) -> None:
    """Raises Gone when the link is over and Busy when as many talk as it allows."""
    if link.revoked_at is not None:
        raise Gone("This link was withdrawn. Ask whoever sent it for a new one.", code="link_revoked")
    if link.is_expired or (link.one_session and link.live_sessions.exists()):
        raise Gone("This link has expired. Ask whoever sent it for a new one.", code="link_expired")
    if count_live(link=link) >= link.max_concurrent:
        raise Busy("Everyone is busy right now. Please try again in a few minutes.", code="link_full")


def count_live(*, link: RoomLink) -> int:
    return LiveSession.objects.filter(link=link, state__in=LIVE_STATES).count()


def revoke_link(*, link: RoomLink) -> bool:
    """Let nobody in by this link any more. True for the caller that did it; running conversations go on."""
    link.revoked_at = timezone.now()
    return RoomLink.objects.filter(pk=link.pk, revoked_at=None).update(revoked_at=link.revoked_at) > 0


def claim_link(*, link: RoomLink) -> bool:
    """Keep a one-session link for the browser that asks. False: another has it."""
    return RoomLink.objects.filter(pk=link.pk, claimed_at=None).update(claimed_at=timezone.now()) > 0


def open_trial_link(*, agent: Agent, user: AbstractBaseUser) -> RoomLink:
    """The editor's own door to an agent, open for an hour; the same one each time.

    What still runs behind it is ended: whoever asks wants to talk to the agent as it is saved now.
    """
    link = RoomLink.objects.filter(agent=agent, trial_by_id=user.pk, revoked_at=None).first()
    if link is None:
        name = f"Trial by {user.get_username()}"[:MAX_NAME]
        link = RoomLink(project_id=agent.project_id, agent=agent, name=name, trial_by_id=user.pk)
    # Whatever was set on its page meanwhile: it is one editor's door, on our own pages, for one talk at a time.
    link.expires_at = timezone.now() + TRIAL_LASTS
    link.on_start_page, link.allowed_origins, link.max_concurrent = False, [], 1
    link.save()
    for session in link.live_sessions.filter(state__in=LIVE_STATES):
        end_session(session_id=session.pk, reason=EndReason.ENDED_BY_USER)
    return link


def start_session(
    *,
    agent: Agent,
    link: RoomLink | None = None,
    visitor_name: str = "",
    source: str = SessionSource.LINK,
) -> LiveSession:
    """A session with its room open and an agent asked for.

    Raises Gone or Busy for a link or project that allows no more, BadInput for an unusable name and Unavailable when
    the media server cannot be reached; then the session is `failed` and nothing is left open.
    """
    name = clean_name(visitor_name)
    session = _create_session(agent=agent, link=link, visitor_name=name, source=source)
    try:
        async_to_sync(rooms.open_room)(session.room_name)
        dispatch_agent(session=session)
    except MoltsError:
        end_session(session_id=session.pk, reason=EndReason.ERROR)
        raise
    return session


def clean_name(name: str) -> str:
    """`name` fit to be shown: spaces of every kind are one kind, what cannot be seen is left out. Raises BadInput."""
    spaced = "".join(" " if character.isspace() else character for character in name)
    if any(unicodedata.category(character) in UNSHOWN for character in spaced):
        raise BadInput("The name holds characters that cannot be shown.", attr="name")
    name = clean_line(spaced)
    if len(name) > MAX_NAME:
        raise BadInput(f"The name is too long: at most {MAX_NAME} characters.", attr="name")
    return name


def _create_session(*, agent: Agent, link: RoomLink | None, visitor_name: str, source: str) -> LiveSession:
    with transaction.atomic():
        # Counting under the lock: two visitors must not both take the last place.
        project = Project.objects.select_for_update().get(pk=agent.project_id)
        if link is not None:
            check_link(link=RoomLink.objects.select_for_update().get(pk=link.pk))
        live = LiveSession.objects.filter(project=project, state__in=LIVE_STATES).exclude(source=SessionSource.CHECK)
        if source != SessionSource.CHECK and live.count() >= project.max_concurrent_sessions:
            raise Busy("Too many conversations are running. Please try again in a few minutes.", code="project_full")
        if source == SessionSource.API:
            link = RoomLink.objects.create(
                project=project, agent=agent, one_session=True, max_concurrent=1, max_minutes=agent.max_minutes
            )
        revision = save_agent_revision(agent=agent)
        snapshot = resolve_snapshot(revision.agent_snapshot)
        session = LiveSession.objects.create(
            project=project,
            agent=agent,
            revision=revision,
            link=link,
            source=source,
            room_name=rooms.new_room_name(),
            visitor_identity=f"visitor-{secrets.token_urlsafe(9)}",
            visitor_name=visitor_name,
            spec=snapshot.as_json(),
            max_seconds=_longest(snapshot, link) * 60,
        )
        Participant.objects.create(
            session=session, identity=session.visitor_identity, kind=ParticipantKind.VISITOR, name=visitor_name
        )
    return session


def _longest(snapshot: AgentSnapshot, link: RoomLink | None) -> int:
    minutes = snapshot.limits.max_minutes
    return min(minutes, link.max_minutes) if link is not None else minutes


def dispatch_agent(*, session: LiveSession) -> int:
    """Ask the media server for an agent; returns the new generation. Raises Unavailable."""
    LiveSession.objects.filter(pk=session.pk).update(
        dispatch_generation=F("dispatch_generation") + 1, dispatched_at=timezone.now()
    )
    session.refresh_from_db(fields=["dispatch_generation", "dispatched_at"])
    async_to_sync(rooms.dispatch_agent)(session.room_name, metadata=str(session.pk))
    return session.dispatch_generation


# -- Living -----------------------------------------------------------------------------------------------------------
def offset_ms(session: LiveSession, moment: datetime | None = None) -> int:
    """Milliseconds from the session's start to `moment` (now)."""
    return max(0, round(((moment or timezone.now()) - session.created_at).total_seconds() * 1000))


def claim_session(*, session_id: uuid.UUID, generation: int) -> bool:
    """Take the session for one job. False: it is over, or a job of this or a newer generation has it."""
    claimed = LiveSession.objects.filter(
        pk=session_id, state__in=LIVE_STATES, claimed_generation__lt=generation, dispatch_generation__gte=generation
    ).update(claimed_generation=generation)
    return claimed > 0


def activate_session(*, session_id: uuid.UUID, agent_identity: str) -> None:
    """The agent is in the room and ready. First time: the session becomes active; later: the agent is back."""
    with transaction.atomic():
        session = LiveSession.objects.select_for_update().get(pk=session_id)
        if not session.is_live:
            return
        was_waiting, was_lost = session.state == SessionState.WAITING, session.agent_state == AgentStateName.LOST
        now = timezone.now()
        session.state, session.active_at = SessionState.ACTIVE, session.active_at or now
        session.agent_state, session.agent_lost_at = AgentStateName.LISTENING, None
        session.save(update_fields=["state", "active_at", "agent_state", "agent_lost_at"])
        Participant.objects.update_or_create(
            session=session,
            identity=agent_identity,
            defaults={
                "kind": ParticipantKind.AGENT,
                "name": session.agent_snapshot.name,
                "joined_at": now,
                "left_at": None,
            },
        )
        offset = offset_ms(session, now)
        if was_waiting:
            publish_on_commit(session_id, events.SessionStateEvent(state=SessionState.ACTIVE, offset_ms=offset))
        publish_on_commit(session_id, events.AgentStateEvent(state=AgentStateName.LISTENING, offset_ms=offset))
        if was_waiting:
            told.tell_started(session)
    if was_lost:
        add_notice(session_id=session_id, level=NoticeLevel.INFO, code=NoticeCode.AGENT_BACK, text="The agent is back.")


def note_agent_state(*, session_id: uuid.UUID, state: str) -> None:
    """Store and publish what the agent is doing.

    While the agent counts as lost only its coming back changes that: what a job that stood still reports is old.
    """
    changed = (
        LiveSession.objects.filter(pk=session_id, state__in=LIVE_STATES)
        .exclude(agent_state__in=(AgentStateName.LOST, state))
        .update(agent_state=state)
    )
    if changed:
        session = LiveSession.objects.only("created_at").get(pk=session_id)
        event = events.AgentStateEvent(state=AgentStateName(state), offset_ms=offset_ms(session))
        publish(session_id, event)


def mark_agent_lost(*, session_id: uuid.UUID) -> bool:
    """The job that served the session is gone. True for the caller that noticed first."""
    changed = (
        LiveSession.objects.filter(pk=session_id, state=SessionState.ACTIVE)
        .exclude(agent_state=AgentStateName.LOST)
        .update(agent_state=AgentStateName.LOST, agent_lost_at=timezone.now())
    )
    if not changed:
        return False
    session = LiveSession.objects.get(pk=session_id)
    Participant.objects.filter(session=session, kind=ParticipantKind.AGENT, left_at=None).update(left_at=timezone.now())
    publish(session_id, events.AgentStateEvent(state=AgentStateName.LOST, offset_ms=offset_ms(session)))
    add_notice(
        session_id=session_id,
        level=NoticeLevel.WARNING,
        code=NoticeCode.AGENT_LOST,
        text="The agent was lost. Please stay: another one is being called.",
    )
    return True


def note_agent_back(*, session_id: uuid.UUID) -> bool:
    """A job that was taken for lost beats again: it only stood still. True for the caller that noticed first."""
    changed = LiveSession.objects.filter(
        pk=session_id, state=SessionState.ACTIVE, agent_state=AgentStateName.LOST
    ).update(agent_state=AgentStateName.LISTENING, agent_lost_at=None)
    if not changed:
        return False
    session = LiveSession.objects.get(pk=session_id)
    Participant.objects.filter(session=session, kind=ParticipantKind.AGENT).update(left_at=None)
    publish(session_id, events.AgentStateEvent(state=AgentStateName.LISTENING, offset_ms=offset_ms(session)))
    add_notice(session_id=session_id, level=NoticeLevel.INFO, code=NoticeCode.AGENT_BACK, text="The agent is back.")
    return True


def note_visitor_joined(*, session_id: uuid.UUID) -> None:
    """The visitor was seen in the room or on the page. Only the first time changes anything."""
    now = timezone.now()
    first = LiveSession.objects.filter(pk=session_id, visitor_joined_at=None).update(visitor_joined_at=now)
    if first:
        Participant.objects.filter(session_id=session_id, kind=ParticipantKind.VISITOR, joined_at=None).update(
            joined_at=now
        )


def record_segment(
    *,
    session_id: uuid.UUID,
    segment_id: str,
    role: str,
    text: str,
    start_ms: int,
    end_ms: int,
    interrupted: bool = False,
    revised: bool = False,
) -> Segment:
    """Write one settled utterance and tell everyone. The same `segment_id` again returns the stored one.

    `seq` is counted under the session row's lock, so numbers are dense and in the order of writing.
    """
    with transaction.atomic():
        session = LiveSession.objects.select_for_update().get(pk=session_id)
        stored = Segment.objects.filter(session=session, segment_id=segment_id).first()
        if stored is not None:
            return stored
        session.last_seq += 1
        session.save(update_fields=["last_seq"])
        segment = Segment.objects.create(
            session=session,
            seq=session.last_seq,
            segment_id=segment_id,
            role=role,
            text=clean_text(text),
            start_ms=max(0, start_ms),
            end_ms=max(0, start_ms, end_ms),
            interrupted=interrupted,
            revised=revised,
        )
        publish_on_commit(session_id, final_event(segment, offset=offset_ms(session)))
    return segment


def final_event(segment: Segment, *, offset: int) -> events.TranscriptFinal:
    return events.TranscriptFinal(offset_ms=offset, **segment_data(segment).model_dump())


def segment_data(segment: Segment) -> events.SegmentData:
    return events.SegmentData.model_validate({name: getattr(segment, name) for name in events.SegmentData.model_fields})


@dataclass(frozen=True)
class Latency:
    """Parts of one turn in milliseconds; None is unknown."""

    endpointing_ms: int | None = None
    stt_ms: int | None = None
    llm_ms: int | None = None
    tts_ms: int | None = None
    avatar_ms: int | None = None
    total_ms: int | None = None


def record_turn(
    *,
    session_id: uuid.UUID,
    index: int,
    latency: Latency,
    user_segment_id: str = "",
    agent_segment_id: str = "",
    interrupted: bool = False,
) -> Turn:
    """Write one turn and publish its latency. The same index again returns the stored one."""
    parts = {name: getattr(latency, name) for name in latency.__dataclass_fields__}
    try:
        with transaction.atomic():
            turn = Turn.objects.create(
                session_id=session_id,
                index=index,
                user_segment_id=user_segment_id,
                agent_segment_id=agent_segment_id,
                interrupted=interrupted,
                **parts,
            )
    except IntegrityError:
        return Turn.objects.get(session_id=session_id, index=index)
    session = LiveSession.objects.get(pk=session_id)
    publish(session_id, events.TurnMetrics(turn=index, offset_ms=offset_ms(session), **parts))
    return turn


def record_session_usage(*, session_id: uuid.UUID, usage: Usage) -> UsageRecord:
    """Write what a provider was used for in a conversation, which nobody deletes meanwhile."""
    with transaction.atomic():
        session = LiveSession.objects.select_for_update().only("project_id").get(pk=session_id)
        return record_usage(owner=session, usage=usage)


def add_notice(
    *, session_id: uuid.UUID, level: NoticeLevel, code: NoticeCode, text: str, once: bool = False, reason: str = ""
) -> None:
    """Tell the visitor something about how the conversation runs, and keep it for the timeline; `reason` is kept for
    admins alone."""
    text, reason = (clean_line(hide_secrets(words)) for words in (text, reason))  # they may be a vendor's
    with transaction.atomic():
        session = LiveSession.objects.select_for_update().get(pk=session_id)
        if once and SessionNotice.objects.filter(session=session, code=code).exists():
            return
        SessionNotice.objects.create(session=session, level=level, code=code, text=text, reason=reason[:MAX_REASON])
        notice = events.NoticeEvent(level=level, code=code, text=text, offset_ms=offset_ms(session))
        publish_on_commit(session_id, notice)


def failed_talks() -> Q:
    """Conversations that failed: they broke off, or visitors were told that something needed did not work at all."""
    told = SessionNotice.objects.filter(level=NoticeLevel.ERROR).order_by().values("session")
    return Q(state=SessionState.FAILED) | Q(reason__in=FAILURES) | Q(pk__in=told)


# -- Ending -----------------------------------------------------------------------------------------------------------
def end_session(*, session_id: uuid.UUID, reason: str) -> bool:
    """End a live session and close its room. True for the one caller that ended it.

    A media server that is out of reach does not stop it: the reconciler closes the room later.
    """
    state = SessionState.FAILED if reason in FAILURES else SessionState.ENDED
    now = timezone.now()
    with transaction.atomic():
        changed = LiveSession.objects.filter(pk=session_id, state__in=LIVE_STATES).update(
            state=state, reason=reason, ended_at=now
        )
        if not changed:
            return False
        Participant.objects.filter(session_id=session_id, left_at=None).exclude(joined_at=None).update(left_at=now)
        session = LiveSession.objects.select_related("agent", "project").get(pk=session_id)
        told.tell_ended(session)
    ended = events.SessionStateEvent(state=state, reason=EndReason(reason), offset_ms=offset_ms(session, now))
    publish(session_id, ended)
    close_room(session=session)
    return True


def end_sessions_of_agents(*, agent_ids: Sequence[uuid.UUID]) -> None:
    """For agents that are about to be deleted, so that nobody is left in a room with no record. Calls the media server:
    not inside a transaction."""
    running = LiveSession.objects.filter(agent__in=agent_ids, state__in=LIVE_STATES).order_by()
    for session_id in list(running.values_list("pk", flat=True)):
        end_session(session_id=session_id, reason=EndReason.ENDED_BY_API)


def close_room(*, session: LiveSession) -> bool:
    """Close the room of a session that is over; False when the media server did not answer."""
    try:
        async_to_sync(rooms.close_room)(session.room_name)
    except MoltsError:
        return False
    LiveSession.objects.filter(pk=session.pk).update(room_closed_at=timezone.now())
    return True


def erase_session(*, session_id: uuid.UUID) -> None:
    """Delete what was said and who was there, also what webhooks were told. A running conversation is ended first."""
    end_session(session_id=session_id, reason=EndReason.ENDED_BY_USER)
    with transaction.atomic():
        session = LiveSession.objects.select_related("project").filter(pk=session_id).first()
        if session is not None:
            told.forget(session)
            session.delete()


def require_live(session: LiveSession) -> None:
    """Raises Conflict when the conversation is over."""
    if not session.is_live:
        raise Conflict("This conversation is over.", code="session_ended")


def session_data(session: LiveSession) -> events.SessionData:
    """What a page must know of the session."""
    return events.SessionData(
        id=session.pk,
        state=SessionState(session.state),
        reason=EndReason(session.reason) if session.reason else None,
        agent_name=session.agent_snapshot.name,
        agent_state=AgentStateName(session.agent_state),
        started_at=session.created_at,
        ended_at=session.ended_at,
        max_seconds=session.max_seconds,
    )
