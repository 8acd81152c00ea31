"""Runs the tests: first those that only compute, then the talks in real time; both two at a time.

A talk that fails beside another has a second run alone, which decides: a machine that is too busy for two is not what
it tests. Those that needed it are named at the end.

python scripts/test.py [pytest's own arguments]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

OTHERS = "not bench and not soak and not pictures"
TWO_AT_A_TIME = ("-n", "2", "--dist", "loadfile")
NOTHING_CHOSEN = 5  # pytest's exit status when no test fits the arguments
FAILED = 1
MOST_AGAIN = 8  # when more fail, it is not for want of time


def main(arguments: list[str]) -> int:
    """Both runs, also when the first one fails; the exit status of the first that failed."""
    computing = _run("tests that compute", "-m", f"{OTHERS} and not live", *TWO_AT_A_TIME, *arguments)
    if _was_ended(computing):
        return computing
    talking = _talk(arguments)
    failed = [status for status in (computing, talking) if status not in (0, NOTHING_CHOSEN)]
    if failed:
        return failed[0]
    return NOTHING_CHOSEN if computing == talking == NOTHING_CHOSEN else 0


def _talk(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as cache:
        remember = ("-o", f"cache_dir={cache}")
        chosen = ("-m", f"{OTHERS} and live", *remember)
        status = _run("talks in real time", *chosen, *TWO_AT_A_TIME, *arguments)
        if status != FAILED:
            return status
        failed = _names(Path(cache))
        if not 0 < len(failed) <= MOST_AGAIN:
            return status
        status = _run("talks that failed beside another, alone", *chosen, "--last-failed", *arguments)
    print("had a second run alone:", *failed, sep="\n  ", flush=True)
    return status


def _run(name: str, *options: str) -> int:
    print(name, flush=True)
    return subprocess.run([sys.executable, "-m", "pytest", "tests", *options], check=False).returncode


def _names(cache: Path) -> list[str]:
    found = cache / "v" / "cache" / "lastfailed"
    return sorted(json.loads(found.read_text(encoding="utf-8"))) if found.exists() else []


def _was_ended(status: int) -> bool:
    """Whether somebody ended the run."""
    return status < 0 or status == 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
