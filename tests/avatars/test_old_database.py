"""A database from before snapshots were types: it opens, its conversations can be held, its agents rolled back.

`tests/fixtures/before_typed_snapshots.sql` was written by the release before: an agent with three revisions, an avatar
with two versions, a conversation that runs and one that is over.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
USE_IT = """
import json
from avatars.faces import restore_version
from avatars.models import Agent, AgentRevision, AvatarVersion
from avatars.revisions import roll_back
from projects.providers.base import Kind
from sessions import services
from sessions.models import LiveSession
from sessions.spec import load_spec

revisions = list(AgentRevision.objects.order_by("number"))
stored = {str(revision.pk): revision.snapshot for revision in revisions}
live, over = LiveSession.objects.get(state="waiting"), LiveSession.objects.get(state="ended")
spec = load_spec(live.pk)
restored = restore_version(version=AvatarVersion.objects.order_by("number").first())
back = roll_back(revision=revisions[0])
agent = Agent.objects.get()
new = load_spec(services._create_session(agent=agent, link=None, visitor_name="", source="link").pk)
print("=>" + json.dumps({
    "kept": {str(revision.pk): revision.agent_snapshot.as_json() == revision.snapshot for revision in revisions},
    "unchanged": stored == {str(each.pk): each.snapshot for each in AgentRevision.objects.filter(pk__in=stored)},
    "greetings": [revision.agent_snapshot.greeting for revision in revisions],
    "spec": [spec.persona.name, spec.face.engine, [rung.provider for rung in spec.chains[Kind.TTS]]],
    "history": [line.text for line in spec.history],
    "over": over.agent_snapshot.name,
    "restored": [restored.avatar_snapshot.name, agent.avatar.name],
    "back": [back.number, agent.greeting, agent.answers.count(), new.persona.greeting],
}))
"""


def manage(folder: Path, *arguments: str) -> str:
    env = {**os.environ, "MOLTS_DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "molts.settings"}
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def used(tmp_path: Path) -> dict[str, Any]:
    dump = (ROOT / "tests" / "fixtures" / "before_typed_snapshots.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "molts.sqlite3")) as database:
        database.executescript(dump)
    manage(tmp_path, "migrate", "--no-input", "--skip-checks", "--verbosity", "0")
    said = manage(tmp_path, "shell", "-v", "0", "-c", USE_IT)
    found: dict[str, Any] = json.loads(said.rsplit("=>", 1)[1])
    return found


@pytest.mark.slow
def test_a_database_of_the_release_before_is_opened_talked_with_and_rolled_back(used: dict[str, Any]) -> None:
    assert set(used["kept"].values()) == {True}
    assert used["unchanged"], "what is stored stays as it was written"
    assert used["greetings"][0] == "Hello."
    assert used["greetings"][-1] == "Good day."
    assert used["spec"] == ["Ada", "puppet", ["espeak"]]
    assert used["history"] == ["when is the meeting", "The meeting is today at nine."]
    assert used["over"] == "Ada"
    assert used["restored"] == ["Mira", "Mira"]
    assert used["back"] == [4, "Hello.", 1, "Hello."]
