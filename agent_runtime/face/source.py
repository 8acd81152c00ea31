"""Where a face comes from, and what a face in the room can do: the two things that every kind of face has in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from livekit import rtc
from livekit.agents.voice.io import AudioOutput

from molts.errors import MoltsError

JOIN_SECONDS = 3.0
WATCH_SECONDS = 0.5  # between looks whether a face is still well
CLOSE_SECONDS = 3.0


class FaceMissing(MoltsError):
    """No face came."""

    code = "face_missing"
    http_status = 503
    retryable = True


class NoFreeWorker(FaceMissing):
    """None could be called at all."""


class LiveFace(ABC):
    """A face that is in the room and can speak."""

    output: AudioOutput
    identity: str

    @abstractmethod
    async def lost(self) -> float:
        """Return once the face is lost, with when it was last known to be well (epoch seconds)."""

    @abstractmethod
    async def dismiss(self) -> None:
        """Put it out of the room and free what it holds. Raises nothing."""


class FaceSource(ABC):
    """Whoever can bring a face into the room."""

    join_seconds = JOIN_SECONDS
    billed_as: tuple[str, str] | None = None
    """Provider and model, when somebody charges by the second: a call is never made beside another one then."""

    on_preparing: Callable[[], None] | None = None
    """Called when the face is on its way, but has to be made ready first: it may take `PREPARE_SECONDS`."""

    @abstractmethod
    async def call(self) -> LiveFace:
        """A face that has joined and shows its picture. Takes longer than `join_seconds` only when it is cancelled
        then. Raises FaceMissing or Unavailable when none can come now."""

    async def may_come(self) -> None:
        """After NoFreeWorker: return once it is worth while to call again."""
        await asyncio.Event().wait()

    async def aclose(self) -> None:  # noqa: B027 - most hold nothing
        """No more faces will be called."""


async def until_seen(room: rtc.Room, identity: str) -> None:
    """Until this participant is in the room and publishes video."""

    def is_seen() -> bool:
        participant = room.remote_participants.get(identity)
        return participant is not None and any(
            publication.kind == rtc.TrackKind.KIND_VIDEO for publication in participant.track_publications.values()
        )

    seen = asyncio.Event()

    def look(*_: Any) -> None:
        if is_seen():
            seen.set()

    room.on("track_published", look)
    try:
        look()
        await seen.wait()
    finally:
        room.off("track_published", look)
