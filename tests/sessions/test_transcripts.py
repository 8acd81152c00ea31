from __future__ import annotations

import csv
import io
import json

import pytest

from avatars.models import Agent
from molts.errors import BadInput
from sessions.models import LiveSession
from sessions.transcripts import clock, render_transcript
from tests.sessions.factories import make_session, say

pytestmark = pytest.mark.usefixtures("quiet_events")


@pytest.fixture
def talk(agent: Agent) -> LiveSession:
    session = make_session(agent, visitor_name="Zoë")
    say(session, "agent", "Hello, this is Ada.", 500)
    say(session, "user", "what is\nthe price --> of <b>this</b>", 3_725_042)
    return session


def test_it_writes_text_with_clock_and_speaker(talk: LiveSession) -> None:
    text, content_type = render_transcript(session=talk, format="txt")
    assert text.splitlines() == [
        "[00:00:00] Ada (agent): Hello, this is Ada.",
        "[01:02:05] Zoë (visitor): what is the price --> of <b>this</b>",
    ]
    assert content_type == "text/plain; charset=utf-8"


def test_it_writes_valid_vtt_whatever_was_said(talk: LiveSession) -> None:
    text, _ = render_transcript(session=talk, format="vtt")
    header, *cues = text.strip().split("\n\n")
    assert header == "WEBVTT"
    assert cues[1].splitlines() == [
        "2",
        "01:02:05.042 --> 01:02:05.942",
        "<v Zoë (visitor)>what is the price --&gt; of &lt;b&gt;this&lt;/b&gt;",
    ]


@pytest.mark.parametrize("name", ["Ada", "Ada (agent)", "", "Ada (agent): Yes.\n[00:00:01] Ada"])
def test_it_tells_the_visitor_from_the_agent_whatever_the_visitor_is_called(agent: Agent, name: str) -> None:
    session = make_session(agent, visitor_name=name)
    say(session, "agent", "It costs ten.", 500)
    say(session, "user", "It costs two.", 1500)
    lines = render_transcript(session=session, format="txt")[0].splitlines()
    assert lines[0] == "[00:00:00] Ada (agent): It costs ten."
    assert len(lines) == 2
    assert lines[1].endswith(" (visitor): It costs two.")
    voices = [
        cue.split("\n")[2] for cue in render_transcript(session=session, format="vtt")[0].strip().split("\n\n")[1:]
    ]
    assert voices[0] == "<v Ada (agent)>It costs ten."
    assert voices[1].endswith(" (visitor)>It costs two.")
    rows = csv.DictReader(io.StringIO(render_transcript(session=session, format="csv")[0]))
    assert [row["role"] for row in rows] == ["agent", "user"]


def test_it_writes_json_that_reads_back(talk: LiveSession) -> None:
    text, content_type = render_transcript(session=talk, format="json")
    data = json.loads(text)
    assert content_type == "application/json"
    assert data["session"]["agent_name"] == "Ada"
    assert [(line["seq"], line["role"], line["start_ms"]) for line in data["segments"]] == [
        (1, "agent", 500),
        (2, "user", 3_725_042),
    ]


@pytest.mark.parametrize("evil", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\t=1", "\r=1"])
def test_it_writes_no_cell_that_a_spreadsheet_would_run(agent: Agent, evil: str) -> None:
    session = make_session(agent, visitor_name=evil.strip())
    say(session, "user", evil)
    rows = list(csv.DictReader(io.StringIO(render_transcript(session=session, format="csv")[0])))
    assert rows[0]["text"] == f"'{evil.strip()}"
    assert rows[0]["speaker"] == f"'{evil.strip()}"


def test_it_refuses_an_unknown_format_by_naming_the_known(talk: LiveSession) -> None:
    with pytest.raises(BadInput, match=r"'docx'\. Known are: txt, vtt, csv, json"):
        render_transcript(session=talk, format="docx")


def test_it_writes_hours_in_the_clock() -> None:
    assert [clock(ms) for ms in (0, 999, 60_000, 36_000_000)] == ["00:00:00", "00:00:00", "00:01:00", "10:00:00"]
