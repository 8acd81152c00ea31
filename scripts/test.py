"""Runs the tests: first what can run side by side, then, one at a time, the talks in real time.

python scripts/test.py [pytest's own arguments]
"""

from __future__ import annotations

import subprocess
import sys

OTHERS = "not bench and not soak and not pictures"
RUNS = (
    ("side by side", ["-m", f"{OTHERS} and not live", "-n", "2", "--dist", "loadfile"]),
    ("one at a time", ["-m", f"{OTHERS} and live"]),
)
NOTHING_CHOSEN = 5  # pytest's exit status when no test fits the arguments


def main(arguments: list[str]) -> int:
    """Both runs, also when the first one fails; the exit status of the first that failed."""
    statuses = []
    for name, options in RUNS:
        print(f"tests that run {name}", flush=True)
        status = subprocess.run([sys.executable, "-m", "pytest", "tests", *options, *arguments], check=False).returncode
        statuses.append(status)
        if status < 0 or status == 2:  # somebody ended it
            break
    failed = [status for status in statuses if status not in (0, NOTHING_CHOSEN)]
    return failed[0] if failed else (NOTHING_CHOSEN if NOTHING_CHOSEN in statuses and 0 not in statuses else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
