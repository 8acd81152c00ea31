"""A conversation's transcript as a file: TXT, VTT, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence

from molts.errors import BadInput
from sessions import services
from sessions.captions import Cue, cues
from sessions.choices import Role
from sessions.models import LiveSession, Segment

CONTENT_TYPES = {
    "txt": "text/plain; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
}
BYTE_ORDER_MARK = "\ufeff"  # without it a spreadsheet takes a CSV file for one in an encoding of its own
# Spreadsheets in Japanese and Chinese take the wide ones for the same.
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001


def render_transcript(*, session: LiveSession, format: str) -> tuple[str, str]:
    """(text, content type). Raises BadInput for an unknown format."""
    writer = _WRITERS.get(format)
    if writer is None:
        known = ", ".join(CONTENT_TYPES)
        raise BadInput(f"Unknown transcript format {format[:20]!r}. Known are: {known}.", attr="format")
    segments = list(session.segments.order_by("seq"))
    return writer(session, segments), CONTENT_TYPES[format]


def clock(milliseconds: int) -> str:
    """HH:MM:SS."""
    seconds = milliseconds // 1000
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def speaker(session: LiveSession, segment: Segment) -> str:
    """A name; visitors choose theirs, so it says nothing about who is who."""
    if segment.role == Role.AGENT:
        return session.agent_snapshot.name
    return session.visitor_name or "Visitor"


def _marked_speaker(session: LiveSession, segment: Segment) -> str:
    """The name with what its bearer is, for files that have no place of its own for that."""
    kind = "agent" if segment.role == Role.AGENT else "visitor"
    return f"{_one_line(speaker(session, segment))} ({kind})"


def _txt(session: LiveSession, segments: Sequence[Segment]) -> str:
    lines = [
        f"[{clock(segment.start_ms)}] {_marked_speaker(session, segment)}: {_one_line(segment.text)}"
        for segment in segments
    ]
    return "\n".join(lines) + "\n"


def _vtt(session: LiveSession, segments: Sequence[Segment]) -> str:
    """Cues are named by the number of their utterance; of one that has several, each says which it is."""
    shown = list(cues(Cue(segment.text, segment.start_ms, segment.end_ms) for segment in segments))
    written = ["WEBVTT"]
    parts = Counter(index for index, _ in shown)
    seen: Counter[int] = Counter()
    for index, cue in shown:
        seen[index] += 1
        number = f"{segments[index].seq}" + (f".{seen[index]}" if parts[index] > 1 else "")
        times = f"{_vtt_time(cue.start_ms)} --> {_vtt_time(cue.end_ms)}"
        said_by = _vtt_text(_marked_speaker(session, segments[index]))
        written.append(f"{number}\n{times}\n<v {said_by}>{_vtt_text(cue.text)}")
    return "\n\n".join(written) + "\n"


def _csv(session: LiveSession, segments: Sequence[Segment]) -> str:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["seq", "role", "speaker", "start_ms", "end_ms", "interrupted", "text"])
    for segment in segments:
        rows.writerow(
            [
                segment.seq,
                segment.role,
                _cell(speaker(session, segment)),
                segment.start_ms,
                segment.end_ms,
                "yes" if segment.interrupted else "no",
                _cell(segment.text),
            ]
        )
    return BYTE_ORDER_MARK + out.getvalue()


def _json(session: LiveSession, segments: Sequence[Segment]) -> str:
    return json.dumps(
        {
            "session": services.session_data(session).model_dump(mode="json"),
            "segments": [services.segment_data(segment).model_dump(mode="json") for segment in segments],
        },
        ensure_ascii=False,
        indent=2,
    )


_WRITERS: dict[str, Callable[[LiveSession, Sequence[Segment]], str]] = {
    "txt": _txt,
    "vtt": _vtt,
    "csv": _csv,
    "json": _json,
}


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _vtt_time(milliseconds: int) -> str:
    return f"{clock(milliseconds)}.{milliseconds % 1000:03d}"


def _vtt_text(text: str) -> str:
    return _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cell(text: str) -> str:
    """A spreadsheet would run a cell that begins like a formula."""
    text = _one_line(text)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
