"""Conversations in a browser with molts as `make up` starts it: what is said, seen, heard and kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import Enter
from tests.e2e.rooms import MEETING, PRICE, TABLE, Rooms
from tests.e2e.speech import speak_with_times
from tests.e2e.stack import Molts, wait_for
from tests.e2e.words_shown import watch, watched

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

USED = {"stt", "llm", "tts"}
ROLES = ("user", "agent")
PARTS = ("endpointing_ms", "stt_ms", "llm_ms", "tts_ms", "avatar_ms")


def adds_up(turn: dict[str, Any]) -> bool:
    known = [turn[part] for part in PARTS if turn[part] is not None]
    return bool(abs(sum(known) - turn["total_ms"]) <= 50)


def test_it_holds_a_spoken_conversation(molts: Molts, rooms: Rooms, enter: Enter) -> None:
    question, answer, words = MEETING
    visitor = enter((9, question))
    session = visitor.talk(rooms.talk)
    visitor.wait_for_line("agent", "help you", seconds=20)
    visitor.wait_for_line("user", question, seconds=20)
    visitor.wait_for_line("agent", answer, seconds=15)
    visitor.page.wait_for_timeout(1_000)

    rows = molts.rows(session)
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    assert [(row.role, row.text) for row in rows[1:]] == [("user", question), ("agent", answer)]
    assert [(line.seq, line.role, line.text) for line in visitor.settled] == [
        (row.seq, row.role, row.text) for row in rows
    ]

    assert set(words) <= set(visitor.heard_words.split())

    (turn,) = molts.related("turn", session)
    assert turn["user_segment_id"] == rows[1].segment_id
    assert turn["agent_segment_id"] == rows[2].segment_id
    assert turn["total_ms"] > 0
    assert adds_up(turn)
    (seen,) = visitor.events("turn.metrics")
    assert {part: seen[part] for part in (*PARTS, "total_ms")} == {part: turn[part] for part in (*PARTS, "total_ms")}

    visitor.leave()
    wait_for(
        "usage of every kind",
        lambda: {row["kind"] for row in molts.usage(session)} >= USED,
        seconds=10,
    )


def test_it_answers_typed_text_in_writing_and_aloud(molts: Molts, rooms: Rooms, enter: Enter) -> None:
    question, answer, words = TABLE
    visitor = enter()
    session = visitor.talk(rooms.quiet)
    visitor.wait_for_chip("listening", seconds=15)
    visitor.type(question)
    visitor.wait_for_line("agent", answer, seconds=15)
    visitor.page.wait_for_timeout(500)

    rows = molts.rows(session)
    assert [(row.role, row.text) for row in rows] == [("user", question), ("agent", answer)]
    assert set(words) <= set(visitor.heard_words.split())
    (turn,) = molts.related("turn", session)
    assert turn["endpointing_ms"] is None
    assert turn["stt_ms"] is None
    assert adds_up(turn)

    for format, begin in (("txt", "[00:00:"), ("vtt", "WEBVTT\n"), ("json", "{")):
        with visitor.page.expect_download() as download:
            visitor.page.click(f"#download-{format}")
        assert download.value.suggested_filename.endswith(f".{format}")
        text = download.value.path().read_text()
        assert text.startswith(begin)
        assert 0 < text.index(question) < text.index(answer)
    assert [line["text"] for line in json.loads(text)["segments"]] == [question, answer]
    visitor.leave()
    assert visitor.page.is_visible("#download-txt"), "the files can still be had when it is over"


@pytest.mark.soak
def test_it_does_not_hear_a_muted_microphone(molts: Molts, rooms: Rooms, enter: Enter) -> None:
    (muted, _, _), (open_again, answer, _) = PRICE, MEETING
    visitor = enter((6, muted), (18, open_again))
    session = visitor.talk(rooms.quiet)
    visitor.page.wait_for_selector("#mute[data-mic=on]", timeout=30_000)
    visitor.page.click("#mute")
    visitor.page.wait_for_selector("#mute[data-mic=muted]")
    visitor.wait_for_chip("listening", seconds=15)
    visitor.page.wait_for_timeout(10_000)
    visitor.page.click("#mute")
    visitor.page.wait_for_selector("#mute[data-mic=on]")
    visitor.wait_for_line("agent", answer, seconds=20)
    assert [row.text for row in molts.rows(session)] == [open_again, answer]
    visitor.leave()


WAITING = "One moment, please."


@pytest.mark.soak
def test_it_keeps_three_conversations_apart(molts: Molts, rooms: Rooms, enter: Enter) -> None:
    visitors = [enter((10, question)) for question, _, _ in (MEETING, TABLE, PRICE)]
    sessions = [visitor.talk(rooms.quiet) for visitor in visitors]
    assert len({molts.session(session)["room_name"] for session in sessions}) == 3
    for visitor, (_, answer, _) in zip(visitors, (MEETING, TABLE, PRICE), strict=True):
        visitor.wait_for_line("agent", answer, seconds=40)
    visitors[0].page.wait_for_timeout(1_000)
    for visitor, session, (question, answer, words) in zip(visitors, sessions, (MEETING, TABLE, PRICE), strict=True):
        lines = visitor.lines
        assert [(row.role, row.text) for row in molts.rows(session)] == [(line.role, line.text) for line in lines]
        foreign = {word for _, _, others in (MEETING, TABLE, PRICE) if others != words for word in others}
        said = {role: {word for line in lines if line.role == role for word in line.text.split()} for role in ROLES}
        # Three at once may keep one waiting for so long that it is told so.
        assert said["agent"] - set(WAITING.split()) == set(answer.split()) - set(WAITING.split())
        # On a busy machine a recogniser may mistake a word; what was said in another room it must not hear.
        assert said["user"] & set(question.split())
        assert not said["user"] & foreign
        heard = set(visitor.heard_words.split())
        assert heard & set(words)
        assert not heard & foreign
    for visitor in visitors:
        visitor.leave()


MOUTHS = """
() => new Promise((done) => {
  const video = document.querySelector("#avatar");
  const canvas = new OffscreenCanvas(64, 64);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const seen = new Set();
  const until = performance.now() + 3000;
  const look = () => {
    pen.drawImage(video, video.videoWidth * 0.3, video.videoHeight * 0.45, video.videoWidth * 0.4,
                  video.videoHeight * 0.35, 0, 0, 64, 64);
    seen.add(pen.getImageData(0, 0, 64, 64).data.reduce((sum, value) => sum + value, 0));
    if (performance.now() < until) video.requestVideoFrameCallback(look);
    else done(seen.size);
  };
  video.requestVideoFrameCallback(look);
})
"""


def test_its_face_comes_over_the_portrait_and_speaks(molts: Molts, rooms: Rooms, enter: Enter) -> None:
    question, answer, _ = TABLE
    visitor = enter()
    session = visitor.talk(rooms.face)
    visitor.wait_for_chip("listening", seconds=15)
    visitor.page.wait_for_selector("#face[data-moving]", timeout=60_000)
    visitor.type(question)
    visitor.wait_for_chip("speaking", seconds=15)
    assert visitor.page.evaluate(MOUTHS) > 10, "a face that speaks does not stand still"
    visitor.wait_for_line("agent", answer, seconds=15)
    assert len(visitor.heard) > 0
    visitor.leave()
    assert [row.text for row in molts.rows(session)] == [question, answer]
    # On a busy machine its worker may start a little after the rest of molts.
    told = [each["code"] for each in molts.related("sessionnotice", session)]
    assert [code for code in told if code.startswith("avatar")] in ([], ["avatar_lost", "avatar_back"])


@pytest.mark.soak
def test_words_appear_while_they_are_spoken(rooms: Rooms, enter: Enter) -> None:
    question, answer, _ = TABLE
    spoken = speak_with_times(question)
    visitor = enter((9, spoken))
    watch(visitor.page)
    visitor.talk(rooms.quiet)
    visitor.wait_for_line("agent", answer, seconds=40)
    seen = watched(visitor.page)
    (began,) = seen.onsets
    over = began + spoken.words[-1][1]
    while_spoken = [line for line in seen.lines if line.at < over]
    assert len(while_spoken) >= 2
    assert not any(line.final for line in while_spoken)
    assert while_spoken[-1].text.split()[:4] == question.split()[:4]
    assert [line.text for line in seen.lines if line.final][-1:] == [question]
    visitor.leave()
