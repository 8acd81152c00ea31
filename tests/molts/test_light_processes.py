"""Of all processes the web one alone pays for the web: the others import none of its pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WEB = ("unfold.admin", "rest_framework.views", "projects.admin", "avatars.admin", "sessions.admin", "molts.urls")
READ = "import json, sys, django; django.setup(); {}; print(json.dumps(sorted(sys.modules)))"
TASKS = "from molts.celery import app; app.finalize(); app.loader.import_default_modules()"


def imported(code: str, folder: Path) -> set[str]:
    """All modules of a fresh process that has run `code`."""
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "molts.settings", "MOLTS_DATA_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", READ.format(code)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import agent_runtime.worker, agent_runtime.avatar.job",
        f"import agent_runtime.speech.server, molts.management.commands.up; {TASKS}",
    ],
    ids=["agent and avatar", "speech, up, jobs and clock"],
)
def test_no_page_is_imported_where_none_is_served(code: str, tmp_path: Path) -> None:
    modules = imported(code, tmp_path)
    assert not [name for name in modules if name.startswith(WEB)]


def test_the_web_has_its_pages_before_the_first_visitor(tmp_path: Path) -> None:
    modules = imported("import molts.asgi", tmp_path)
    assert {"projects.admin", "avatars.admin", "sessions.admin", "rest_framework.views"} <= modules


def test_the_checks_see_every_page(tmp_path: Path) -> None:
    """Django's checks of the admin look at what is registered, and nothing is before the addresses are read."""
    code = "from projects.apps import check_pages; check_pages(None); from django.contrib import admin; import projects"
    assert {"projects.admin", "avatars.admin", "sessions.admin"} <= imported(code, tmp_path)


def test_conversations_share_the_parts_that_they_are_built_from(tmp_path: Path) -> None:
    modules = imported("import agent_runtime.preload", tmp_path)
    parts = (
        "espeak.tts",
        "faster_whisper.stt",
        "openai_compatible.llm",
        "scripted.llm",
        "shared.live",
        "shared.pieces",
    )
    assert {f"projects.providers.{part}" for part in parts} <= modules
