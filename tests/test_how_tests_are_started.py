"""No test may depend on how its shell was started."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_a_program_ends_by_a_signal(number: signal.Signals) -> None:
    code = f"import signal; print(signal.getsignal({int(number)}) is not signal.SIG_IGN)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True\n"


def test_programs_that_tests_start_can_be_ended_in_the_background_of_a_shell_and_under_nohup() -> None:
    tests = f"{sys.executable} -m pytest -q -p no:cacheprovider tests/{Path(__file__).name} -k test_a_program_ends_by"
    done = subprocess.run(
        ["/bin/sh", "-c", f"trap '' INT HUP; exec {tests}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
