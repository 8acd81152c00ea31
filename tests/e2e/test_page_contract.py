"""The page's types and the server's models are two sides of one contract."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest

from scripts.page_types import render
from sessions import events
from sessions.choices import AgentStateName, EndReason, NoticeCode, NoticeLevel, Role, SessionState

TYPES = (Path(__file__).resolve().parents[2] / "static" / "src" / "shared" / "events.ts").read_text(encoding="utf-8")


def page_values(name: str) -> set[str]:
    found = re.search(rf"export type {name} =([^;]+);", TYPES)
    assert found, f"events.ts has no type {name}"
    return set(re.findall(r'"([^"]+)"', found[1]))


@pytest.mark.parametrize(
    ("page_name", "server"),
    [
        ("Role", Role.values),
        ("AgentStateName", AgentStateName.values),
        ("SessionState", SessionState.values),
        ("EndReason", EndReason.values),
        ("NoticeLevel", NoticeLevel.values),
        ("NoticeCode", NoticeCode.values),
    ],
)
def test_it_knows_the_same_values_on_both_sides(page_name: str, server: Sequence[str]) -> None:
    assert page_values(page_name) == set(server)


def test_it_knows_every_event_of_the_server() -> None:
    known = re.search(r"const EVENT_TYPES.*?\(\[(.*?)\]\)", TYPES, re.DOTALL)
    assert known
    union = get_args(get_args(events.SessionEvent)[0])
    assert set(re.findall(r'"([^"]+)"', known[1])) == {
        get_args(model.model_fields["type"].annotation)[0] for model in union
    }


def test_the_pages_types_are_those_of_the_models() -> None:
    assert render() == TYPES, "make exports"
