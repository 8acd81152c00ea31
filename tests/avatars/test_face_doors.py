"""The doors of the avatar editor answer for another project's avatars as for none at all."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from PIL import Image

from avatars import faces
from avatars.engines.portrait import PortraitEngine
from avatars.faces import save_avatar_version
from avatars.media import clean_portrait
from avatars.models import Avatar
from projects.models import Project
from tests.forms import admin_url, form_errors

SignIn = Callable[[User], Client]
PHOTO = Path(__file__).parents[1] / "fixtures" / "portraits" / "astronaut.jpg"

pytestmark = pytest.mark.django_db


@pytest.fixture
def theirs(other_project: Project) -> Avatar:
    avatar = Avatar.objects.create(project=other_project, name="Bruno", engine="portrait")
    avatar.portrait.save("face.png", ContentFile(PHOTO.read_bytes()))
    avatar.preview.save("clip.mp4", ContentFile(b"a clip"))
    save_avatar_version(avatar=avatar)
    return avatar


def test_pages_clips_and_versions_of_another_project_are_not_there(theirs: Avatar, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    assert client.get(admin_url(Avatar, "clip", theirs.pk)).status_code == 404
    assert client.post(admin_url(Avatar, "restore", theirs.pk, 1)).status_code == 404
    assert client.get(admin_url(Avatar, "change", theirs.pk)).status_code in (302, 404)
    assert "Bruno" not in client.get(admin_url(Avatar, "changelist")).content.decode()


def test_its_picture_is_neither_marked_nor_moved(theirs: Avatar, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    marks = client.post(admin_url(Avatar, "marks"), {"avatar": str(theirs.pk)})
    assert (marks.status_code, marks.json()["errors"][0]["detail"]) == (400, "Choose a picture first.")
    posted = {"avatar": str(theirs.pk), "project": str(theirs.project_id), "engine": "portrait", "keep": "1"}
    assert client.post(admin_url(Avatar, "preview"), posted).json()["errors"][0]["attr"] == "project"
    theirs.refresh_from_db()
    assert theirs.preview.read() == b"a clip"


def test_a_viewer_makes_no_clips_and_marks_nothing(project: Project, vera: User, sign_in: SignIn) -> None:
    avatar = Avatar.objects.create(project=project, name="Mira", options={"character": "mira"})
    save_avatar_version(avatar=avatar)
    client = sign_in(vera)
    for url in (admin_url(Avatar, "preview"), admin_url(Avatar, "marks"), admin_url(Avatar, "restore", avatar.pk, 1)):
        assert client.post(url, {"avatar": str(avatar.pk), "engine": "puppet"}).status_code == 403


@pytest.mark.parametrize(
    "data", [b"", b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n broken", PHOTO.read_bytes()[:9000]]
)
def test_an_upload_that_is_no_picture_is_told_with_its_field(
    data: bytes, project: Project, bob: User, sign_in: SignIn
) -> None:
    upload = SimpleUploadedFile("face.png", data, "image/png")
    answer = sign_in(bob).post(admin_url(Avatar, "marks"), {"portrait": upload})
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "portrait")


def test_it_says_before_saving_whether_a_picture_can_be_used(
    project: Project, theirs: Avatar, bob: User, vera: User, sign_in: SignIn
) -> None:
    def check(picture: bytes, user: User = bob, **more: str) -> Any:
        upload = SimpleUploadedFile("face.jpg", picture, "image/jpeg")
        posted = {"project": str(project.pk), "engine": "portrait", "portrait": upload, **more}
        return sign_in(user).post(admin_url(Avatar, "check"), posted)

    (refusal,) = check(faceless()).json()["errors"]
    assert (refusal["attr"], refusal["detail"][:17]) == ("portrait", "No face was found")
    assert check(PHOTO.read_bytes()).status_code == 200
    assert check(faceless(), engine="still").status_code == 200
    assert check(PHOTO.read_bytes(), user=vera).status_code == 403
    foreign = check(PHOTO.read_bytes(), avatar=str(theirs.pk), project=str(theirs.project_id))
    assert foreign.json()["errors"][0]["attr"] == "project"
    assert list(Avatar.objects.all()) == [theirs], "nothing is stored"


# -- While others write -----------------------------------------------------------------------------------------------
@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each slow step: whether it was taken in a transaction, which on SQLite keeps everybody else from writing."""
    steps: list[bool] = []
    find = PortraitEngine.check_face

    def watched_find(engine: PortraitEngine, face: Any) -> None:
        steps.append(connection.in_atomic_block)
        find(engine, face)

    def watched_clean(upload: Any) -> Any:
        steps.append(connection.in_atomic_block)
        return clean_portrait(upload)

    monkeypatch.setattr(PortraitEngine, "check_face", watched_find)
    monkeypatch.setattr("avatars.admin.face_forms.clean_portrait", watched_clean)
    faces._refusal.cache_clear()
    return steps


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("good", [True, False])
def test_nobody_waits_with_writing_for_a_picture(
    project: Project, bob: User, sign_in: SignIn, locked: list[bool], good: bool
) -> None:
    avatar = Avatar.objects.create(project=project, name="Mira", options={"character": "mira"})
    upload = SimpleUploadedFile("face.jpg", PHOTO.read_bytes() if good else faceless(), "image/jpeg")
    posted = {"name": "Mira", "engine": "portrait", "portrait": upload}

    answer = sign_in(bob).post(admin_url(Avatar, "change", avatar.pk), posted)

    assert locked == [False, False]  # decoded once, and looked for the face once
    avatar.refresh_from_db()
    assert (answer.status_code, avatar.engine) == ((302, "portrait") if good else (200, "puppet"))
    assert good or "No face was found" in str(form_errors(answer)["portrait"])


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_with_writing_for_a_picture_that_is_none(
    project: Project, bob: User, sign_in: SignIn, locked: list[bool]
) -> None:
    posted = {"project": str(project.pk), "name": "Face", "engine": "portrait", "portrait": broken()}

    answer = sign_in(bob).post(admin_url(Avatar, "add"), posted)

    assert "broken" in str(form_errors(answer)["portrait"])
    assert locked == [False]


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_with_writing_for_a_version_that_comes_back(
    project: Project, bob: User, sign_in: SignIn, locked: list[bool]
) -> None:
    avatar = Avatar.objects.create(project=project, name="Face", engine="portrait")
    avatar.portrait.save("face.jpg", ContentFile(PHOTO.read_bytes()))
    save_avatar_version(avatar=avatar)
    Avatar.objects.filter(pk=avatar.pk).update(engine="still")

    assert sign_in(bob).post(admin_url(Avatar, "restore", avatar.pk, 1)).status_code == 302

    avatar.refresh_from_db()
    assert (avatar.engine, locked) == ("portrait", [False])


def faceless() -> bytes:
    output = io.BytesIO()
    Image.new("RGB", (320, 240), "teal").save(output, "JPEG")
    return output.getvalue()


def broken() -> SimpleUploadedFile:
    return SimpleUploadedFile("face.jpg", PHOTO.read_bytes()[:9000], "image/jpeg")
