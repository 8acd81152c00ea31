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
from avatars.services import read_face, snapshot_avatar

USUAL_CHARACTER = "mira"


def portrait_url(avatar: Avatar | None) -> str | None:
    """Path of the face as a still picture; None without one."""
    return picture_url(snapshot_avatar(avatar))


def picture_url(stored: Mapping[str, Any] | None) -> str | None:
    """The same of a face's snapshot. A character that is moved shows itself, whatever was uploaded before."""
    face = read_face(stored)
    if face is None:
        return None
    if character := _character(face):
        return character_url(character)
    if face["portrait"]:
        still = still_name(engine=face["engine"], options=face["options"], portrait=face["portrait"])
        return default_storage.url(still if default_storage.exists(still) else face["portrait"])
    return character_url(face["builtin"]) if face["builtin"] else None


def still_name(*, engine: str, options: Mapping[str, Any], portrait: str) -> str:
    """Where an uploaded face at rest is kept, cut as its video: beside the upload, another file for another look.

    It is there once the face was prepared (`avatars.faces.keep_still`).
    """
    look = json.dumps([engine, options, settings.MOLTS_AVATAR_WIDTH, settings.MOLTS_AVATAR_HEIGHT], sort_keys=True)
    return f"{PurePosixPath(portrait).with_suffix('')}-{hashlib.sha256(look.encode()).hexdigest()[:12]}.jpg"


def moving_character_url(avatar: Avatar | None) -> str | None:
    """Path of a short silent clip of the avatar's character, which begins and ends as the still picture; None for a
    face that is no drawn character."""
    face = read_face(snapshot_avatar(avatar))
    character = _character(face) if face else None
    return character_clip_url(character) if character else None


def _character(face: Mapping[str, Any]) -> str | None:
    if face["engine"] != "puppet":
        return None
    return str(face["options"].get("character") or face["builtin"] or USUAL_CHARACTER)


def character_url(character: str) -> str:
    """The still of a character that is drawn for molts."""
    return static(f"src/portraits/{character}.webp")


def character_clip_url(character: str) -> str:
    return static(f"src/portraits/{character}.mp4")
