"""Who may import whom, read from the source: the rule that docs/architecture.md explains."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.syntax import parse

ROOT = Path(__file__).resolve().parent.parent
APPS = ("projects", "avatars", "sessions", "agent_runtime")
BASE = {
    *("molts.env", "molts.errors", "molts.crypto", "molts.http", "molts.api", "molts.machine", "molts.parsers"),
    *("molts.database", "molts.refusals", "molts.redact", "molts.life", "molts.text", "molts.callers", "molts.beats"),
    *("molts.percentiles", "molts.live_events"),
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


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of every module. Not read before a test wants it: each process that tests collects this file."""
    return {name: parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imports_in(tree: ast.AST, name: str, package: str) -> Iterator[Import]:
    """Every import of a module, also those inside functions; relative ones resolved."""
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


def package_of(name: str) -> str:
    return name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]


@cache
def all_imports() -> list[Import]:
    return [each for name, tree in trees().items() for each in imports_in(tree, name, package_of(name))]


def top(module: str) -> str:
    return module.partition(".")[0]


def is_base(module: str) -> bool:
    return module in BASE or any(module.startswith(f"{name}.") for name in BASE)


def listed(wrong: list[Import]) -> str:
    return "\n" + "\n".join(map(str, wrong))


def test_it_reads_every_kind_of_import() -> None:
    """The test's own eyes: each of these is known to stand in the source."""
    found = {(each.importer, each.imported) for each in all_imports()}
    assert ("avatars.models", "projects.models") in found
    assert ("sessions.services", "sessions.events") in found, "from sessions import events"
    assert ("molts.management.commands.up", "molts.beats") in found, "inside a function"
    assert len(MODULES) > 60
    assert {top(name) for name in MODULES} == {"molts", *APPS}


@pytest.mark.parametrize("app", APPS)
def test_an_app_imports_only_those_below_it(app: str) -> None:
    wrong = [
        each
        for each in all_imports()
        if top(each.importer) == app and top(each.imported) in APPS and top(each.imported) not in MAY_IMPORT[app]
    ]
    assert not wrong, listed(wrong)


def test_nothing_but_the_roof_imports_the_runtime() -> None:
    wrong = [
        each
        for each in all_imports()
        if top(each.imported) == "agent_runtime" and top(each.importer) not in ("agent_runtime", "molts")
    ]
    assert not wrong, listed(wrong)


def test_the_base_imports_no_app_and_nothing_above_it() -> None:
    wrong = [
        each
        for each in all_imports()
        if is_base(each.importer)
        and (top(each.imported) in APPS or (top(each.imported) == "molts" and not is_base(each.imported)))
        and each.imported != "molts"
    ]
    assert not wrong, listed(wrong)


