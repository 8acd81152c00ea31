"""The programs that molts is compared with: their environments, made once apart from molts' own, and their start."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.agent_runtime.stack import ROOT, Stack, wait_for

FOLDER = Path(os.environ.get("MOLTS_BENCH_PEERS", ROOT / "var" / "bench"))
INSTALL_SECONDS = 1800
# Without a graphics card the smaller build of torch will do, where its index can be reached.
BUILDS = (("--torch-backend", "cpu"), ())


def environment(name: str, *requirements: str) -> Path:
    """The folder of the environment's programs. Skips the test, saying why, where it cannot be made."""
    folder = FOLDER / name
    ready = folder / ".ready"
    if not ready.is_file() or ready.read_text() != "\n".join(requirements):
        _make(folder, requirements)
        ready.write_text("\n".join(requirements))
    return folder / "bin"


def start_bare_worker(stack: Stack, answers: Mapping[str, str], **env: str) -> None:
    """Start `bare_worker` beside molts in `stack`, and wait until it is there with a warm process."""
    configuration = {"BARE_PERSONA": json.dumps(dict(answers)), "DJANGO_SETTINGS_MODULE": "molts.settings", **env}
    stack.start_program("bare", [sys.executable, "-m", "tests.bench.bare_worker"], env=configuration)
    wait_for("the bare worker", lambda: "registered worker" in stack.log("bare"))
    wait_for("its warm process", lambda: "process initialized" in stack.log("bare"))


def _make(folder: Path, requirements: tuple[str, ...]) -> None:
    uv = Path(sys.executable).with_name("uv")
    shutil.rmtree(folder, ignore_errors=True)
    print(f"making {folder}: {', '.join(requirements)} (gigabytes, once)", flush=True)
    _run(uv, "venv", "--quiet", "--python", sys.executable, folder)
    for number, build in enumerate(BUILDS, 1):
        try:
            _run(uv, "pip", "install", "--quiet", *build, "--python", folder / "bin" / "python", *requirements)
        except subprocess.SubprocessError as error:
            if number == len(BUILDS):
                told = getattr(error, "stderr", None) or str(error)
                pytest.skip(f"{', '.join(requirements)} cannot be installed here: {str(told).strip()[-500:]}")
        else:
            return


def _run(*command: object) -> None:
    words = [str(word) for word in command]
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
