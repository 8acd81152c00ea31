"""Runs the tests: first those that only compute, four at a time, then the talks in real time, two at a time.

A few that fail beside others have a second run alone, which decides: a machine that is too busy is not what they test.
At the end stand how many tests there were, how long they took, the slowest, and which had a second run; each of those
is a fault to find.

python scripts/test.py [pytest's own arguments]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

OTHERS = "not bench and not soak and not pictures"
NOTHING_CHOSEN = 5  # pytest's exit status when no test fits the arguments
FAILED = 1
MOST_AGAIN = 8  # when more fail, it is not for want of time
SLOWEST = 10


@dataclass(frozen=True)
class Share:
    """A part of the tests that has one run of pytest: its name, where its files are, and pytest's options."""

    name: str
    files: tuple[str, ...]
    options: tuple[str, ...]


TALKS = Share(
    "talks",
    ("tests/e2e", "tests/agent_runtime", "tests/molts/test_up.py"),
    ("-m", f"{OTHERS} and live", "-n", "2", "--dist", "loadfile"),
)
"""By the file; all that talks with a running copy is tested by one process (tests/conftest.py)."""
COMPUTING = Share("computing", ("tests",), ("-m", f"{OTHERS} and not live", "-n", "4", "--dist", "worksteal"))
"""By the test, not by the file: a long file would keep one processor waiting at the end. More at a time than most
machines have processors, since half of the time of many tests is waiting for programs that they started."""


def main(arguments: Sequence[str]) -> int:
    """Both shares, also when one fails; the exit status of the first that failed."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        runs: list[ShareRun] = []
        for share in (COMPUTING, TALKS):
            runs.append(ShareRun(share, arguments, Path(folder)))
            if _was_ended(runs[-1].status):
                return runs[-1].status
        statuses = {run.status for run in runs}
        status = next((run.status for run in runs if run.status not in (0, NOTHING_CHOSEN)), min(statuses))
        again: list[str] = []
        if statuses - {0, NOTHING_CHOSEN} == {FAILED}:
            failed = sorted(name for run in runs for name in run.failed)
            if len(failed) <= MOST_AGAIN:
                again, status = failed, _alone(failed, Path(folder))
        _tell([run.report for run in runs], seconds=time.monotonic() - began, again=again)
    return status


class ShareRun:
    """One run of pytest over a share: its exit status, its report, and what failed."""

    def __init__(self, share: Share, arguments: Sequence[str], folder: Path) -> None:
        print(f"tests: {share.name}", flush=True)
        self.report = folder / f"{share.name}.xml"
        self._cache = folder / share.name
        pytest = (sys.executable, "-m", "pytest", f"--junitxml={self.report}", "-o", f"cache_dir={self._cache}")
        command = [*pytest, *share.files, *share.options, *arguments]
        self.status = subprocess.run(command, env=_environment(), check=False).returncode

    @property
    def failed(self) -> list[str]:
        """The tests that failed, by pytest's names for them."""
        found = self._cache / "v" / "cache" / "lastfailed"
        return list(json.loads(found.read_text(encoding="utf-8"))) if found.exists() else []


def _was_ended(status: int) -> bool:
    """Whether somebody ended the run."""
    return status < 0 or status == 2


def _alone(names: Sequence[str], folder: Path) -> int:
    """The exit status of these tests, one after the other with nothing beside them."""
    print("tests that failed beside others, alone", flush=True)
    command = [sys.executable, "-m", "pytest", *names, "-o", f"cache_dir={folder / 'alone'}"]
    return subprocess.run(command, env=_environment(), check=False).returncode


def _environment() -> dict[str, str]:
    """Bytecode is kept: without it each of the hundreds of processes that tests start compiles all of molts anew."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _tell(reports: Sequence[Path], *, seconds: float, again: Sequence[str]) -> None:
    cases = [case for report in reports if report.exists() for case in ElementTree.parse(report).iter("testcase")]  # noqa: S314
    times = sorted(
        ((float(case.get("time", 0)), f"{case.get('classname')}.{case.get('name')}") for case in cases), reverse=True
    )
    print(
        f"{len(cases)} tests in {seconds:.0f} s, slowest:",
        *(f"{taken:6.1f} s  {name}" for taken, name in times[:SLOWEST]),
        f"second runs alone: {len(again)}",
        *again,
        sep="\n  ",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
