"""The talks of `make test`, again and again: none fails beside another. `MOLTS_SOAK_TALKS` says how often (10)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.test import TALKS

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]
ROOT = Path(__file__).resolve().parents[2]
ROUNDS = int(os.environ.get("MOLTS_SOAK_TALKS", "10"))
ROUND_SECONDS = 3_600


def test_the_talks_hold_beside_each_other(tmp_path: Path) -> None:
    failed: list[str] = []
    for number in range(1, ROUNDS + 1):
        began = time.monotonic()
        command = [sys.executable, "-m", "pytest", *TALKS.files, "-q", *TALKS.options]
        cache = ("-o", f"cache_dir={tmp_path / 'cache'}")
        done = subprocess.run(
            [*command, *cache], cwd=ROOT, capture_output=True, text=True, timeout=ROUND_SECONDS, check=False
        )
        names = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        assert done.returncode == 0 or names, done.stdout[-2000:] + done.stderr[-2000:]
        failed += [f"round {number}: {name}" for name in names]
        print(f"round {number}: {time.monotonic() - began:.0f} s, {len(names)} failed", flush=True)
    assert not failed, "\n".join(failed)
