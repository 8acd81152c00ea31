"""The page's types and the server's models are two sides of one contract."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from sessions import events

TYPES = (Path(__file__).resolve().parents[2] / "static" / "src" / "room" / "events.ts").read_text(encoding="utf-8")


def page_values(name: str) -> set[str]:
    found = re.search(rf"export type {name} =([^;]+);", TYPES)
    assert found, f"events.ts has no type {name}"
    return set(re.findall(r'"([^"]+)"', found[1]))


@pytest.mark.parametrize(
    ("page_name", "server"),
    [
        ("Role", events.Role),
        ("AgentState", events.AgentStateName),
        ("SessionState", events.SessionStateName),
        ("EndReason", events.EndReason),
        ("NoticeLevel", events.NoticeLevel),
        ("NoticeCode", events.NoticeCode),
    ],
)
def test_it_knows_the_same_values_on_both_sides(page_name: str, server: Any) -> None:
    assert page_values(page_name) == set(get_args(server))


def test_it_knows_every_event_of_the_server() -> None:
    known = re.search(r"const known.*?\(\[(.*?)\]\)", TYPES, re.DOTALL)
    assert known
    union = get_args(get_args(events.SessionEvent)[0])
    assert set(re.findall(r'"([^"]+)"', known[1])) == {
        get_args(model.model_fields["type"].annotation)[0] for model in union
    }
