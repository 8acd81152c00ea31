"""Who may import whom, read from the source: the rule that docs/architecture.md explains."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ("projects", "avatars", "sessions", "agent_runtime")
BASE = {
    *("molts.env", "molts.errors", "molts.crypto", "molts.http", "molts.api", "molts.machine", "molts.parsers"),
    *("molts.database", "molts.refusals", "molts.redact", "molts.life", "molts.text", "molts.callers"),
    "molts.percentiles",
}
"""The ground floor of `molts`: imports no app, and may be imported by all."""

MAY_IMPORT = {
    "projects": {"projects"},
    "avatars": {"projects", "avatars"},
    "sessions": {"projects", "avatars", "sessions"},
    "agent_runtime": set(APPS),
}
LIVEKIT = ("projects/providers/", "sessions/", "agent_runtime/")
LAYERS = ("choices", "models", "services", "doors")
DOORS = {"tasks", "api", "views", "consumers", "admin", "management"}


@dataclass(frozen=True)
class Import:
    """One import statement: who (module), whom (module), where."""

    importer: str
    imported: str
    line: int
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> list[Path]:
    return [
        path
        for folder in ("molts", *APPS)
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "migrations" not in path.parts
    ]


MODULES = {module_name(path): path for path in sources()}


def imports_of(path: Path) -> Iterator[Import]:
    """Every import in the file, also those inside functions; relative ones resolved."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for child in block.body
        for node in ast.walk(child)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*above, *([source] if source else [])])
            # `from app import module` imports the module, `from app.module import name` the name's module.
            targets = [
                f"{source}.{alias.name}" if f"{source}.{alias.name}" in MODULES else source for alias in node.names
            ]
        else:
            continue
        for target in dict.fromkeys(targets):
            yield Import(name, target, node.lineno, id(node) in typing_only)


ALL = [each for path in MODULES.values() for each in imports_of(path)]


def top(module: str) -> str:
    return module.partition(".")[0]


def is_base(module: str) -> bool:
    return module in BASE or any(module.startswith(f"{name}.") for name in BASE)


def listed(wrong: list[Import]) -> str:
    return "\n" + "\n".join(map(str, wrong))


def test_it_reads_every_kind_of_import() -> None:
    """The test's own eyes: each of these is known to stand in the source."""
    found = {(each.importer, each.imported) for each in ALL}
    assert ("avatars.models", "projects.models") in found
    assert ("sessions.services", "sessions.events") in found, "from sessions import events"
    assert ("projects.access", "projects.models") in found, "inside a function"
    assert len(MODULES) > 60
    assert {top(name) for name in MODULES} == {"molts", *APPS}


@pytest.mark.parametrize("app", APPS)
def test_an_app_imports_only_those_below_it(app: str) -> None:
    wrong = [
        each
        for each in ALL
        if top(each.importer) == app and top(each.imported) in APPS and top(each.imported) not in MAY_IMPORT[app]
    ]
    assert not wrong, listed(wrong)


def test_nothing_but_the_roof_imports_the_runtime() -> None:
    wrong = [
        each
        for each in ALL
        if top(each.imported) == "agent_runtime" and top(each.importer) not in ("agent_runtime", "molts")
    ]
    assert not wrong, listed(wrong)


def test_the_base_imports_no_app_and_nothing_above_it() -> None:
    wrong = [
        each
        for each in ALL
        if is_base(each.importer)
        and (top(each.imported) in APPS or (top(each.imported) == "molts" and not is_base(each.imported)))
        and each.imported != "molts"
    ]
    assert not wrong, listed(wrong)


def test_apps_import_of_molts_only_the_base() -> None:
    wrong = [
        each
        for each in ALL
        if top(each.importer) in APPS
        and top(each.imported) == "molts"
        and each.imported != "molts"
        and not is_base(each.imported)
        # The worker is a process of its own: it tells Django which settings to load.
        and not (top(each.importer) == "agent_runtime" and each.imported == "molts.settings")
    ]
    assert not wrong, listed(wrong)


def test_livekit_is_spoken_in_three_places_only() -> None:
    wrong = [
        each
        for each in ALL
        if top(each.imported) == "livekit"
        and not MODULES[each.importer].relative_to(ROOT).as_posix().startswith(LIVEKIT)
        and not each.typing_only
    ]
    assert not wrong, listed(wrong)


def layer(module: str, app: str) -> int | None:
    """Height of a module inside its app: choices, models, services, doors; None for helpers in between."""
    name = module.removeprefix(f"{app}.").partition(".")[0]
    if name in DOORS:
        name = "doors"
    return LAYERS.index(name) if name in LAYERS else None


@pytest.mark.parametrize("app", ["projects", "avatars", "sessions"])
def test_inside_an_app_nothing_imports_what_stands_above_it(app: str) -> None:
    wrong = []
    for each in ALL:
        if top(each.importer) != app or top(each.imported) != app or each.typing_only:
            continue
        above, below = layer(each.imported, app), layer(each.importer, app)
        if above is not None and below is not None and above > below:
            wrong.append(each)
    assert not wrong, listed(wrong)


def test_engines_know_neither_django_nor_livekit() -> None:
    wrong = [
        each
        for each in ALL
        if each.importer.startswith("avatars.engines") and top(each.imported) in ("django", "livekit", "rest_framework")
    ]
    assert not wrong, listed(wrong)
