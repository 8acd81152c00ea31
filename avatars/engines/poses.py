"""What a drawn or warped face can do, in numbers. An artist (a character, a portrait) renders any pose; everything else
(quantising, keeping ready, choosing poses for sound and state) is the same for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Mouth:
    """Shape of the mouth. Each 0 to 1: `openness` closed to wide open; `width` narrow to spread ("ee"), 0.5 at rest;
    `rounding` flat to protruded ("oo")."""

    openness: float = 0.0
    width: float = 0.5
    rounding: float = 0.0


@dataclass(frozen=True)
class Eyes:
    """`lids` 0 open to 1 closed; `gaze_x`, `gaze_y` -1 to 1 (right and up in the picture are positive); `brows` -1
    (drawn together) to 1 (raised)."""

    lids: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0
    brows: float = 0.0


@dataclass(frozen=True)
class Head:
    """Small motion of head and body, each -1 to 1: `yaw` (turned to the right of the picture), `pitch` (up), `roll`
    (tilted to the right), `breath` (breathed out to in). 1 is the largest motion that still looks natural."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    breath: float = 0.0


REST = (Head(), Eyes(), Mouth())


class Artist(Protocol):
    """Renders one face in any pose. Deterministic: the same pose gives the same pixels. Changing only the mouth changes
    only pixels around the mouth, changing only the eyes only those around eyes and brows, and the two areas never
    overlap in the same head pose: poses are put together from such patches."""

    @property
    def key(self) -> str:
        """Names this artwork's very version, for caches."""

    def render(self, head: Head, eyes: Eyes, mouth: Mouth, *, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3), RGB."""


@runtime_checkable
class PartArtist(Protocol):
    """An artist that can render a part of the picture for less than the whole. Optional: without it the whole is
    rendered and cut. A face takes some thousand renders, nearly all of them of small parts.
    """

    def render_part(
        self, head: Head, eyes: Eyes, mouth: Mouth, *, width: int, height: int, box: tuple[int, int, int, int]
    ) -> NDArray[np.uint8]:
        """The same pixels as `render(...)[y : y + h, x : x + w]` for `box` (x, y, w, h), in whole pixels."""
