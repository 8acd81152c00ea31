"""Where a browser finds an agent's face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
        return default_storage.url(face["portrait"])
    return character_url(face["builtin"]) if face["builtin"] else None


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
