"""Lines that are put into a conversation from outside the room, and those that still wait for an answer."""

from __future__ import annotations

import uuid
from collections.abc import Collection

from molts.errors import BadInput, Conflict
from molts.text import clean_text
from sessions import orders, presence
from sessions.choices import AgentStateName, Role
from sessions.models import LiveSession, Segment
from sessions.services import MAX_TEXT, require_live

MOST_OPEN = 20


def line_id(*, session_id: uuid.UUID, name: str) -> str:
    """The id of a line that its sender calls `name`: the same whenever it is sent, and never that of another's line."""
    return str(uuid.uuid5(session_id, name.lower()))


def say(*, session: LiveSession, text: str, speaker: str, name: str = "") -> uuid.UUID:
    """Have the agent hear `text` from the visitor (`user`) or say it (`agent`). Returns the order's id, which its line
    in the transcript has too; one of the same `name` is the same order, and carried out once.

    It is kept until an agent has dealt with it, be it the next one. Raises BadInput for unusable text, Conflict when
    the conversation is over or no agent has come to it, and Unavailable.
    """
    text = clean_text(text)
    if not text:
        raise BadInput("There is no text to say.", attr="text")
    if len(text) > MAX_TEXT:
        raise BadInput(f"The text is too long: at most {MAX_TEXT} characters.", attr="text")
    require_live(session)
    if not _is_attended(session):
        raise Conflict("No agent is in the room to take it. Try again in a moment.", code="no_agent")
    order = uuid.UUID(line_id(session_id=session.pk, name=name)) if name else uuid.uuid4()
    orders.give_order(session.pk, orders.Order(str(order), speaker, text))
    return order


def _is_attended(session: LiveSession) -> bool:
    """Whether an agent is there or on its way into the room."""
    if session.agent_state not in (AgentStateName.INITIALIZING, AgentStateName.LOST):
        return True
    return presence.presence(session.pk).agent_generation is not None


def new_id() -> str:
    """For what is said by itself: by the visitor, or by the agent as an answer."""
    return uuid.uuid4().hex


def aside_id() -> str:
    """For what the agent says beside its answers: orders have ids of the same form."""
    return str(uuid.uuid4())


def is_answer(segment_id: str) -> bool:
    """Whether a line of the agent with this id is an answer, and not what a program had it say or an aside."""
    return "-" not in segment_id


def open_lines(*, session_id: uuid.UUID, not_of: Collection[str] = ()) -> list[Segment]:
    """The visitor's last lines, when nobody has answered them; those whose ids are in `not_of` do not count.

    An answer that was cut short, and by no word of the visitor, is none: the job that gave it came to its end. Nor is
    what the agent says beside its answers.
    """
    lines: list[Segment] = []
    for segment in Segment.objects.filter(session_id=session_id).order_by("-seq")[:MOST_OPEN]:
        if segment.segment_id in not_of:
            continue
        if segment.role == Role.USER:
            lines.append(segment)
        elif is_answer(segment.segment_id) and (lines or not segment.interrupted):
            break
    return lines[::-1]


def recorded_ids(*, session_id: uuid.UUID) -> set[str]:
    """Ids of the lines in the transcript."""
    return set(Segment.objects.filter(session_id=session_id).values_list("segment_id", flat=True))
