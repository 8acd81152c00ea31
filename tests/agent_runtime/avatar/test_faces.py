from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from agent_runtime.avatar import faces
from avatars.engines import ENGINES
from avatars.engines.base import Face
from avatars.engines.cache import cache_folder, keep_in
from avatars.models import Avatar
from projects.services import create_project
from tests.agent_runtime.avatar.round_faces import Round

ROUND = Face("round")


@pytest.fixture(autouse=True)
def small_faces(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.MOLTS_AVATAR_WIDTH = settings.MOLTS_AVATAR_HEIGHT = 128
    monkeypatch.setitem(ENGINES, "round", "tests.agent_runtime.avatar.round_faces.Round")
    monkeypatch.setattr("agent_runtime.management.commands.prepare_faces.os.nice", lambda value: None)
    before = cache_folder("")
    keep_in(tmp_path)
    yield
    keep_in(before)


@pytest.mark.django_db
def test_every_face_is_prepared_and_what_cannot_be_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    project = create_project(name="One")
    for name, engine in (("Zoe", "round"), ("Alone", "portrait"), ("Vendor", "tavus"), ("Picture", "still")):
        Avatar.objects.create(project=project, name=name, engine=engine)
    assert not Round().is_prepared(ROUND, faces.video_format())

    call_command("prepare_faces")

    said = capsys.readouterr()
    assert Round().is_prepared(ROUND, faces.video_format())
    first, second = said.out.splitlines()
    assert first == "Zoe: ready", "in the order in which they were made"
    assert second.startswith("Alone: This engine needs a picture")
    assert "1 faces cannot be shown" in said.err


@pytest.mark.django_db
def test_a_conversation_that_is_not_there_has_no_face_to_prepare() -> None:
    with pytest.raises(CommandError, match="no such session"):
        call_command("prepare_faces", "--session", str(uuid.uuid4()))


@pytest.mark.django_db
def test_a_saved_avatar_is_a_change() -> None:
    before = faces.newest_change()
    avatar = Avatar.objects.create(project=create_project(name="One"), name="Zoe")
    made = faces.newest_change()
    assert faces.newest_change() == made != before
    avatar.save()
    assert faces.newest_change() != made


async def test_preparing_tells_how_it_went_and_ends_with_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "PREPARE", (sys.executable, "-c", "import sys; sys.exit(int(sys.argv[1]))"))
    assert await faces.prepare_apart("0")
    assert not await faces.prepare_apart("3")

    monkeypatch.setattr(faces, "PREPARE", (sys.executable, "-c", "import time; time.sleep(60)"))
    waiting = asyncio.create_task(faces.prepare_apart())
    until = time.monotonic() + 10
    while not (children := [p for p in psutil.Process().children() if "import time; time.sleep(60)" in p.cmdline()]):
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not children[0].is_running()
