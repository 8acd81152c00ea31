"""Runs the tests: the talks in real time, and beside them those that only compute.

Talks mostly wait, for what is said takes its time. Those that compute get the processor time which the talks leave:
their priority is so low that a talk never waits for them. A few that fail beside others have a second run alone, which
decides: a machine that is too busy is not what they test. At the end stand how many tests there were, how long they
took, the slowest, and which had a second run; each of those is a fault to find.

python scripts/test.py [pytest's own arguments]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
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
    """A part of the tests that has one run of pytest: its name, where its files are, pytest's options, and how far it
    stands back for others."""

    name: str
    files: tuple[str, ...]
    options: tuple[str, ...]
    nice: int = 0


TALKS = Share(
    "talks",
    ("tests/e2e", "tests/agent_runtime", "tests/molts/test_up.py"),
    ("-m", f"{OTHERS} and live", "-n", "2", "--dist", "loadfile"),
)
"""By the file; all that talks with a running copy is tested by one process (tests/conftest.py)."""
COMPUTING = Share("computing", ("tests",), ("-m", f"{OTHERS} and not live", "-n", "2", "--dist", "worksteal"), nice=15)
"""By the test, not by the file: a long file would keep one processor waiting at the end."""


def main(arguments: Sequence[str]) -> int:
    """Both shares, also when one fails; the exit status of the first that failed."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        runs = [ShareRun(share, arguments, Path(folder)) for share in (TALKS, COMPUTING)]
        statuses = [run.wait() for run in runs]
        failed, again = [status for status in statuses if status not in (0, NOTHING_CHOSEN)], []
        if set(failed) == {FAILED}:
            again = sorted(name for run in runs for name in run.failed)
            if len(again) <= MOST_AGAIN:
                failed = [status for status in [_alone(again, Path(folder))] if status]
        _tell([run.report for run in runs], seconds=time.monotonic() - began, again=again)
    if failed:
        return failed[0]
    return NOTHING_CHOSEN if set(statuses) == {NOTHING_CHOSEN} else 0


class ShareRun:
    """pytest with one share of the tests. What it says is shown line by line behind the share's name."""

    def __init__(self, share: Share, arguments: Sequence[str], folder: Path) -> None:
        self.share = share
        self.report = folder / f"{share.name}.xml"
        self._cache = folder / share.name
        pytest = (sys.executable, "-m", "pytest", f"--junitxml={self.report}", "-o", f"cache_dir={self._cache}")
        self._process = subprocess.Popen(
            ["nice", "-n", str(share.nice), *pytest, *share.files, *share.options, *arguments],
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._shown = threading.Thread(target=self._show)
        self._shown.start()

    def wait(self) -> int:
        """The exit status. Ctrl-C reaches pytest too, which then ends its tests; we wait for that."""
        while True:
            try:
                status = self._process.wait()
                self._shown.join()
            except KeyboardInterrupt:
                continue
            return status

    @property
    def failed(self) -> list[str]:
        """The tests that failed, by pytest's names for them."""
        found = self._cache / "v" / "cache" / "lastfailed"
        return list(json.loads(found.read_text(encoding="utf-8"))) if found.exists() else []

    def _show(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(f"{self.share.name:9} | {line}", end="", flush=True)


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
