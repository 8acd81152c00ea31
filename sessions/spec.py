"""All a job needs to hold a conversation, read from the database once.

What is stored with a session (`LiveSession.spec`) is the agent's snapshot at the start, without secrets. `load_spec`
adds the decrypted credentials; they live in the job's memory only.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from avatars.engines import STILL
from avatars.services import credentials_of, open_rungs
from avatars.snapshots import AgentSnapshot, AvatarSnapshot
from molts.errors import NotFound
from projects.providers.base import PIPELINE, Credentials, KeyedRung, Kind, Persona
from sessions.lines import open_lines
from sessions.models import LiveSession, Segment

HISTORY_SEGMENTS = 40  # how much of the talk a replacement agent is given


@dataclass(frozen=True)
class TurnTaking:
    """Seconds of silence that end the visitor's turn, and whether meaning is judged besides."""

    end_of_turn_model: bool
    min_endpointing: float
    max_endpointing: float
    allow_interruptions: bool


@dataclass(frozen=True)
class HistoryLine:
    """`is_open`: the visitor's, and not answered yet."""

    role: str
    text: str
    is_open: bool = False


@dataclass(frozen=True)
class FaceSpec:
    """The agent's face as the session started with it. `engine` is an engine of ours or a hosted service; `portrait` a
    path in the media storage, or ""."""

    name: str
    engine: str
    options: Mapping[str, Any]
    portrait: str
    credentials: Credentials


@dataclass(frozen=True)
class SessionSpec:
    """One conversation, resolved. `generation` is the dispatch this job answers."""

    session_id: uuid.UUID
    room_name: str
    visitor_identity: str
    visitor_name: str
    started_at: datetime
    generation: int
    last_turn: int
    persona: Persona
    chains: Mapping[Kind, tuple[KeyedRung, ...]]
    turn_taking: TurnTaking
    face: FaceSpec | None
    history: tuple[HistoryLine, ...]

    @property
    def credentials(self) -> list[Credentials]:
        """All that are opened for it."""
        faces = [self.face.credentials] if self.face else []
        return [*(rung.credentials for rungs in self.chains.values() for rung in rungs), *faces]

    @property
    def is_resumed(self) -> bool:
        """Whether words were already said, so that a replacement agent does not greet again."""
        return bool(self.history)

    @property
    def answered_history(self) -> tuple[HistoryLine, ...]:
        """What was said, without the visitor's last lines that nobody has answered yet."""
        return tuple(line for line in self.history if not line.is_open)


def load_spec(session_id: uuid.UUID) -> SessionSpec:
    """Raises NotFound for an unknown session and BadConfiguration when a stored secret cannot be decrypted."""
    session = LiveSession.objects.filter(pk=session_id).first()
    if session is None:
        raise NotFound("There is no such session.")
    return build_spec(session)


def load_face(session_id: uuid.UUID) -> FaceSpec | None:
    """The face of a session, None when it has none. Raises NotFound for an unknown session."""
    session = LiveSession.objects.filter(pk=session_id).first()
    if session is None:
        raise NotFound("There is no such session.")
    return _face(session, session.agent_snapshot.avatar)


def build_spec(session: LiveSession) -> SessionSpec:
    snapshot = session.agent_snapshot
    last = session.turns.order_by("-index").values_list("index", flat=True).first()
    return SessionSpec(
        session_id=session.pk,
        room_name=session.room_name,
        visitor_identity=session.visitor_identity,
        visitor_name=session.visitor_name,
        started_at=session.created_at,
        generation=session.dispatch_generation,
        last_turn=last or 0,
        persona=_persona(snapshot),
        chains={kind: open_rungs(project_id=session.project_id, rungs=snapshot.steps(kind)) for kind in PIPELINE},
        turn_taking=TurnTaking(
            end_of_turn_model=snapshot.turn.end_of_turn_model,
            min_endpointing=snapshot.turn.min_endpointing_ms / 1000,
            max_endpointing=snapshot.turn.max_endpointing_ms / 1000,
            allow_interruptions=snapshot.turn.allow_interruptions,
        ),
        face=_face(session, snapshot.avatar),
        history=_history(session),
    )


def _persona(snapshot: AgentSnapshot) -> Persona:
    return Persona(
        name=snapshot.name,
        language=snapshot.language,
        instructions=snapshot.instructions,
        greeting=snapshot.greeting,
        knowledge=snapshot.knowledge,
        answers=snapshot.answers,
    )


def _face(session: LiveSession, avatar: AvatarSnapshot | None) -> FaceSpec | None:
    """None for agents without a face, and for one that stays still."""
    if avatar is None or avatar.engine == STILL:
        return None
    return FaceSpec(
        name=avatar.name,
        engine=avatar.engine,
        options=avatar.options,
        portrait=avatar.portrait,
        credentials=credentials_of(project_id=session.project_id, key_id=avatar.provider_key),
    )


def _history(session: LiveSession) -> tuple[HistoryLine, ...]:
    latest = Segment.objects.filter(session=session).order_by("-seq")[:HISTORY_SEGMENTS]
    still_open = {line.segment_id for line in open_lines(session_id=session.pk)}
    return tuple(
        HistoryLine(segment.role, segment.text, is_open=segment.segment_id in still_open)
        for segment in reversed(latest)
    )
