"""Previews: who is given which clip, one at a time, and where tickets lead."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db import connection
from django.test import Client
from django.utils import timezone

from avatars.engines.base import Face
from avatars.faces import make_face, save_avatar_version
from avatars.models import Agent, Avatar
from avatars.videos import previews, queue, runner
from avatars.videos.clips import DROPPED, render_clip
from avatars.videos.models import VideoJob
from avatars.videos.previews import PreviewState, preview_clip, preview_state, start_preview
from molts import beats
from molts.errors import Busy, NotFound, Unavailable
from projects.models import Project
from tests.avatars.videos.stand_ins import FACE, Worker, probe
from tests.forms import admin_url

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

ROOT = Path(__file__).resolve().parents[3]
Use = Callable[[str], None]


# -- Tickets ----------------------------------------------------------------------------------------------------------
def settled(user_id: int, ticket: str, seconds: float = 60) -> PreviewState:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        state = preview_state(user_id=user_id, ticket=ticket)
        if state.state in ("done", "failed"):
            return state
        time.sleep(0.1)
    raise AssertionError("the preview did not end")


def start(user: User, face: Face = FACE) -> str:
    return start_preview(user_id=user.pk, engine="puppet", face=face, text="Hello")


def test_a_ticket_leads_to_the_clip_of_whoever_asked(
    engine: Use, speech: None, worker: Worker, alice: User, charlie: User, tmp_path: Path
) -> None:
    ticket = start(alice)

    state = settled(alice.pk, ticket)

    assert (state.state, state.progress) == ("done", 1.0)
    clip, media_type = preview_clip(user_id=alice.pk, ticket=ticket)
    assert probe(clip, tmp_path)["video"]
    assert media_type == state.media_type
    with pytest.raises(NotFound):
        preview_state(user_id=charlie.pk, ticket=ticket)
    with pytest.raises(NotFound):
        preview_state(user_id=alice.pk, ticket="no-ticket")


def test_asking_again_drops_the_one_before(engine: Use, speech: None, worker: Worker, alice: User) -> None:
    engine("Endless")
    first = start(alice)
    while preview_state(user_id=alice.pk, ticket=first).stage != "Preparing the face":
        time.sleep(0.05)
    engine("Round")

    second = start(alice)

    assert settled(alice.pk, second).state == "done"
    state = preview_state(user_id=alice.pk, ticket=first)
    assert (state.state, state.error) == ("failed", DROPPED)


def test_one_that_was_dropped_before_its_turn_says_so(sent: list[object], alice: User) -> None:
    """Its page would wait for minutes."""
    first = start(alice)
    start(alice)

    state = preview_state(user_id=alice.pk, ticket=first)

    assert (state.state, state.error) == ("failed", DROPPED)
    runner.run_job(job_id=VideoJob.objects.get(pk=first).pk, worker="late")
    assert VideoJob.objects.get(pk=first).attempts == 0, "nobody makes it"


def test_too_many_at_once_are_refused(
    sent: list[object], alice: User, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "MOST_WAITING", 1)
    ticket = start(alice)

    with pytest.raises(Busy):
        start(charlie)

    assert preview_state(user_id=alice.pk, ticket=ticket).state == "waiting"
    start(alice)  # in the place of the one before


def test_the_picture_is_copied(
    engine: Use, speech: None, worker: Worker, alice: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def look(**given: object) -> tuple[bytes, str]:
        face = given["face"]
        assert isinstance(face, Face)
        assert face.portrait is not None
        seen.append(face.portrait.read_bytes())
        return render_clip(**given)  # type: ignore[arg-type]

    monkeypatch.setattr(previews, "render_clip", look)
    picture = tmp_path / "face.png"
    picture.write_bytes(b"a picture")
    ticket = start(alice, Face(key="round", portrait=picture, options={}))
    picture.unlink()

    settled(alice.pk, ticket)

    assert seen == [b"a picture"]


def test_a_kept_clip_replaces_the_one_before(
    engine: Use, speech: None, worker: Worker, alice: User, project: Project
) -> None:
    avatar = Avatar.objects.create(project=project, name="Mira")
    avatar.preview.save("old.mp4", ContentFile(b"old"))
    old = avatar.preview.name
    face = make_face(engine="puppet", options={}, portrait=None)

    ticket = start_preview(user_id=alice.pk, engine="puppet", face=face, text="Hello", keep_for=avatar.pk)

    assert settled(alice.pk, ticket).state == "done"
    avatar.refresh_from_db()
    assert previews.preview_is_current(avatar, face)
    assert not avatar.preview.storage.exists(old or "")


# -- Parts that do not run --------------------------------------------------------------------------------------------
def test_without_a_worker_the_page_is_told_which_part_to_start(
    sent: list[object], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beats, "workers", lambda kind: [])
    ticket = start(alice)
    assert preview_state(user_id=alice.pk, ticket=ticket).state == "waiting", "one may be on its way"
    VideoJob.objects.update(sent_at=timezone.now() - previews.UNSERVED_AFTER - timedelta(seconds=1))

    state = preview_state(user_id=alice.pk, ticket=ticket)

    assert state.state == "failed"
    assert "render" in state.error
    assert "make up" in state.error


def test_one_that_waits_its_turn_waits(sent: list[object], alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = beats.WorkerInfo("one", "host", 1, slots=1, used=1)
    monkeypatch.setattr(beats, "workers", lambda kind: [busy] if kind == beats.WorkerKind.RENDER else [])
    ticket = start(alice)
    VideoJob.objects.update(sent_at=timezone.now() - previews.UNSERVED_AFTER - timedelta(seconds=1))

    assert preview_state(user_id=alice.pk, ticket=ticket).state == "waiting"


def test_a_queue_out_of_reach_is_told_at_once(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(job_id: object) -> None:
        raise Unavailable("Redis is out of reach, so no video can be made.")

    monkeypatch.setattr(queue, "send", away)

    with pytest.raises(Unavailable, match="Redis"):
        start(alice)

    assert VideoJob.objects.get().state == "failed", "nobody makes it later"


# -- Two web processes ------------------------------------------------------------------------------------------------
ASK = """
import sys, django
django.setup()
from avatars.engines.base import Face
from avatars.videos import previews, queue
queue.send = lambda job_id: None
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    previews.start_preview(user_id=int(sys.argv[1]), engine="puppet", face=Face(key="round", options={}), text="Hello")
"""


def test_two_web_processes_keep_one_preview_at_a_time_for_one_person(alice: User, tmp_path: Path) -> None:
    """Both ask twenty times as fast as they can, on one database."""
    name = connection.settings_dict["NAME"]
    env = {**os.environ, "DATABASE_URL": f"sqlite:///{name}", "MOLTS_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-c", ASK, str(alice.pk)]
    webs = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**env, "DJANGO_SETTINGS_MODULE": "molts.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for web in webs:
            assert web.stdout is not None
            assert web.stdout.readline() == "ready\n"
        for web in webs:
            assert web.stdin is not None
            web.stdin.write("go\n")
            web.stdin.flush()
        assert [web.wait(60) for web in webs] == [0, 0]
    finally:
        for web in webs:
            web.kill()
            web.communicate()

    states = list(VideoJob.objects.values_list("state", flat=True))
    assert (states.count("queued"), states.count("cancelled")) == (1, 39)


# -- The doors --------------------------------------------------------------------------------------------------------
def test_an_editor_sees_the_posted_face_and_keeps_the_saved_one(
    engine: Use, speech: None, worker: Worker, agent: Agent, bob: User, sign_in: Callable[[User], Client]
) -> None:
    avatar = Avatar.objects.create(project=agent.project, name="Mira", options={"character": "mira"}, builtin="mira")
    save_avatar_version(avatar=avatar)
    client, url = sign_in(bob), admin_url(Avatar, "preview")
    posted = {"avatar": str(avatar.pk), "engine": "puppet", "option_character": "otto", "agent": str(agent.pk)}

    unsaved = client.post(url, posted)
    news = unsaved.json()["news"]
    until = time.monotonic() + 60
    while (state := client.get(news).json())["state"] != "done" and time.monotonic() < until:
        time.sleep(0.1)

    assert unsaved.status_code == 202
    assert client.get(state["clip"])["Content-Type"] == state["media_type"]
    refused = client.post(url, posted | {"keep": "1"})
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "invalid")
    assert "Save your changes first" in refused.json()["errors"][0]["detail"]
    wrong = client.post(url, posted | {"option_character": "nobody"})
    assert wrong.json()["errors"][0]["attr"] == "option_character"
    assert client.post(url, posted | {"engine": "still"}).status_code == 400
    assert client.get(admin_url(Avatar, "clip", avatar.pk)).status_code == 404
