"""What the page of a conversation draws: who spoke when, and how long each answer took, part by part.

The page draws it (`static/src/talk/`), for conversations that are over and for those that run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from molts.percentiles import percentile
from sessions.choices import PART_NAMES
from sessions.events import SegmentData
from sessions.models import LiveSession, Segment, SessionNotice, Turn
from sessions.services import offset_ms, segment_data


class Mark(BaseModel):
    """A notice at its moment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_ms: int
    level: str
    text: str


class Timeline(BaseModel):
    """Lines and notices of a conversation or of a part of it, and from when to when they are drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start_ms: int
    end_ms: int
    segments: tuple[SegmentData, ...]
    notices: tuple[Mark, ...]


def timeline(
    *, session: LiveSession, segments: Sequence[Segment], notices: Sequence[SessionNotice], first: bool, last: bool
) -> Timeline:
    """The timeline of `segments`.

    Where they are the conversation's `first` or `last` lines, it begins or ends with the conversation itself.
    """
    marks = tuple(
        Mark(
            at_ms=offset_ms(session, notice.created_at),
            level=notice.level,
            text=f"{notice.text} {notice.reason}".rstrip(),
        )
        for notice in notices
    )
    ends = [segment.end_ms for segment in segments]
    if last:  # some notices come after the end
        ends += [offset_ms(session, session.ended_at), *(mark.at_ms for mark in marks)]
    return Timeline(
        start_ms=0 if first or not segments else segments[0].start_ms,
        end_ms=max(ends, default=0),
        segments=tuple(map(segment_data, segments)),
        notices=marks,
    )


@dataclass(frozen=True)
class Wait:
    """How long one turn's answer took."""

    turn: Turn

    @property
    def cells(self) -> list[int | None]:
        """The parts and their total, in order; None is unknown."""
        return [getattr(self.turn, f"{name}_ms") for name in PART_NAMES]

    @property
    def data(self) -> dict[str, Any]:
        """For the page, with the names that the event of a turn has."""
        return {"turn": self.turn.index, **{f"{name}_ms": getattr(self.turn, f"{name}_ms") for name in PART_NAMES}}


def percentiles(totals: Sequence[int]) -> tuple[int | None, int | None]:
    """Median and 95th percentile in milliseconds; None where nothing was measured."""
    middle, slow = percentile(totals, 50), percentile(totals, 95)
    return (None, None) if middle is None or slow is None else (round(middle), round(slow))
