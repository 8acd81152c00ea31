"""The examples of docs/rest.md, taken from the page and run against a running copy as a reader would run them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from avatars.videos.queue import RENDER_COMMAND
from tests.agent_runtime.stack import end
from tests.e2e.stack import ROOT, Molts, stranger_environment

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAGE = (ROOT / "docs" / "rest.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture(scope="module")
def env(molts: Molts) -> dict[str, str]:
    """What the page tells a reader to set."""
    key = molts.shell(
        dedent("""
        from projects.models import Project
        from projects.services import create_api_key
        _, result = create_api_key(project=Project.objects.get(name="Demo"), name="docs")
        """)
    )
    return {**stranger_environment(), "MOLTS_URL": molts.url, "MOLTS_KEY": key}


@pytest.fixture(scope="module", autouse=True)
def _render(molts: Molts) -> Iterator[None]:
    """The part that makes videos, which these copies leave out, as it is started by hand."""
    command = [sys.executable, "-m", "celery", *RENDER_COMMAND.split()[1:], "--loglevel", "ERROR"]
    part = subprocess.Popen(command, cwd=ROOT, env=molts.env, start_new_session=True)
    yield
    end(part)


def run(command: list[str], env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_operation_of_the_schema_has_an_example_in_three_languages() -> None:
    paths = re.findall(r"^  /api/v1/(\S+):$", (ROOT / "docs" / "openapi.yaml").read_text(), re.M)
    # The last word of an address tells its operations apart: sessions, say, {agent_id} …
    # Webhooks have a page and a test of their own.
    paths = [path for path in paths if not path.startswith("webhook-endpoints")]
    last_words = {path.rsplit("/", 1)[-1] for path in paths} - {"{session_id}", "{agent_id}", "{video_id}"}
    assert {"sessions", "say", "token", "agents", "transcript", "end"} <= last_words

    for language in ("sh", "python", "ts"):
        text = "\n".join(blocks(language))
        assert {word for word in last_words if word not in text} == set(), language


def test_curl_examples_work_as_they_stand(env: dict[str, str], tmp_path: Path) -> None:
    answers: list[Any] = []
    for block in blocks("sh"):
        if block.startswith("export MOLTS_"):
            continue  # the reader's own values
        answer = json.loads(run(["bash", "-euc", block], env, tmp_path))
        assert "errors" not in answer, f"{block}\n{answer}"
        answers.append(answer)
        if "ws_url" in answer:
            env = {**env, "SESSION": answer["id"]}
        if "video_url" in answer:
            env = {**env, "VIDEO": answer["id"]}
        if "slug" in (answer.get("results") or [{}])[0]:
            env = {**env, "AGENT": answer["results"][0]["id"]}

    assert len(answers) == 12
    transcript = next(answer for answer in answers if "segments" in answer)
    assert transcript["session"]["id"] == env["SESSION"]
    assert next(answer for answer in answers if "greeting" in answer)["id"] == env["AGENT"]


def test_python_examples_work_as_they_stand(env: dict[str, str], tmp_path: Path) -> None:
    # httpx2 is that library under the name of its successor; the page names the one that readers have.
    script = "import httpx2, sys; sys.modules['httpx'] = httpx2\n" + "\n".join(blocks("python"))
    (tmp_path / "example.py").write_text(script)

    said = run([sys.executable, "example.py"], env, tmp_path)

    assert f"talk here: {env['MOLTS_URL']}/r/" in said
    assert "ended ended_by_api" in said
    assert "mira Mira" in said


def test_typescript_examples_work_as_they_stand(env: dict[str, str], tmp_path: Path) -> None:
    node = shutil.which("node", path=env["PATH"])
    assert node, "run: make setup"
    (tmp_path / "example.ts").write_text("\n".join(blocks("ts")))
    esbuild = str(ROOT / "node_modules" / ".bin" / "esbuild")
    run([esbuild, "example.ts", "--format=esm", "--target=es2022", "--outfile=example.mjs"], env, tmp_path)

    # The flag is for Node 20; later ones have WebSocket without it.
    said = run([node, "--experimental-websocket", "example.mjs"], env, tmp_path)

    assert f"talk here: {env['MOLTS_URL']}/r/" in said
    assert "ended ended_by_api" in said
    assert "mira Mira" in said
