"""The doors of the avatar editor answer for another project's avatars as for none at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from avatars.faces import save_avatar_version
from avatars.models import Avatar
from projects.models import Project
from tests.forms import admin_url

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
