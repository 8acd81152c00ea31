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
    if face["engine"] == "puppet":
        return character_url(face["options"].get("character") or face["builtin"] or USUAL_CHARACTER)
    if face["portrait"]:
        return default_storage.url(face["portrait"])
    return character_url(face["builtin"]) if face["builtin"] else None


def character_url(character: str) -> str:
    """The still of a character that is drawn for molts."""
    return static(f"src/portraits/{character}.svg")
