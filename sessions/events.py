"""Everything the server tells a page, as types. One JSON object a message; unknown fields are a programming error.

The WebSocket contract is built from exactly these models: they are encoded once (`encode`) and the same text goes to
every socket of the session.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from django.db.models import TextChoices
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema

from sessions.choices import AgentStateName, EndReason, NoticeCode, NoticeLevel, Role, SessionState


def _listed(values: type[TextChoices]) -> WithJsonSchema:
    """For the description of REST: names the values where they stand, not as a type of their own."""
    return WithJsonSchema({"enum": list(values.values), "type": "string"})


RoleValue = Annotated[Role, _listed(Role)]
AgentStateValue = Annotated[AgentStateName, _listed(AgentStateName)]
SessionStateValue = Annotated[SessionState, _listed(SessionState)]
EndReasonValue = Annotated[EndReason, _listed(EndReason)]


def _now() -> datetime:
    return datetime.now(UTC)


class Event(BaseModel):
    """Base: `at` is UTC, `offset_ms` milliseconds since the session was started (its row created)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: datetime = Field(default_factory=_now)
    offset_ms: int = 0


class SegmentData(BaseModel):
    """A settled utterance. Times are milliseconds since the session's start."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seq: int
    segment_id: str
    role: RoleValue = Field(title="Role")  # as other fields are: pydantic gives an enum none
    text: str
    start_ms: int
    end_ms: int
    interrupted: bool = False
    revised: bool = False


class SessionData(BaseModel):
    """What a page must know of a session to draw itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: UUID
    state: SessionStateValue = Field(title="State")
    reason: EndReasonValue | None = Field(title="Reason")
    agent_name: str
    agent_state: AgentStateValue = Field(title="Agent State")
    started_at: datetime
    ended_at: datetime | None
    max_seconds: int | None


class SnapshotEvent(Event):
    """First message of every connection: the session and the segments after `?after=`."""

    type: Literal["snapshot"] = "snapshot"
    session: SessionData
    segments: list[SegmentData]
    last_seq: int


class TranscriptPartial(Event):
    type: Literal["transcript.partial"] = "transcript.partial"
    segment_id: str
    role: RoleValue
    text: str


class TranscriptFinal(Event):
    type: Literal["transcript.final"] = "transcript.final"
    seq: int
    segment_id: str
    role: RoleValue
    text: str
    start_ms: int
    end_ms: int
    interrupted: bool = False
    revised: bool = False


class AgentStateEvent(Event):
    type: Literal["agent.state"] = "agent.state"
    state: AgentStateValue


class SessionStateEvent(Event):
    type: Literal["session.state"] = "session.state"
    state: SessionStateValue
    reason: EndReasonValue | None = None


class TurnMetrics(Event):
    """Parts are disjoint and sum to the measured total within 50 ms; unknown = null."""

    type: Literal["turn.metrics"] = "turn.metrics"
    turn: int
    endpointing_ms: int | None = None
    stt_ms: int | None = None
    llm_ms: int | None = None
    tts_ms: int | None = None
    avatar_ms: int | None = None
    total_ms: int | None = None


class UsageEvent(Event):
    """Cost so far; null until everything used is priced."""

    type: Literal["usage"] = "usage"
    cost: str | None = None
    currency: str = "USD"


class NoticeEvent(Event):
    type: Literal["notice"] = "notice"
    level: NoticeLevel
    code: NoticeCode
    text: str


class Pong(Event):
    """The answer to a message that a reader sends, to that reader alone: what happens would still reach it."""

    type: Literal["pong"] = "pong"


SessionEvent = Annotated[
    SnapshotEvent
    | TranscriptPartial
    | TranscriptFinal
    | AgentStateEvent
    | SessionStateEvent
    | TurnMetrics
    | UsageEvent
    | NoticeEvent
    | Pong,
    Field(discriminator="type"),
]
adapter: TypeAdapter[SessionEvent] = TypeAdapter(SessionEvent)


def encode(event: SessionEvent) -> str:
    """JSON text of `event`, as every socket gets it."""
    return event.model_dump_json()


def decode(text: str) -> SessionEvent:
    """Inverse of `encode`. Raises pydantic.ValidationError on anything else."""
    return adapter.validate_json(text)
