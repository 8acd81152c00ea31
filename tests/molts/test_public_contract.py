"""What others rely on is still there: addresses, commands and their options, names in the environment, the REST API.

`tests/fixtures/public_contract/` holds what was there once, a line each. New lines are no fault and are not recorded
until somebody relies on them; a line that is gone is a break for clients. Live events have a recording of their own,
tests/sessions/wire.jsonl.

python -m tests.molts.test_public_contract    records what is there now
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
import yaml
from django.core.management import get_commands, load_command_class
from django.urls import URLPattern, URLResolver, get_resolver

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "tests" / "fixtures" / "public_contract"
APPS = ("molts", "projects", "avatars", "sessions", "agent_runtime")
ALTERNATIVES = re.compile(r"\w+(?:\|\w+)+")  # in whichever order the admin came upon them
WORDS = {"description", "summary", "title", "example", "examples"}
ENVIRONMENT = re.compile(r"environ(?:\.get\(|\[)\s*\"([A-Z][A-Z0-9_]+)\"")


def addresses() -> set[str]:
    return set(_addresses(get_resolver(), ""))


def _addresses(resolver: URLResolver, before: str) -> Iterator[str]:
    for entry in resolver.url_patterns:
        pattern = before + ALTERNATIVES.sub(lambda found: "|".join(sorted(found[0].split("|"))), str(entry.pattern))
        if isinstance(entry, URLPattern):
            yield f"{pattern} {entry.name or ''}".strip()
        else:
            yield from _addresses(entry, pattern)


def commands() -> set[str]:
    own = {name: app for name, app in get_commands().items() if app in APPS or app.split(".")[-1] in APPS}
    return {line for name, app in own.items() for line in _options(name, app)}


def _options(name: str, app: str) -> Iterator[str]:
    yield name
    for action in load_command_class(app, name).create_parser("manage.py", name)._actions:
        yield f"{name} {' '.join(action.option_strings) or action.dest}"


def environment() -> set[str]:
    """Every name that the settings or a program of ours asks the environment for."""
    settings = ast.walk(ast.parse((ROOT / "molts" / "settings.py").read_text(encoding="utf-8")))
    calls = [node for node in settings if isinstance(node, ast.Call) and _is_of_env(node.func)]
    names = {call.args[0].value for call in calls if call.args and isinstance(call.args[0], ast.Constant)}
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            names |= set(ENVIRONMENT.findall(path.read_text(encoding="utf-8")))
    return {str(name) for name in names}


def _is_of_env(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "env"


def rest_api() -> set[str]:
    return set(_leaves(yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text(encoding="utf-8")), ""))


def _leaves(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            # A field may be called like a word of a description.
            if key not in WORDS or path.endswith(" properties"):
                yield from _leaves(inner, f"{path} {key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield f"{path} = {value}".strip()


CONTRACTS: dict[str, Callable[[], set[str]]] = {
    "addresses": addresses,
    "commands": commands,
    "environment": environment,
    "rest_api": rest_api,
}


@pytest.mark.parametrize("name", CONTRACTS)
def test_nothing_that_others_rely_on_is_gone(name: str) -> None:
    recorded = set((RECORDS / f"{name}.txt").read_text(encoding="utf-8").splitlines())
    assert recorded, "an empty record proves nothing"
    there = CONTRACTS[name]()
    assert sorted(line for line in recorded - there if not any(_has_all_of(each, line) for each in there)) == []


def _has_all_of(line: str, recorded: str) -> bool:
    """Whether `line` is `recorded`, or takes other words too in the places where that takes one of several."""
    kinds = [ALTERNATIVES.sub("|", each) for each in (line, recorded)]
    if kinds[0] != kinds[1]:
        return False
    words = [[set(found.split("|")) for found in ALTERNATIVES.findall(each)] for each in (line, recorded)]
    return all(now >= once for now, once in zip(*words, strict=True))


if __name__ == "__main__":
    django.setup()
    RECORDS.mkdir(exist_ok=True)
    for contract, read in CONTRACTS.items():
        (RECORDS / f"{contract}.txt").write_text("\n".join(sorted(read())) + "\n", encoding="utf-8")
