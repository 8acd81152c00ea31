"""Where a browser finds an agent's face."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.templatetags.static import static

from avatars.models import Avatar
from avatars.services import snapshot_avatar
from avatars.snapshots import AvatarSnapshot

DEFAULT_CHARACTER = "mira"


def portrait_url(avatar: Avatar | None) -> str | None:
    """Path of the face as a still picture; None without one."""
    return picture_url(snapshot_avatar(avatar)) if avatar else None


def picture_url(avatar: AvatarSnapshot) -> str | None:
    """The same of a snapshot. A character that is moved shows itself, whatever was uploaded before."""
    if character := _character(avatar):
        return character_url(character)
    if avatar.portrait:
        still = still_name(engine=avatar.engine, options=avatar.options, portrait=avatar.portrait)
        return default_storage.url(still if default_storage.exists(still) else avatar.portrait)
    return character_url(avatar.builtin) if avatar.builtin else None


def still_name(*, engine: str, options: Mapping[str, Any], portrait: str) -> str:
    """Where an uploaded face at rest is kept, cut as its video: beside the upload, another file for another look.

    It is there once the face was prepared (`avatars.faces.keep_still`).
    """
    look = json.dumps([engine, options, settings.MOLTS_AVATAR_WIDTH, settings.MOLTS_AVATAR_HEIGHT], sort_keys=True)
    return f"{PurePosixPath(portrait).with_suffix('')}-{hashlib.sha256(look.encode()).hexdigest()[:12]}.jpg"


def moving_character_url(avatar: Avatar | None) -> str | None:
    """Path of a short silent clip of the avatar's character, which begins and ends as the still picture; None for a
    face that is no drawn character."""
    character = _character(snapshot_avatar(avatar)) if avatar else None
    return character_clip_url(character) if character else None


def _character(avatar: AvatarSnapshot) -> str | None:
    if avatar.engine != "puppet":
        return None
    return str(avatar.options.get("character") or avatar.builtin or DEFAULT_CHARACTER)


def character_url(character: str) -> str:
    """The still of a character that is drawn for molts."""
    return static(f"src/portraits/{character}.webp")


def character_clip_url(character: str) -> str:
    return static(f"src/portraits/{character}.mp4")
