"""Runs the tests: first those that only compute, then the talks in real time; both two at a time.

A talk that fails beside another has a second run alone, which decides: a machine that is too busy for two is not what
it tests. At the end stand how many tests there were, how long they took, the slowest, and which had a second run.

python scripts/test.py [pytest's own arguments]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

OTHERS = "not bench and not soak and not pictures"
TALKS = ("-n", "2", "--dist", "loadfile")
"""By the file; all that talks with a running copy is tested by one process (tests/conftest.py)."""
COMPUTING = ("-n", "2", "--dist", "worksteal")
"""By the test, not by the file: a long file would keep one processor waiting at the end."""
NOTHING_CHOSEN = 5  # pytest's exit status when no test fits the arguments
FAILED = 1
MOST_AGAIN = 8  # when more fail, it is not for want of time
SLOWEST = 10


def main(arguments: list[str]) -> int:
    """Both runs, also when the first one fails; the exit status of the first that failed."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        status, again = _test(arguments, Path(folder))
        _tell(Path(folder), seconds=time.monotonic() - began, again=again)
    return status


def _test(arguments: list[str], folder: Path) -> tuple[int, list[str]]:
    """The exit status, and which talks had a second run."""
    computing = _run("tests that compute", folder, "-m", f"{OTHERS} and not live", *COMPUTING, *arguments)
    if _was_ended(computing):
        return computing, []
    talking, again = _talk(arguments, folder)
    failed = [status for status in (computing, talking) if status not in (0, NOTHING_CHOSEN)]
    if failed:
        return failed[0], again
    return (NOTHING_CHOSEN if computing == talking == NOTHING_CHOSEN else 0), again


def _talk(arguments: list[str], folder: Path) -> tuple[int, list[str]]:
    cache = folder / "cache"
    chosen = ("-m", f"{OTHERS} and live", "-o", f"cache_dir={cache}")
    status = _run("talks in real time", folder, *chosen, *TALKS, *arguments)
    failed = _names(cache)
    if status != FAILED or not 0 < len(failed) <= MOST_AGAIN:
        return status, []
    return _run("talks that failed beside another, alone", folder, *chosen, "--last-failed", *arguments), failed


def _run(name: str, folder: Path, *options: str) -> int:
    print(name, flush=True)
    command = [sys.executable, "-m", "pytest", "tests", f"--junitxml={folder / name}.xml", *options]
    return subprocess.run(command, env=_environment(), check=False).returncode


def _environment() -> dict[str, str]:
    """Bytecode is kept: without it each of the hundreds of processes that tests start compiles all of molts anew."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _names(cache: Path) -> list[str]:
    found = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(found.read_text(encoding="utf-8"))) if found.exists() else []


def _was_ended(status: int) -> bool:
    """Whether somebody ended the run."""
    return status < 0 or status == 2


def _tell(folder: Path, *, seconds: float, again: list[str]) -> None:
    cases = [case for report in folder.glob("*.xml") for case in ElementTree.parse(report).iter("testcase")]  # noqa: S314
    times = sorted(
        ((float(case.get("time", 0)), f"{case.get('classname')}.{case.get('name')}") for case in cases), reverse=True
    )
    print(
        f"{len(cases) - len(again)} tests in {seconds:.0f} s, slowest:",
        *(f"{taken:6.1f} s  {name}" for taken, name in times[:SLOWEST]),
        f"second runs alone: {len(again)}",
        *again,
        sep="\n  ",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
