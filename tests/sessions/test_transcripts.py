# ruff: noqa: RUF001 - other scripts
from __future__ import annotations

import codecs
import csv
import io
import json
from itertools import pairwise

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
        "01:02:05.042 --> 01:02:07.160",
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


@pytest.mark.parametrize("evil", ["=1+1", "+cmd", "-2", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1+1", "\uff20SUM(A1)"])
def test_it_writes_no_cell_that_a_spreadsheet_would_run(agent: Agent, evil: str) -> None:
    session = make_session(agent, visitor_name=evil.strip())
    say(session, "user", evil)
    rows = list(csv.DictReader(io.StringIO(render_transcript(session=session, format="csv")[0])))
    assert rows[0]["text"] == f"'{evil.strip()}"
    assert rows[0]["speaker"] == f"'{evil.strip()}"


@pytest.mark.parametrize("name", ["Zoë", "زوي", "佐伊", "Zoe"])
def test_a_spreadsheet_reads_its_csv_as_utf_8(agent: Agent, name: str) -> None:
    session = make_session(agent, visitor_name=name)
    say(session, "user", f"{name}?")

    written = render_transcript(session=session, format="csv")[0].encode()

    assert written.startswith(codecs.BOM_UTF8)
    row = next(csv.DictReader(io.StringIO(written.decode("utf-8-sig"))))
    assert (row["seq"], row["speaker"], row["text"]) == ("1", name, f"{name}?")


def test_it_refuses_an_unknown_format_by_naming_the_known(talk: LiveSession) -> None:
    with pytest.raises(BadInput, match=r"'docx'\. Known are: txt, vtt, csv, json"):
        render_transcript(session=talk, format="docx")


def test_it_writes_hours_in_the_clock() -> None:
    assert [clock(ms) for ms in (0, 999, 60_000, 36_000_000)] == ["00:00:00", "00:00:00", "00:01:00", "10:00:00"]


def spans(text: str) -> list[tuple[str, float, float, str]]:
    """(number, start, end, words) of each cue, times in seconds."""

    def seconds(clock: str) -> float:
        hours, minutes, rest = clock.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)

    found = []
    for cue in text.strip().split("\n\n")[1:]:
        number, times, words = cue.splitlines()
        start, end = times.split(" --> ")
        found.append((number, seconds(start), seconds(end), words.partition(">")[2]))
    return found


def vtt_of(agent: Agent, *lines: tuple[str, str, int, int]) -> list[tuple[str, float, float, str]]:
    session = make_session(agent)
    for role, text, start, end in lines:
        say(session, role, text, start, end_ms=end)
    return spans(render_transcript(session=session, format="vtt")[0])


def test_a_line_that_was_typed_can_be_read(agent: Agent) -> None:
    typed = "Can I bring my two dogs and the cat?"
    cues = vtt_of(agent, ("user", typed, 5000, 5000), ("user", "Ok", 20_000, 20_000), ("agent", "Bye.", 30_000, 29_000))
    assert [(start, round(end - start, 1)) for _, start, end, _ in cues] == [(5.0, 2.1), (20.0, 1.0), (30.0, 1.0)]


def test_a_typed_line_makes_room_for_the_next_but_stays_a_second(agent: Agent) -> None:
    typed = "Can I bring my two dogs and the cat?"
    cues = vtt_of(
        agent,
        ("user", typed, 5000, 5000),
        ("agent", "Yes.", 6500, 7500),
        ("user", typed, 7600, 7600),
        ("user", "!", 7900, 7900),
    )
    assert [(start, end) for _, start, end, _ in cues] == [(5.0, 6.5), (6.5, 7.5), (7.6, 8.6), (7.9, 8.9)]


def test_what_was_spoken_keeps_its_times(agent: Agent) -> None:
    assert vtt_of(agent, ("agent", "Hello, this is Ada.", 500, 2600)) == [("1", 0.5, 2.6, "Hello, this is Ada.")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "The museum is open every day from nine until six. On Mondays, when there are fewer visitors, the guides "
            "have more time. Would you like to book?",
            [
                "The museum is open every day from nine until six.",
                "On Mondays, when there are fewer visitors, the guides have more time.",
                "Would you like to book?",
            ],
        ),
        (
            "博物馆每天从早上九点开放到晚上六点，中间不休息。星期一参观的人比较少，导游会有更多时间陪您慢慢看，也可以回答您的问题。",
            [
                "博物馆每天从早上九点开放到晚上六点，中间不休息。",
                "星期一参观的人比较少，导游会有更多时间陪您慢慢看，也可以回答您的问题。",
            ],
        ),
    ],
)
def test_a_long_utterance_is_broken_into_cues_by_its_sentences(agent: Agent, text: str, words: list[str]) -> None:
    cues = vtt_of(agent, ("user", "Hi.", 0, 1000), ("agent", text, 2000, 12_000))[1:]
    assert [said for *_, said in cues] == words
    assert [number for number, *_ in cues] == [f"2.{place}" for place in range(1, len(words) + 1)]
    assert (cues[0][1], cues[-1][2]) == (2.0, 12.0)
    assert all(before[2] == after[1] for before, after in pairwise(cues))
