"""`make check` names imports that nobody declared and dependencies that nobody imports."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts.check import ROOT, dependencies

FOLDERS = ("molts", "projects", "avatars", "sessions", "agent_runtime", "scripts", "tests", "docs")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The Python files of this clone, and what it says that it needs."""
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=_but_python)
    for name in ("manage.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def _but_python(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if Path(name).suffix not in ("", ".py") or name == "__pycache__"}


@pytest.mark.slow
def test_what_is_imported_is_declared_and_the_other_way_round(copy: Path) -> None:
    assert dependencies(copy) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("molts/env.py", "import yaml", "molts/env.py:1:8: DEP004 'yaml'"),
        ("sessions/rooms.py", "import google.protobuf", "sessions/rooms.py:1:8: DEP003 'google'"),
        ("tests/visitor.py", "import no_such_library", "tests/visitor.py:1:8: DEP001 'no_such_library'"),
        pytest.param(
            *("projects/access.py", "import no_such_library", "projects/access.py:1:8: DEP001 'no_such_library'"),
            marks=pytest.mark.soak,
        ),
    ],
)
def test_an_import_that_nobody_declared_is_named(copy: Path, file: str, line: str, says: str) -> None:
    source = copy / file
    source.write_text(f"{line}\n{source.read_text()}")
    assert says in dependencies(copy)


@pytest.mark.slow
@pytest.mark.parametrize("above", ["dependencies = [", pytest.param("dev = [", marks=pytest.mark.soak)])
def test_a_dependency_that_nobody_imports_is_named(copy: Path, above: str) -> None:
    declared = copy / "pyproject.toml"
    declared.write_text(declared.read_text().replace(f"\n{above}\n", f'\n{above}\n    "colorlog>=6",\n', 1))
    assert "DEP002 'colorlog'" in dependencies(copy)
