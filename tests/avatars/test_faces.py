"""Faces: what can move them, whether they can be used, their versions, and what engines are given."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from pytest_django import Settings

from avatars import faces
from avatars.engines import ENGINES, STILL, get_engine
from avatars.faces import (
    describe_face,
    face_choices,
    make_face,
    resolve_face,
    restore_version,
    save_avatar_version,
    validate_avatar,
)
from avatars.models import Agent, Avatar
from avatars.portraits import moving_character_url, portrait_url
from avatars.services import save_agent_revision, snapshot_agent, snapshot_avatar
from avatars.snapshots import AvatarSnapshot
from molts.errors import BadInput
from projects.models import Project, ProviderKey
from projects.services import create_project
from tests.avatars.stand_in import HERE

pytestmark = pytest.mark.django_db


@pytest.fixture
def avatar(project: Project) -> Avatar:
    return Avatar.objects.create(project=project, name="Mira", options={"character": "mira"})


def with_portrait(avatar: Avatar, data: bytes = b"a picture") -> Avatar:
    avatar.portrait.save("face.png", ContentFile(data))
    return avatar


# -- What can be used -------------------------------------------------------------------------------------------------
def test_a_character_can_be_used(avatar: Avatar) -> None:
    validate_avatar(avatar)


@pytest.mark.parametrize(
    ("change", "attr"),
    [
        ({"engine": "nobody"}, "engine"),
        ({"options": {"character": "nobody"}}, "options.character"),
        ({"options": {"wings": 2}}, "options.wings"),
        ({"options": {"motion": 7}}, "options.motion"),
        ({"engine": STILL, "options": {}}, "portrait"),
        ({"engine": "portrait", "options": {}}, "portrait"),
        ({"portrait": "portraits/gone.png"}, "portrait"),
    ],
)
def test_it_says_what_to_mend(avatar: Avatar, change: dict[str, Any], attr: str) -> None:
    for name, value in change.items():
        setattr(avatar, name, value)

    with pytest.raises(BadInput) as caught:
        validate_avatar(avatar)

    assert caught.value.attr == attr


def test_an_engine_of_ours_takes_no_key(avatar: Avatar) -> None:
    avatar.provider_key = ProviderKey.objects.create(project=avatar.project, name="Key", provider="openai")

    with pytest.raises(BadInput, match="takes no key"):
        validate_avatar(avatar)


def hosted(avatar: Avatar, provider: str = "heygen", **options: Any) -> Avatar:
    avatar.engine, avatar.options = provider, options
    avatar.provider_key = ProviderKey.objects.create(project=avatar.project, name="Main", provider=provider)
    return avatar


def test_a_hosted_face_can_be_used(avatar: Avatar) -> None:
    validate_avatar(hosted(avatar, avatar_id="anna"))
    validate_avatar(hosted(avatar, "tavus"))  # it has a stock face


@pytest.mark.parametrize(
    ("change", "attr", "words"),
    [
        ({"options": {}}, "options.avatar_id", "HeyGen LiveAvatar needs the avatar id"),
        ({"options": {"avatar_id": "anna", "wings": 2}}, "options.wings", "wings"),
        ({"options": {"avatar_id": "anna", "video_quality": "8k"}}, "options.video_quality", "high"),
        ({"provider_key": None}, "provider_key", "needs a key"),
        ({"engine": "anam"}, "provider_key", "is for heygen, not for anam"),
    ],
)
def test_a_hosted_face_says_what_to_mend(avatar: Avatar, change: dict[str, Any], attr: str, words: str) -> None:
    avatar = hosted(avatar, avatar_id="anna")
    for name, value in change.items():
        setattr(avatar, name, value)

    with pytest.raises(BadInput, match=words) as refused:
        validate_avatar(avatar)

    assert refused.value.attr == attr


def test_a_hosted_face_takes_no_key_of_another_project(avatar: Avatar) -> None:
    avatar = hosted(avatar, avatar_id="anna")
    avatar.provider_key = ProviderKey.objects.create(
        project=create_project(name="Elsewhere"), name="Theirs", provider="heygen"
    )
    with pytest.raises(BadInput, match="another project"):
        validate_avatar(avatar)


@pytest.mark.parametrize(("address", "ready"), [("ws://127.0.0.1:7880", False), ("wss://media.example.com", True)])
def test_a_hosted_face_says_when_no_vendor_can_reach_the_media_server(
    settings: Settings, address: str, ready: bool
) -> None:
    settings.LIVEKIT_PUBLIC_URL = address

    (choice,) = [choice for choice in face_choices() if choice.key == "tavus"]

    assert choice.health.ready is ready
    assert ("LIVEKIT_PUBLIC_URL" in choice.health.fix) is not ready


@pytest.mark.usefixtures("shipped_engines")
def test_every_engine_can_be_chosen_and_says_what_it_needs() -> None:
    choices = {choice.key: choice for choice in face_choices()}

    assert {*ENGINES, STILL} <= choices.keys()
    assert all(choice.label and choice.description and choice.health.text for choice in choices.values())
    assert [key for key, choice in choices.items() if not choice.needs] == ["puppet"]
    assert [need.text for need in choices["portrait"].needs] == ["a portrait"]
    assert choices["portrait"].needs_portrait
    assert not choices[STILL].renders


@pytest.mark.parametrize("key", ["synctalk", "synctalk_2d", "ditto", "musetalk", "sadtalker"])
def test_an_engine_of_a_gpu_says_so_and_names_variables_that_are_read(key: str) -> None:
    (choice,) = [choice for choice in face_choices() if choice.key == key]
    adapter = import_module(f"avatars.engines.adapters.molts_engine_adapter.{key}")
    (model,) = [each for each in vars(adapter).values() if getattr(each, "name", None) == key]

    needs = [need.text for need in choice.needs]
    named = {name for need in choice.needs for name in need.variables}

    assert any("NVIDIA GPU" in text for text in needs)
    assert any("adapter" in text for text in needs)
    assert ("a portrait" in needs) is choice.needs_portrait
    assert named - {"MOLTS_ENGINE_ADDRESSES", "MOLTS_ENGINE_SECRET"} <= {*model.environment.values()}
    assert len(named) > 2, "it says where its weights or its face are"


def test_an_engine_that_cannot_be_loaded_breaks_nothing(monkeypatch: pytest.MonkeyPatch, avatar: Avatar) -> None:
    monkeypatch.setitem(ENGINES, "puppet", "no.such.module.Engine")
    get_engine.cache_clear()
    try:
        assert "puppet" not in {choice.key for choice in face_choices()}
        with pytest.raises(BadInput, match="Choose another"):
            validate_avatar(avatar)
    finally:
        get_engine.cache_clear()


def test_an_engine_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "HEALTH_SECONDS", 0.05)
    monkeypatch.setitem(ENGINES, "puppet", f"{HERE}.Silent")
    get_engine.cache_clear()
    try:
        choice = next(choice for choice in face_choices() if choice.key == "puppet")
    finally:
        get_engine.cache_clear()

    assert not choice.health.ready
    assert "does not answer" in choice.health.text


# -- What an engine is given ------------------------------------------------------------------------------------------
def test_the_key_names_engine_options_and_picture(avatar: Avatar) -> None:
    def key() -> str:
        return resolve_face(snapshot_avatar(avatar)).key

    keys = [key()]
    avatar.options = {"character": "otto"}
    keys.append(key())
    with_portrait(avatar)
    keys.append(key())
    with_portrait(avatar, b"another picture")
    keys.append(key())

    assert len(set(keys)) == 4
    avatar.name = "Another name"
    assert key() == keys[-1], "a name changes no picture"


def test_the_same_picture_under_another_name_is_the_same_face(tmp_path: Path) -> None:
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    one.write_bytes(b"pixels")
    other.write_bytes(b"pixels")

    assert (
        make_face(engine="portrait", options={}, portrait=one).key
        == make_face(engine="portrait", options={}, portrait=other).key
    )


def test_the_picture_is_a_file_here(avatar: Avatar) -> None:
    with_portrait(avatar)

    face = resolve_face(snapshot_avatar(avatar))

    assert face.portrait is not None
    assert face.portrait.read_bytes() == b"a picture"
    assert (face.name, face.options) == ("Mira", {"character": "mira"})


# -- Versions ---------------------------------------------------------------------------------------------------------
def test_every_change_is_a_version_and_the_same_again_is_none(avatar: Avatar, bob: User) -> None:
    first = save_avatar_version(avatar=avatar, user=bob)
    assert save_avatar_version(avatar=avatar, user=bob) == first
    avatar.options = {"character": "otto"}
    avatar.save()

    second = save_avatar_version(avatar=avatar, user=bob)

    assert (first.number, second.number, second.created_by) == (1, 2, bob)


def test_a_version_comes_back_whole(avatar: Avatar) -> None:
    with_portrait(avatar)
    first = save_avatar_version(avatar=avatar)
    old_picture = avatar.portrait.name
    avatar.name, avatar.options = "Otto", {"character": "otto"}
    with_portrait(avatar, b"another")
    avatar.save()
    save_avatar_version(avatar=avatar)

    made = restore_version(version=first)

    avatar.refresh_from_db()
    assert made.number == 3
    assert (avatar.name, avatar.options, avatar.portrait.name) == ("Mira", {"character": "mira"}, old_picture)


def test_a_version_whose_picture_is_gone_changes_nothing(avatar: Avatar) -> None:
    with_portrait(avatar)
    first = save_avatar_version(avatar=avatar)
    avatar.portrait.storage.delete(avatar.portrait.name or "")
    avatar.portrait, avatar.name = "", "Now"
    avatar.save()

    with pytest.raises(BadInput, match="gone"):
        restore_version(version=first)

    avatar.refresh_from_db()
    assert avatar.name == "Now"


# -- From before there were engines -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("stored", "engine", "options"),
    [
        ({"builtin": "mira", "portrait": ""}, "puppet", {"character": "mira"}),
        ({"builtin": "", "portrait": "portraits/a.png"}, "portrait", {}),
        ({"builtin": "", "portrait": ""}, "puppet", {}),
    ],
)
def test_an_old_face_is_read_as_what_it_became(stored: dict[str, str], engine: str, options: dict[str, str]) -> None:
    face = AvatarSnapshot.read({"name": "Face", "engine": "portrait", **stored})

    assert (face.engine, face.options, face.provider_key) == (engine, options, None)


def test_a_revision_from_before_is_no_change(agent: Agent) -> None:
    agent.avatar = Avatar.objects.create(
        project=agent.project, name="Mira", engine="puppet", options={"character": "mira"}, builtin="mira"
    )
    agent.save()
    revision = save_agent_revision(agent=agent)
    revision.snapshot["avatar"] = {"name": "Mira", "engine": "portrait", "builtin": "mira", "portrait": ""}
    revision.save()

    assert save_agent_revision(agent=agent) == revision
    assert revision.agent_snapshot.avatar == snapshot_agent(agent).avatar


# -- Shown ------------------------------------------------------------------------------------------------------------
def test_the_still_is_the_characters_or_the_picture(avatar: Avatar) -> None:
    assert str(portrait_url(avatar)).endswith("portraits/mira.webp")
    with_portrait(avatar)
    assert str(portrait_url(avatar)).endswith("portraits/mira.webp"), "a character shows itself"
    assert str(moving_character_url(avatar)).endswith("portraits/mira.mp4")
    avatar.engine = "portrait"
    assert portrait_url(avatar) == avatar.portrait.url
    assert moving_character_url(avatar) is None


def test_it_is_described_in_a_line(avatar: Avatar) -> None:
    avatar.options = {"character": "otto", "motion": 0.5}
    assert describe_face(snapshot_avatar(avatar), {}) == "Drawn character, character otto, motion 0.5"


# -- Hosted -----------------------------------------------------------------------------------------------------------
def test_a_hosted_face_needs_its_key_and_its_name(project: Project) -> None:
    provider = next(each for each in faces.hosted_providers() if each.required)
    avatar = Avatar.objects.create(project=project, name="Far", engine=provider.key)

    with pytest.raises(BadInput) as caught:
        validate_avatar(avatar)
    assert caught.value.attr == "provider_key"

    avatar.provider_key = ProviderKey.objects.create(project=project, name="Key", provider=provider.key)
    with pytest.raises(BadInput) as caught:
        validate_avatar(avatar)
    assert caught.value.attr == f"options.{provider.required[0]}"

    avatar.options = {provider.required[0]: "a-face"}
    validate_avatar(avatar)
