"""Snapshots are read as types: nobody but `avatars/snapshots.py` knows the keys of their JSON. Read from the source.

A syntax tree does not tell what is read from, so a read is known by its key: `x["key"]`, `x.get("key")` (`pop` and
`setdefault` alike), `"key" in x`, `itemgetter("key")` and `case {"key": ...}`, whatever `x` is, where a snapshot has a
field of that name. What else goes by such a name is listed below. Besides, nobody looks into the columns that keep
snapshots (`.snapshot`, `.spec`), by whatever key.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from avatars.snapshots import StoredPart
from projects.providers.base import PIPELINE
from tests.syntax import parse
from tests.test_imports import ROOT, sources

OWN = ROOT / "avatars/snapshots.py"
ADAPTERS = ROOT / "avatars/engines/adapters"
"""A package of its own, which knows neither molts nor its snapshots."""
REGISTRY = ROOT / "projects/providers"
COLUMNS = {"snapshot", "spec"}
ASKS = {"get", "pop", "setdefault"}
LOOKS_INTO = {*ASKS, "items", "keys", "values", "copy", "update"}

FORMS = {"POST", "GET", "FILES", "cleaned_data", "cleaned", "fields", "errors", "initial", "form"}
"""Django's own, by the last word: what was posted, and the fields of forms."""
OTHERS = {
    ("agent_runtime/face/call.py", "given"): "what a dispatch says",
    ("agent_runtime/management/commands/measure_stt.py", "options"): "options of a command",
    ("agent_runtime/speech/http_api.py", "request.path_params"): "part of an address",
    ("avatars/admin/face_forms.py", "spec"): "JSON schema of an option",
    ("avatars/admin/rungs.py", "self"): "field of a form",
    ("avatars/admin/rungs.py", "spec"): "JSON schema of an option",
    ("avatars/characters/svg.py", "match"): "group of a pattern",
    ("avatars/languages.py", "info"): "Django's table of languages",
    ("molts/doctor.py", "queue"): "a queue of Celery",
    ("molts/management/commands/speech_models.py", "model"): "a speech model",
    ("molts/management/commands/speech_models.py", "options"): "options of a command",
    ("molts/management/commands/up.py", "said"): "a finding of doctor",
    ("projects/admin/provider_keys.py", "data"): "what was posted",
}


def keys() -> set[str]:
    """Names of the fields of every part, and the kinds of a pipeline."""
    return {name for part in StoredPart.__subclasses__() for name in part.model_fields} | {
        kind.value for kind in PIPELINE
    }


KEYS = keys()


def reads(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what is read from) of each read of a key that a snapshot has."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=owner, slice=key):
                asked = [key]
            case ast.Call(func=ast.Attribute(value=owner, attr=name), args=[key, *_]) if name in ASKS:
                asked = [key]
            case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()], comparators=[owner]):
                asked = [key]
            case ast.Call(func=ast.Name(id="itemgetter") | ast.Attribute(attr="itemgetter") as owner, args=asked):
                pass
            case ast.MatchMapping(keys=asked):
                owner = ast.Name("match")
            case _:
                continue
        if any(isinstance(key, ast.Constant) and key.value in KEYS for key in asked):
            yield node.lineno, ast.unparse(owner)


def looks_into_columns(tree: ast.AST) -> Iterator[int]:
    """Lines in which a stored snapshot is looked into: asked for a part, unpacked or gone through."""
    for node in ast.walk(tree):
        owners: list[ast.expr] = []
        match node:
            case ast.Subscript(value=owner):
                owners = [owner]
            case ast.Call(func=ast.Attribute(value=owner, attr=name)) if name in LOOKS_INTO:
                owners = [owner]
            case ast.Dict(keys=names, values=values):
                owners = [value for name, value in zip(names, values, strict=True) if name is None]
            case ast.For(iter=owner) | ast.comprehension(iter=owner):
                owners = [owner]
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                owners = [left, right]
            case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[owner]):
                owners = [owner]
        for owner in owners:
            if isinstance(owner, ast.Attribute) and owner.attr in COLUMNS:
                yield owner.lineno


def checked() -> list[Path]:
    """Every module of ours; `sources` has left out the migrations."""
    found = [path for path in sources() if not path.is_relative_to(ADAPTERS) and not path.is_relative_to(REGISTRY)]
    return [path for path in found if path != OWN]


def unlisted(path: Path, source: str) -> list[str]:
    """`file:line` of every read in `source` that is none of a form and not listed."""
    name, tree = path.relative_to(ROOT).as_posix(), parse(source)
    wrong = [
        f"{name}:{line} reads a key of a snapshot from {owner}"
        for line, owner in reads(tree)
        if owner.rpartition(".")[2] not in FORMS and (name, owner) not in OTHERS
    ]
    return wrong + [f"{name}:{line} looks into a stored snapshot" for line in looks_into_columns(tree)]


def test_nobody_reads_a_key_of_a_snapshot() -> None:
    wrong = [each for path in checked() for each in unlisted(path, path.read_text(encoding="utf-8"))]
    assert not wrong, "\n" + "\n".join(wrong)


def test_no_template_looks_into_a_stored_snapshot() -> None:
    found = [
        path
        for path in (ROOT / "templates").rglob("*.html")
        if re.search(rf"\b({'|'.join(COLUMNS)})\.\w", path.read_text(encoding="utf-8"))
    ]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "rung['provider']",
        "rung.get('options', {})",
        "(stored or {}).get('voice')",
        "chains['tts'][0]",
        "'portrait' in anything",
        "'engine' not in session.spec",
        "sorted(rungs, key=itemgetter('provider_key'))",
        "map(operator.itemgetter('id', 'name'), rungs)",
        "revision.snapshot['anything']",
        "revision.snapshot[part]",
        "session.spec.get(part)",
        "{**revision.snapshot, 'more': 1}",
        "[part for part in revision.snapshot]",
        "revision.snapshot | {'more': 1}",
        "match stored:\n    case {'limits': limits}: pass",
        "del stored['turn']",
    ],
)
def test_it_sees_a_read(line: str) -> None:
    """The test's own eyes."""
    assert unlisted(ROOT / "sessions/anything.py", line)


@pytest.mark.parametrize(
    "line",
    [
        "revision.agent_snapshot.voice.name",
        "AgentSnapshot.read(session.spec)",
        "request.POST.get('name')",
        "self.cleaned_data['engine']",
        "{'provider': step.provider}",
        "session['seconds']",
    ],
)
def test_it_leaves_alone_what_is_none(line: str) -> None:
    assert not unlisted(ROOT / "sessions/anything.py", line)


def test_what_is_listed_is_still_there() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), owner)
        for path in checked()
        for _, owner in reads(parse(path.read_text(encoding="utf-8")))
    }
    assert set(OTHERS) <= found


def test_it_knows_the_parts_of_a_snapshot() -> None:
    assert {"voice", "avatar", "pipeline", "provider_key", "portrait", "max_minutes", "allow_interruptions"} <= KEYS
    assert {"stt", "llm", "tts"} <= KEYS
