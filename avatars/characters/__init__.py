"""The characters of the `puppet` engine: people and creatures drawn for this project."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import cast

from avatars.engines.poses import Artist
from molts.errors import BadConfiguration


@dataclass(frozen=True)
class CharacterInfo:
    """Who it is, for whoever chooses, and where the drawing is (module:class)."""

    label: str
    description: str
    path: str


CHARACTERS: dict[str, CharacterInfo] = {
    "mira": CharacterInfo(
        "Mira",
        "A receptionist with dark hair and a green jacket, in a lobby by the sea.",
        "avatars.characters.mira:Mira",
    ),
    "otto": CharacterInfo(
        "Otto", "A bearded man with glasses and a yellow jumper, among his books.", "avatars.characters.otto:Otto"
    ),
    "amara": CharacterInfo(
        "Amara",
        "A retired teacher with silver curls and a plum dress, on her veranda.",
        "avatars.characters.amara:Amara",
    ),
    "finn": CharacterInfo("Finn", "A friendly fox with a scarf, in an autumn wood.", "avatars.characters.finn:Finn"),
}
"""By key, as it is stored with a face."""


@cache
def get_artist(key: str) -> Artist:
    """Raises BadConfiguration when there is no such character."""
    try:
        info = CHARACTERS[key]
    except KeyError:
        known = ", ".join(CHARACTERS)
        raise BadConfiguration(f"There is no character {key!r}. Choose one of: {known}.", attr="character") from None
    module, _, name = info.path.partition(":")
    return cast(Artist, getattr(import_module(module), name)())
