"""Runs the tests: first those that only compute, four at a time, then the talks in real time, two at a time.

Every test runs once, and a failure is a failure: one that comes now and then is a fault to find. At the end stand how
many tests there were, how long they took, and the slowest.

python scripts/test.py [pytest's own arguments]
"""

from __future__ import annotations

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


def main(arguments: Sequence[str], shares: Sequence[Share] = (COMPUTING, TALKS)) -> int:
    """Every share, also when one before it fails; the exit status of the first that failed."""
    began = time.monotonic()
    statuses: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        reports = [Path(folder) / f"{share.name}.xml" for share in shares]
        for share, report in zip(shares, reports, strict=True):
            print(f"tests: {share.name}", flush=True)
            statuses.append(_run(share, arguments, report))
            if _was_ended(statuses[-1]):
                return statuses[-1]
        _tell(reports, seconds=time.monotonic() - began)
    return next((status for status in statuses if status not in (0, NOTHING_CHOSEN)), min(statuses))


def _run(share: Share, arguments: Sequence[str], report: Path) -> int:
    """The exit status of one run of pytest over a share, which writes its times to `report`."""
    pytest = (sys.executable, "-m", "pytest", f"--junitxml={report}")
    command = [*pytest, *share.files, *share.options, *arguments]
    return subprocess.run(command, env=_environment(), check=False).returncode


def _was_ended(status: int) -> bool:
    """Whether somebody ended the run."""
    return status < 0 or status == 2


def _environment() -> dict[str, str]:
    """Bytecode is kept: without it each of the hundreds of processes that tests start compiles all of molts anew."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _tell(reports: Sequence[Path], *, seconds: float) -> None:
    cases = [case for report in reports if report.exists() for case in ElementTree.parse(report).iter("testcase")]  # noqa: S314
    times = sorted(
        ((float(case.get("time", 0)), f"{case.get('classname')}.{case.get('name')}") for case in cases), reverse=True
    )
    print(
        f"{len(cases)} tests in {seconds:.0f} s, reruns: 0, slowest:",
        *(f"{taken:6.1f} s  {name}" for taken, name in times[:SLOWEST]),
        sep="\n  ",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
