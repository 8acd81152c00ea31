from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from numpy.typing import NDArray
from PIL import Image
from pytest_django import Settings

from agent_runtime.avatar import prepare
from avatars.engines import ENGINES, get_engine
from avatars.engines.atlas import to_i420
from avatars.engines.base import Face, VideoFrame
from avatars.engines.cache import cache_folder, keep_in
from avatars.models import Avatar
from avatars.portraits import portrait_url
from projects.services import create_project
from tests.agent_runtime.avatar.round_faces import Round
from tests.avatars.engines import portraits

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
    assert not Round().is_prepared(ROUND, prepare.video_format())

    call_command("prepare_faces")

    said = capsys.readouterr()
    assert Round().is_prepared(ROUND, prepare.video_format())
    first, second = said.out.splitlines()
    assert first == "Zoe: ready", "in the order in which they were made"
    assert second.startswith("Alone: This engine needs a picture")
    assert "1 faces cannot be shown" in said.err


@pytest.mark.django_db
def test_a_prepared_photo_is_shown_at_rest_as_its_video_begins() -> None:
    avatar = Avatar(project=create_project(name="One"), name="Zoe", engine="portrait")
    avatar.portrait.save("photo.jpg", ContentFile(portraits.SMILING.read_bytes()))
    assert portrait_url(avatar) == avatar.portrait.url, "the upload, until there is better"

    call_command("prepare_faces")

    url = portrait_url(avatar)
    assert url is not None
    assert url != avatar.portrait.url
    still = luma_of(Path(avatar.portrait.path).with_name(Path(url).name))
    frame = asyncio.run(first_frame(avatar))
    assert np.abs(still - frame).mean() < 4
    assert np.abs(luma_of(Path(avatar.portrait.path)) - frame).mean() > 20, "the whole photo is another sight"

    avatar.options = {"chin": [0.5, 0.9]}
    assert portrait_url(avatar) == avatar.portrait.url, "other marks, another crop: not the old one"
    call_command("prepare_faces")
    assert len(list(Path(avatar.portrait.path).parent.iterdir())) == 2, "made once"


def luma_of(path: Path) -> NDArray[np.float64]:
    """As video has it (BT.601, 16 to 235), in the size of the test's faces."""
    picture = Image.open(path).convert("RGB").resize((128, 128))
    return to_i420(np.asarray(picture))[: 128 * 128].astype(float)


async def first_frame(avatar: Avatar) -> NDArray[np.float64]:
    face = Face("one", portrait=Path(avatar.portrait.path))
    stream = await get_engine("portrait").open_stream(face, prepare.video_format())
    try:
        async for item in stream:
            if isinstance(item, VideoFrame):
                return np.frombuffer(item.data, np.uint8)[: 128 * 128].astype(float)
    finally:
        await stream.aclose()
    raise AssertionError("no frame")


@pytest.mark.django_db
def test_a_conversation_that_is_not_there_has_no_face_to_prepare() -> None:
    with pytest.raises(CommandError, match="no such session"):
        call_command("prepare_faces", "--session", str(uuid.uuid4()))


@pytest.mark.django_db
def test_a_saved_avatar_is_a_change() -> None:
    before = prepare.newest_change()
    avatar = Avatar.objects.create(project=create_project(name="One"), name="Zoe")
    made = prepare.newest_change()
    assert prepare.newest_change() == made != before
    avatar.save()
    assert prepare.newest_change() != made


async def test_preparing_tells_how_it_went_and_ends_with_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "PREPARE", (sys.executable, "-c", "import sys; sys.exit(int(sys.argv[1]))"))
    assert await prepare.prepare_apart("0")
    assert not await prepare.prepare_apart("3")

    monkeypatch.setattr(prepare, "PREPARE", (sys.executable, "-c", "import time; time.sleep(60)"))
    waiting = asyncio.create_task(prepare.prepare_apart())
    until = time.monotonic() + 10
    while not (children := [p for p in psutil.Process().children() if "import time; time.sleep(60)" in p.cmdline()]):
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not children[0].is_running()
