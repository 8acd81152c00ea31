"""`make check`: format, lint, types, migrations, OpenAPI, dependencies, translations, documentation, the room page.

`--write` renews the exports: what is committed, but made from other files.

Each check runs whatever the others say, so one run shows all there is to mend. Exit status 1 when any failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
REQUIREMENTS = ROOT / "requirements.txt"
OPENAPI = ROOT / "docs" / "openapi.yaml"


def run(*command: str, folder: Path = ROOT) -> str:
    """The output when `command` fails, an empty text when it succeeds."""
    result = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    return (result.stdout.strip() or "failed without a word") if result.returncode else ""


def manage(*arguments: str) -> str:
    return run(PYTHON, "manage.py", *arguments)


def python_format() -> str:
    return run(PYTHON, "-m", "ruff", "format", "--check", ".")


def python_lint() -> str:
    return run(PYTHON, "-m", "ruff", "check", ".")


def python_types() -> str:
    return run(PYTHON, "-m", "mypy")


def migrations() -> str:
    return manage("makemigrations", "--check", "--dry-run")


def system_checks() -> str:
    return manage("check", "--fail-level", "WARNING")


def openapi() -> str:
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "openapi.yaml"
        problem = manage("spectacular", "--validate", "--fail-on-warn", "--file", str(fresh))
        return problem or _same(fresh, OPENAPI)


def requirements() -> str:
    problem = run(_uv(), "lock", "--check")
    if problem:
        return f"{problem}\nuv.lock does not fit pyproject.toml. Run: uv lock"
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "requirements.txt"
        return _export_requirements(fresh) or _same(fresh, REQUIREMENTS)


def dependencies(root: Path = ROOT) -> str:
    """Every import is declared, and everything declared is imported: first in what is installed, then in all there is.

    What is right without it stands with its reason in pyproject.toml.
    """
    deptry = (PYTHON, "-m", "deptry", ".", "--no-ansi")
    left_out = (
        "--exclude",
        r"\.venv/",
        *(f"--extend-exclude={name}/" for name in ("node_modules", "tests/fixtures", "var")),
    )
    everything = (*deptry, "--non-dev-dependency-groups", "dev", *left_out)
    return run(*deptry, folder=root) or run(*everything, folder=root)


def messages() -> str:
    return run(PYTHON, "scripts/messages.py", "--check")


def documentation() -> str:
    """The option tables are those of the schemas, and the site can be made without a warning."""
    problem = run(PYTHON, "scripts/option_tables.py", "--check")
    if problem:
        return problem
    with tempfile.TemporaryDirectory() as folder:
        site, doctrees = f"{folder}/site", f"{folder}/doctrees"
        return run(PYTHON, "-m", "sphinx", "--quiet", "--fail-on-warning", "-b", "html", "-d", doctrees, "docs", site)


def page_types() -> str:
    """The page's types of events are those of the models."""
    return run(PYTHON, "-m", "scripts.page_types", "--check")


def page() -> str:
    return run("npm", "run", "--silent", "check")


CHECKS: dict[str, Callable[[], str]] = {
    "format": python_format,
    "lint": python_lint,
    "types": python_types,
    "system checks": system_checks,
    "migrations": migrations,
    "openapi": openapi,
    "requirements": requirements,
    "dependencies": dependencies,
    "messages": messages,
    "documentation": documentation,
    "page types": page_types,
    "room page": page,
}


def write_exports() -> str:
    """Renews what is made from other files: docs/openapi.yaml, requirements.txt, tables in docs/providers.md, and the
    page's types of events.
    """
    return (
        manage("spectacular", "--validate", "--fail-on-warn", "--file", str(OPENAPI))
        or _export_requirements(REQUIREMENTS)
        or run(PYTHON, "scripts/option_tables.py")
        or run(PYTHON, "-m", "scripts.page_types")
    )


def _export_requirements(target: Path) -> str:
    # The core alone: extras are heavy, or under licences that not everybody takes.
    return run(
        _uv(), "export", "--frozen", "--no-dev", "--no-hashes", "--no-header", "--quiet", "--output-file", str(target)
    )


def _uv() -> str:
    beside = Path(PYTHON).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv") or "uv"


def _same(fresh: Path, committed: Path) -> str:
    if committed.exists() and fresh.read_text() == committed.read_text():
        return ""
    return f"{committed.relative_to(ROOT)} is out of date. Run: make exports"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--write",
        action="store_true",
        help="renew the exports instead",
    )
    parser.add_argument("only", nargs="*", help=f"run only these: {', '.join(CHECKS)}")
    options = parser.parse_args()
    # What is checked must not depend on a copy that happens to run in this folder, nor write into its data.
    with tempfile.TemporaryDirectory(prefix="molts-check-") as data_dir:
        os.environ["MOLTS_DATA_DIR"] = data_dir
        if options.write:
            problem = write_exports()
            print(problem or "docs/openapi.yaml, requirements.txt and docs/providers.md are up to date")
            return 1 if problem else 0
        return run_checks(options.only or list(CHECKS))


def run_checks(names: list[str]) -> int:
    failed = []
    for name in names:
        started = time.monotonic()
        problem = CHECKS[name]()
        print(f"{name + ':':<15}{'FAILED' if problem else 'ok'}  ({time.monotonic() - started:.1f} s)", flush=True)
        if problem:
            print(problem, flush=True)
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
