"""Clips of a face: what the child process makes, how it is bounded, and where tickets lead."""

from __future__ import annotations

import io
import json
import subprocess
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.test import Client
from pytest_django import Settings

from avatars import previews
from avatars.engines import ENGINES, get_engine
from avatars.engines.base import Face
from avatars.faces import make_face, save_avatar_version
from avatars.models import Agent, Avatar
from avatars.previews import PreviewState, preview_clip, preview_state, render_clip, start_preview
from molts.errors import BadInput, Busy, NotFound, Unavailable
from projects.models import Project
from tests.avatars.stand_in import HERE
from tests.forms import admin_url

pytestmark = pytest.mark.slow

FACE = Face(key="round", options={})


@pytest.fixture(autouse=True)
def _cache_of_its_own(settings: Settings, tmp_path: Path) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": str(tmp_path)}
    }


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a stand-in in the place of the puppet."""

    def use(name: str) -> None:
        monkeypatch.setitem(ENGINES, "puppet", f"{HERE}.{name}")
        get_engine.cache_clear()

    use("Round")
    yield use
    get_engine.cache_clear()


def tone(seconds: float = 1.0, rate: int = 22_050) -> bytes:
    output = io.BytesIO()
    with wave.open(output, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        time = np.arange(int(seconds * rate)) / rate
        file.writeframes((8_000 * np.sin(2 * np.pi * 220 * time)).astype(np.int16).tobytes())
    return output.getvalue()


def probe(clip: bytes, folder: Path) -> dict[str, Any]:
    """Streams of a clip by their kind, as FFmpeg reads them."""
    file = folder / "probed"
    file.write_bytes(clip)
    command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(file)]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=20)
    return {stream["codec_type"]: stream for stream in json.loads(answer.stdout)["streams"]}


# -- Rendering --------------------------------------------------------------------------------------------------------
def test_a_clip_has_picture_and_sound_of_the_same_length(engine: Callable[[str], None], tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []

    clip, media_type = render_clip(
        engine="puppet", face=FACE, speech=tone(1.2), folder=tmp_path, tell=lambda *news: told.append(news)
    )

    streams = probe(clip, tmp_path)
    assert media_type in ("video/mp4", "video/webm")
    assert (streams["video"]["width"], streams["video"]["height"]) == (512, 512)
    assert float(streams["video"]["duration"]) == pytest.approx(0.6 + 1.2 + 1.0, abs=0.2)
    assert float(streams["audio"]["duration"]) == pytest.approx(0.6 + 1.2, abs=0.2), "silence until it speaks"
    assert {"Preparing the face", "Rendering"} == {stage for stage, _ in told}
    assert told[-1][1] == pytest.approx(1, abs=0.05)


def test_what_is_wrong_with_the_face_is_told_with_its_field(engine: Callable[[str], None], tmp_path: Path) -> None:
    engine("Faceless")

    with pytest.raises(BadInput, match="No face was found") as caught:
        render_clip(engine="puppet", face=FACE, speech=tone(), folder=tmp_path)

    assert caught.value.attr == "portrait"


def test_an_engine_that_crashes_takes_nothing_with_it(engine: Callable[[str], None], tmp_path: Path) -> None:
    engine("Crashing")

    with pytest.raises(Unavailable, match="crashed"):
        render_clip(engine="puppet", face=FACE, speech=tone(), folder=tmp_path)


def test_an_engine_that_never_ends_is_ended(engine: Callable[[str], None], tmp_path: Path) -> None:
    engine("Endless")
    started = time.monotonic()

    with pytest.raises(Unavailable, match="within 2 s"):
        render_clip(engine="puppet", face=FACE, speech=tone(), folder=tmp_path, seconds=2)

    assert time.monotonic() - started < 30


def test_a_clip_that_nobody_wants_any_more_is_ended(engine: Callable[[str], None], tmp_path: Path) -> None:
    engine("Endless")
    dropped = threading.Event()
    threading.Timer(1, dropped.set).start()

    with pytest.raises(Unavailable, match="Another preview"):
        render_clip(engine="puppet", face=FACE, speech=tone(), folder=tmp_path, dropped=dropped)


# -- Tickets ----------------------------------------------------------------------------------------------------------
def settled(user_id: int, ticket: str, seconds: float = 60) -> PreviewState:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        state = preview_state(user_id=user_id, ticket=ticket)
        if state.state in ("done", "failed"):
            return state
        time.sleep(0.1)
    raise AssertionError("the preview did not end")


@pytest.fixture
def speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "speak_sample", lambda **_: tone())


def test_a_ticket_leads_to_the_clip_of_whoever_asked(
    engine: Callable[[str], None], speech: None, tmp_path: Path
) -> None:
    ticket = start_preview(user_id=1, engine="puppet", face=FACE, text="Hello")

    state = settled(1, ticket)

    assert (state.state, state.progress) == ("done", 1.0)
    clip, media_type = preview_clip(user_id=1, ticket=ticket)
    assert probe(clip, tmp_path)["video"]
    assert media_type == state.media_type
    with pytest.raises(NotFound):
        preview_state(user_id=2, ticket=ticket)


def test_asking_again_drops_the_one_before(
    engine: Callable[[str], None], speech: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine("Endless")
    first = start_preview(user_id=1, engine="puppet", face=FACE, text="Hello")
    engine("Round")

    second = start_preview(user_id=1, engine="puppet", face=FACE, text="Hello")

    assert settled(1, second).state == "done"
    assert preview_state(user_id=1, ticket=first).state != "done"


def test_one_that_was_dropped_before_its_turn_says_so(
    engine: Callable[[str], None], speech: None, tmp_path: Path
) -> None:
    """Its page would wait for minutes."""
    folder = tempfile.TemporaryDirectory(dir=tmp_path)
    job = previews.Job("ticket", 1, "puppet", FACE, "Hello", "en", None, True, None, folder)
    job.dropped.set()
    previews.make_preview(job)
    state = preview_state(user_id=1, ticket="ticket")
    assert (state.state, state.error) == ("failed", previews.DROPPED)


def test_too_many_at_once_are_refused(
    engine: Callable[[str], None], speech: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "MOST_WAITING", 1)
    ticket = start_preview(user_id=1, engine="puppet", face=FACE, text="Hello")

    with pytest.raises(Busy):
        start_preview(user_id=2, engine="puppet", face=FACE, text="Hello")

    assert settled(1, ticket).state == "done"


@pytest.mark.django_db(transaction=True)
def test_a_kept_clip_replaces_the_one_before(engine: Callable[[str], None], speech: None, project: Project) -> None:
    avatar = Avatar.objects.create(project=project, name="Mira")
    avatar.preview.save("old.mp4", ContentFile(b"old"))
    old = avatar.preview.name
    face = make_face(engine="puppet", options={}, portrait=None)

    ticket = start_preview(user_id=1, engine="puppet", face=face, text="Hello", keep_for=avatar.pk)

    assert settled(1, ticket).state == "done"
    avatar.refresh_from_db()
    assert previews.preview_is_current(avatar, face)
    assert not avatar.preview.storage.exists(old or "")


# -- The doors --------------------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_an_editor_sees_the_posted_face_and_keeps_the_saved_one(
    engine: Callable[[str], None], speech: None, agent: Agent, bob: User, sign_in: Callable[[User], Client]
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
