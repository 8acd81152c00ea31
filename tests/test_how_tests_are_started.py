"""No test may depend on how its shell was started, and what failed once has failed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import test as suite

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


FAILS_ONCE = """
from pathlib import Path
def test_a_fault_that_comes_now_and_then():
    seen = Path(__file__).with_suffix(".seen")
    assert seen.exists() or seen.touch()
"""


def test_what_fails_once_fails_the_run_and_is_not_repeated(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_luck.py").write_text(FAILS_ONCE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    alone = ("-c", str(tmp_path / "pytest.ini"), "-p", "no:django", "-q")
    shares = [suite.Share(name, (str(tmp_path),), alone) for name in ("first", "second")]

    assert suite.main([], shares) == 1  # though nothing of the second share failed

    said = capfd.readouterr().out
    assert said.count("1 failed") == said.count("1 passed") == 1
    assert "\n2 tests in " in said
    assert "reruns: 0" in said
    assert said.count("test_a_fault_that_comes_now_and_then\n") >= 2, "the slowest have their names"


def test_what_is_marked_as_soak_is_run_wherever_it_stands() -> None:
    done = subprocess.run(["make", "-n", "soak"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert " -m pytest tests -m soak " in done.stdout
    assert all("not soak" in share.options[1] for share in (suite.COMPUTING, suite.TALKS))
