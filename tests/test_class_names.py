"""A class has a name of its own: whoever reads one knows which is meant, wherever it stands.

Names of types count as well, in Python and in the TypeScript of the pages.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.syntax import parse

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("molts", "projects", "avatars", "sessions", "agent_runtime", "scripts")
DJANGO = {"Meta", "Media", "Migration", "Command"}
"""Names by which Django finds what belongs to another class or to a module."""
SHARED = {
    "Face": "the engine host's package stands alone in a model's environment, and says again what is to speak",
}
TYPE = re.compile(r"^(?:export )?(?:interface|class|enum|type) ([A-Z]\w*)[ <]", re.MULTILINE)


def python_names(tree: ast.Module) -> Iterator[str]:
    """Classes, wherever they stand, and the types that a module names."""
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() | ast.BinOp()) if name[0].isupper():
                if not name.isupper():
                    yield name


def repeated(names: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    """Names that stand in more than one place, with the places."""
    places = defaultdict(list)
    for name, place in names:
        places[name].append(place)
    return {name: where for name, where in places.items() if len(where) > 1}


def in_python() -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for name in python_names(parse(path.read_text(encoding="utf-8"))):
                yield name, str(path.relative_to(ROOT))


def in_typescript() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "static" / "src").rglob("*.ts")):
        for name in TYPE.findall(path.read_text(encoding="utf-8")):
            yield name, str(path.relative_to(ROOT))


def test_a_name_means_one_class() -> None:
    found = repeated(in_python())
    assert {name: where for name, where in found.items() if name not in DJANGO | SHARED.keys()} == {}


def test_a_name_means_one_type_of_the_pages() -> None:
    assert repeated(in_typescript()) == {}


def test_every_exception_is_still_needed() -> None:
    assert SHARED.keys() <= repeated(in_python()).keys()


def test_it_sees_classes_inside_others_and_names_of_types() -> None:
    tree = ast.parse("class A:\n    class B: pass\nPoint = tuple[int, int]\nLIMIT = x[1]\nEither = int | str\n")
    assert list(python_names(tree)) == ["A", "B", "Point", "Either"]
