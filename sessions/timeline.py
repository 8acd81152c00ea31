"""A conversation as a picture: who spoke when on one axis, and how long each answer took, part by part.

Everything is placed in percent of the width, so that the same picture serves a phone and a desk, and a page that
follows a running conversation can place it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from molts.percentiles import percentile
from sessions.choices import PART_NAMES
from sessions.models import LiveSession, Segment, SessionNotice, Turn
from sessions.services import offset_ms
from sessions.transcripts import clock

PARTS = tuple(name for name in PART_NAMES if name != "total")
LEAST_MS = 10_000  # a conversation of one word is not stretched over the whole width
PIXELS_A_SECOND = 7
MOST_PIXELS = 6_000
LEAST_PART = 0.003  # of the width: what was typed took no time, and is seen all the same
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # seconds between two marks of the axis
PIXELS_A_TICK = 70


@dataclass(frozen=True)
class Bar:
    """One utterance on its speaker's lane."""

    role: str
    seq: int
    start_ms: int
    end_ms: int
    interrupted: bool
    text: str
    x: str
    width: str

    @property
    def title(self) -> str:
        note = " (interrupted)" if self.interrupted else ""
        return f"{clock(self.start_ms)}–{clock(self.end_ms)}{note}: {self.text[:200]}"


@dataclass(frozen=True)
class Mark:
    """A notice at its moment."""

    at_ms: int
    level: str
    title: str
    x: str


@dataclass(frozen=True)
class Tick:
    """A labelled moment of the axis."""

    label: str
    x: str


@dataclass(frozen=True)
class Timeline:
    start_ms: int
    end_ms: int
    pixels: int
    bars: tuple[Bar, ...]
    marks: tuple[Mark, ...]
    ticks: tuple[Tick, ...]

    @property
    def in_words(self) -> str:
        """What the picture shows, for whoever does not see it."""
        said = [
            f"{name} spoke {len(bars)} times, {clock(sum(bar.end_ms - bar.start_ms for bar in bars))} in all"
            for name, role in (("the visitor", "user"), ("the agent", "agent"))
            if (bars := [bar for bar in self.bars if bar.role == role])
        ]
        cut = sum(bar.interrupted for bar in self.bars)
        extras = [f"{cut} interrupted"] * bool(cut) + [f"{len(self.marks)} notices"] * bool(self.marks)
        span = f"From {clock(self.start_ms)} to {clock(self.end_ms)}"
        return f"{span}: {', '.join([*said, *extras]) or 'nobody spoke'}."


def draw_timeline(
    *, session: LiveSession, segments: Sequence[Segment], notices: Sequence[SessionNotice], first: bool, last: bool
) -> Timeline:
    """The picture of `segments` and of the notices beside them.

    Where they are the conversation's `first` or `last` lines, it begins or ends with the conversation itself.
    """
    over = offset_ms(session, session.ended_at)
    start = 0 if first or not segments else segments[0].start_ms
    end = max([segment.end_ms for segment in segments], default=0)
    end = max(end, over, start + LEAST_MS) if last else max(end, start + LEAST_MS)
    span = end - start

    pixels = min(MOST_PIXELS, round(span / 1000 * PIXELS_A_SECOND))

    def percent(milliseconds: float) -> str:
        return f"{max(0.0, min(100.0, 100 * milliseconds / span)):.3f}%"

    moments = [(offset_ms(session, notice.created_at), notice) for notice in notices]
    return Timeline(
        start_ms=start,
        end_ms=end,
        pixels=pixels,
        bars=tuple(
            Bar(
                role=segment.role,
                seq=segment.seq,
                start_ms=segment.start_ms,
                end_ms=segment.end_ms,
                interrupted=segment.interrupted,
                text=segment.text,
                x=percent(segment.start_ms - start),
                width=percent(max(segment.end_ms - segment.start_ms, LEAST_PART * span)),
            )
            for segment in segments
        ),
        marks=tuple(
            Mark(
                at_ms=at,
                level=notice.level,
                title=f"{clock(at)} {notice.text} {notice.reason}".rstrip(),
                x=percent(at - start),
            )
            for at, notice in moments
            if start <= at <= end
        ),
        ticks=tuple(Tick(label=_short(at), x=percent(at - start)) for at in _ticks(start, end, pixels)),
    )


def _ticks(start: int, end: int, pixels: int) -> range:
    """Moments with room for a label each."""
    a_second = pixels / (end - start) * 1000
    step = next((seconds for seconds in STEPS if seconds * a_second >= PIXELS_A_TICK), STEPS[-1]) * 1000
    return range(-(-start // step) * step, end - (end - start) // 30, step)  # the last one's label has room


def _short(milliseconds: int) -> str:
    """M:SS, with hours only where there are any."""
    hours, rest = divmod(milliseconds // 1000, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


@dataclass(frozen=True)
class Part:
    """One part of a wait: what it was spent on, and its place in the bar."""

    name: str
    ms: int
    x: str
    width: str

    @property
    def title(self) -> str:
        return f"{PART_NAMES.get(self.name, 'Not measured in parts')} {self.ms} ms"


@dataclass(frozen=True)
class Wait:
    """How long one turn's answer took."""

    turn: Turn
    parts: tuple[Part, ...]

    @property
    def cells(self) -> list[int | None]:
        """The parts and their total, in order; None is unknown."""
        return [getattr(self.turn, f"{name}_ms") for name in (*PARTS, "total")]


def draw_waits(turns: Sequence[Turn]) -> list[Wait]:
    """A bar for each turn, all on one scale: the longest takes the whole width."""
    longest = max([_sum(turn) for turn in turns], default=0) or 1
    return [Wait(turn=turn, parts=tuple(_parts(turn, longest))) for turn in turns]


def _sum(turn: Turn) -> int:
    return max(turn.total_ms or 0, sum(getattr(turn, f"{name}_ms") or 0 for name in PARTS))


def _parts(turn: Turn, longest: int) -> list[Part]:
    parts, at = [], 0
    for name in PARTS:
        ms = getattr(turn, f"{name}_ms") or 0
        if ms:
            parts.append(Part(name=name, ms=ms, x=f"{100 * at / longest:.3f}%", width=f"{100 * ms / longest:.3f}%"))
        at += ms
    if not parts and turn.total_ms:  # only the whole is known
        parts.append(Part(name="unknown", ms=turn.total_ms, x="0%", width=f"{100 * turn.total_ms / longest:.3f}%"))
    return parts


def percentiles(totals: Sequence[int]) -> tuple[int | None, int | None]:
    """Median and 95th percentile in milliseconds; None where nothing was measured."""
    middle, slow = percentile(totals, 50), percentile(totals, 95)
    return (None, None) if middle is None or slow is None else (round(middle), round(slow))