def test_apps_import_of_molts_only_the_base() -> None:
    wrong = [
        each
        for each in all_imports()
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
        for each in all_imports()
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


@pytest.mark.parametrize(
    "app", ["projects", "projects.usage", "projects.webhooks", "avatars", "avatars.videos", "sessions"]
)
def test_inside_an_app_nothing_imports_what_stands_above_it(app: str) -> None:
    wrong = []
    for each in all_imports():
        if not each.importer.startswith(f"{app}.") or not each.imported.startswith(f"{app}.") or each.typing_only:
            continue
        above, below = layer(each.imported, app), layer(each.importer, app)
        if above is not None and below is not None and above > below:
            wrong.append(each)
    assert not wrong, listed(wrong)


def test_engines_know_neither_django_nor_livekit() -> None:
    wrong = [
        each
        for each in all_imports()
        if each.importer.startswith("avatars.engines") and top(each.imported) in ("django", "livekit", "rest_framework")
    ]
    assert not wrong, listed(wrong)


# -- Circles ----------------------------------------------------------------------------------------------------------
def circles(imports: Iterable[Import]) -> set[frozenset[str]]:
    """Modules that import one another, however many lie between; what only a type checker reads counts too."""
    reached: dict[str, set[str]] = {}
    for each in imports:
        if each.imported != each.importer:
            reached.setdefault(each.importer, set()).add(each.imported)

    def all_from(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            new = reached.get(waiting.pop(), set()) - found
            found |= new
            waiting.extend(new)
        return found

    closure = {name: all_from(name) for name in reached}
    return {
        frozenset(other for other in closure[name] if name in closure.get(other, ()))
        for name in closure
        if name in closure[name]
    }


def test_no_modules_import_one_another() -> None:
    assert not circles(all_imports())


@pytest.mark.parametrize(
    "pairs",
    [
        (("a", "b"), ("b", "a")),
        (("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "a")),
    ],
)
def test_it_sees_a_circle(pairs: tuple[tuple[str, str], ...]) -> None:
    (found,) = circles([Import(*pair, line=1, typing_only=False) for pair in pairs])
    assert found == {name for pair in pairs for name in pair} - {"d", "e"}


def test_it_sees_a_circle_that_a_function_hides() -> None:
    above, below = "def late():\n    from projects import access", "if TYPE_CHECKING:\n    import projects.models"
    imports = [
        *imports_in(ast.parse(above), "projects.models", "projects"),
        *imports_in(ast.parse(below), "projects.access", "projects"),
    ]
    assert circles(imports) == {frozenset({"projects.access", "projects.models"})}


# -- Back doors -------------------------------------------------------------------------------------------------------
INTROSPECTION = {
    *("related_model", "remote_field", "related_objects"),
    *("get_model", "get_models", "get_app_config", "get_app_configs", "model_class"),
}
"""Names by which a module gets at models that it does not import."""

GENERIC = {
    # These walk the relations of any model, whichever app it is of, and know none by name.
    ("projects.in_use", "related_objects"): "lists what holds an object, whatever that is",
    ("projects.in_use", "related_model"): "lists what holds an object, whatever that is",
    ("projects.scoped_admin", "related_model"): "Django's hook for form fields and filters hands over the relation",
    ("projects.scoped_admin", "get_model"): "unfold hands over the labels of the models that its search looks in",
    ("projects.admin.audit_trail", "model_class"): "an entry of the audit trail links to whatever was changed",
}
"""Who may use which of them, and why. Migrations, which Django runs with models of their time, are not looked at."""


def back_doors(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where a module gets at models without an import: line and name. Both `x.related_model` and
    `getattr(x, "related_model")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Constant):
            name = node.attr if isinstance(node, ast.Attribute) else node.value
            if isinstance(name, str) and name in INTROSPECTION:
                yield node.lineno, name


def signals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where a module makes a signal of Django's or listens to one: line and module. Celery's hooks for the start of a
    process are something else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            of_django = isinstance(node.value, ast.Name) and node.value.id == "django"
            names = [f"django.{node.attr}"] if node.attr == "signals" or of_django else []
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "django" and {"dispatch", "signals"} & set(parts):
                yield node.lineno, name


def used_from_above(tree: ast.AST, names: Collection[str]) -> Iterator[tuple[int, str]]:
    """Where a module follows one of these relations backwards: `agent.live_sessions`, `Count("live_sessions")`,
    `Q(live_sessions__ended_at=None)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            text: Any = node.attr
        elif isinstance(node, ast.Constant):
            text = node.value
        elif isinstance(node, ast.keyword):
            text = node.arg
        else:
            continue
        if isinstance(text, str) and text.partition("__")[0] in names:
            yield node.lineno, text


def reverse_names(tree: ast.AST) -> set[str]:
    """The names by which models of other modules get at those of this one."""
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Name)
        if node.args[0].id in imported
        for keyword in node.keywords
        if keyword.arg == "related_name" and isinstance(keyword.value, ast.Constant)
        for name in [str(keyword.value.value)]
        if name != "+"
    }


def places(found: Iterable[tuple[str, int, str]]) -> str:
    return "".join(f"\n{name}:{line} uses {what}" for name, line, what in found)


def test_models_are_imported_not_looked_up() -> None:
    found = [(name, line, what) for name, tree in trees().items() for line, what in back_doors(tree)]
    wrong = [each for each in found if (each[0], each[2]) not in GENERIC]
    assert not wrong, places(wrong)
    assert {(name, what) for name, _, what in found} == set(GENERIC), "allowances that nobody needs any more"


def test_there_are_no_signals() -> None:
    wrong = [(name, line, what) for name, tree in trees().items() for line, what in signals(tree)]
    assert not wrong, places(wrong)


@pytest.mark.parametrize(("app", "above"), [("projects", ("avatars", "sessions")), ("avatars", ("sessions",))])
def test_no_app_follows_a_relation_back_to_an_app_above_it(app: str, above: tuple[str, ...]) -> None:
    names = {name for each in above for name in reverse_names(trees()[f"{each}.models"])}
    wrong = [
        (name, line, what)
        for name, tree in trees().items()
        # Providers know no rows: what they call voices is a vendor's.
        if top(name) == app and not name.startswith("projects.providers")
        for line, what in used_from_above(tree, names)
    ]
    assert not wrong, places(wrong)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ('talks = Agent._meta.get_field("live_sessions").related_model', "related_model"),
        ('talks = getattr(Agent._meta.get_field("live_sessions"), "related_model")', "related_model"),
        ("talks = Agent.live_sessions.rel.remote_field.model", "remote_field"),
        ("rows = [each for each in agent._meta.related_objects]", "related_objects"),
        ('from django.apps import apps\nTalk = apps.get_model("live_sessions", "LiveSession")', "get_model"),
        ('from django import apps as them\nTalk = them.apps.get_model("live_sessions.LiveSession")', "get_model"),
        ('models = apps.get_app_config("live_sessions").get_models()', "get_app_config"),
        ("Talk = ContentType.objects.get(pk=7).model_class()", "model_class"),
    ],
)
def test_it_sees_a_back_door(source: str, name: str) -> None:
    assert name in [found for _, found in back_doors(ast.parse(source))]


@pytest.mark.parametrize(
    "source",
    [
        "from django.dispatch import Signal\nagents_leave = Signal()",
        "from django.dispatch import receiver",
        "import django.dispatch\nleave = django.dispatch.Signal()",
        "from django import dispatch",
        "from django.db.models.signals import post_save\npost_save.connect(noted)",
        "from django.db.models import signals",
        "from django.db import models\nmodels.signals.post_delete.connect(noted)",
        "from django.core.signals import request_finished",
        "from django.contrib.auth.signals import user_logged_in",
        "def late():\n    from django.dispatch.dispatcher import Signal",
    ],
)
def test_it_sees_a_signal(source: str) -> None:
    assert list(signals(ast.parse(source)))


def test_the_hooks_of_celery_and_of_the_system_are_no_signals() -> None:
    source = "from celery.signals import worker_init\nimport signal\nloop.add_signal_handler(signal.SIGTERM, stop)"
    assert list(signals(ast.parse(source))) == []


@pytest.mark.parametrize(
    "source",
    [
        'running = Count("live_sessions")',
        "running = Q(live_sessions__ended_at=None)",
        "links = agent.room_links.all()",
        'agents = agents.prefetch_related("room_links__live_sessions")',
    ],
)
def test_it_sees_a_relation_that_is_followed_back(source: str) -> None:
    names = reverse_names(trees()["sessions.models"])
    assert names == {"live_sessions", "room_links"}
    assert list(used_from_above(ast.parse(source), names))
