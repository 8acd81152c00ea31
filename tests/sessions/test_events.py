"""Events on the wire: texts that an earlier release sent are those of today."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from sessions import events
from sessions.choices import AgentStateName, EndReason, Role, SessionState
from sessions.events import decode, encode

SENT = (Path(__file__).parent / "wire.jsonl").read_text(encoding="utf-8").splitlines()
"""One of every kind, with every value."""


@pytest.mark.parametrize("text", SENT)
def test_an_event_is_the_same_text_as_ever(text: str) -> None:
    assert encode(decode(text)) == text


def test_the_texts_have_every_event_and_value() -> None:
    sent = [decode(text) for text in SENT]
    assert {type(event) for event in sent} == set(get_args(get_args(events.SessionEvent)[0]))
    ended = [event for event in sent if isinstance(event, events.SessionStateEvent)]
    assert {event.state for event in ended} == set(SessionState)
    assert {event.reason for event in ended} == {None, *EndReason}
    assert {event.state for event in sent if isinstance(event, events.AgentStateEvent)} == set(AgentStateName)


def test_it_carries_the_enums() -> None:
    event = events.TranscriptPartial.model_validate({"segment_id": "a", "role": "user", "text": "Hel"})
    assert event.role is Role.USER


def test_a_value_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValidationError):
        events.AgentStateEvent.model_validate({"state": "asleep"})
