"""What an agent and its parts were at one moment: as types, and as the JSON that rows keep.

Rows keep them in `AgentRevision.snapshot`, `AvatarVersion.snapshot` and `LiveSession.spec` (there with the chains that
the conversation runs on); `avatars/services.py` takes them. A snapshot holds no secret: a key is named by its id. The
keys of the JSON are the names of the fields below and are read in this module alone; `read` takes every version that
was ever stored.

To store more, give it a field with a default: rows from before are read with it. Where a part becomes another one,
raise VERSION, store it as `version` and add to `_UPGRADES` what turns the version before into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from projects.providers.base import Kind

VERSION = 2
"""What is written today. Version 1 had avatars without engines to choose from."""


class StoredPart(BaseModel):
    """Base of all parts. Fields that this release does not know are kept, so that storing what a later release wrote
    loses nothing."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def as_json(self) -> dict[str, Any]:
        """What rows keep."""
        return self.model_dump(mode="json")


class Rung(StoredPart):
    """One step of a chain: a provider with its options, and the id of its key."""

    provider: str
    options: dict[str, Any] = {}
    provider_key: str | None = None


class VoiceSnapshot(StoredPart):
    """The voice of an agent."""

    name: str
    provider: str
    options: dict[str, Any] = {}
    provider_key: str | None = None

    @property
    def rung(self) -> Rung:
        """The voice as a step of the chain that it heads."""
        return Rung(provider=self.provider, options=self.options, provider_key=self.provider_key)


class AvatarSnapshot(StoredPart):
    """The avatar of an agent. `engine` is an engine of ours or a hosted service; `portrait` a path in the media
    storage, or ""; `builtin` the name of a portrait that is shipped with molts, or ""."""

    name: str
    engine: str
    options: dict[str, Any] = {}
    provider_key: str | None = None
    builtin: str = ""
    portrait: str = ""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """An avatar as a row keeps it, of whatever version."""
        return cls.model_validate(stored if _has_engine(stored) else _with_engine(stored))


class TurnSettings(StoredPart):
    """How long the agent waits before it answers, in milliseconds, and whether visitors may interrupt it."""

    end_of_turn_model: bool = False
    min_endpointing_ms: int = 400
    max_endpointing_ms: int = 2500
    allow_interruptions: bool = True


class ConversationLimits(StoredPart):
    """When a conversation ends by itself. No `silence_seconds`: never by silence."""

    max_minutes: int = 30
    silence_seconds: int = 0


class AgentSnapshot(StoredPart):
    """All that makes an agent what it is.

    `answers` are pairs of a question and its answer. `pipeline` has the steps of each kind as they were chosen; with a
    conversation, those that it runs on.
    """

    name: str = ""
    slug: str = ""
    description: str = ""
    language: str = "en"
    instructions: str = ""
    greeting: str = ""
    knowledge: str = ""
    answers: tuple[tuple[str, str], ...] = ()
    voice: VoiceSnapshot | None = None
    avatar: AvatarSnapshot | None = None
    pipeline: dict[str, tuple[Rung, ...]] = {}
    turn: TurnSettings = TurnSettings()
    limits: ConversationLimits = ConversationLimits()

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """An agent as a row keeps it, of whatever version."""
        for version in range(version_of(stored), VERSION):
            stored = _UPGRADES[version](stored)
        return cls.model_validate(stored)

    def steps(self, kind: Kind) -> tuple[Rung, ...]:
        """The steps of one kind, best first; none where nothing was chosen."""
        return self.pipeline.get(kind.value, ())


# -- Versions ---------------------------------------------------------------------------------------------------------
def version_of(stored: Mapping[str, Any]) -> int:
    """The version of a stored agent: what it says, and before any said so, what it looks like."""
    if "version" in stored:
        return int(stored["version"])
    avatar = stored.get("avatar")
    return 2 if avatar is None or _has_engine(avatar) else 1


def _has_engine(avatar: Mapping[str, Any]) -> bool:
    # In version 1 `engine` was always "portrait", and there was nothing to set.
    return "options" in avatar


def _with_engine(avatar: Mapping[str, Any]) -> dict[str, Any]:
    """An avatar of version 1 as version 2 has it: what migration 0002 made of the avatars of that time."""
    builtin, portrait = avatar.get("builtin", ""), avatar.get("portrait", "")
    return {
        **avatar,
        "engine": "puppet" if builtin or not portrait else "portrait",
        "options": {"character": builtin} if builtin else {},
        "provider_key": None,
    }


def _from_version_1(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {**stored, "avatar": _with_engine(stored["avatar"])}


_UPGRADES: Mapping[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {1: _from_version_1}
"""What turns an agent of a version into one of the next."""
