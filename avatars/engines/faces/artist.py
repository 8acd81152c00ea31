"""The artist of photographed faces: any pose of a portrait."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avatars.engines.faces.eyes import EyeArea
from avatars.engines.faces.framing import frame
from avatars.engines.faces.head import HeadFields, bend
from avatars.engines.faces.marks import FaceMarks
from avatars.engines.faces.mouth import MouthArea
from avatars.engines.faces.picture import Picture
from avatars.engines.poses import Eyes, Head, Mouth

VERSION = 1
"""Of how faces are bent: counted up when pixels change, so that kept frames are made anew."""


class PortraitArtist:
    """Renders one marked picture in any pose (`avatars.engines.poses.Artist`)."""

    def __init__(self, key: str, picture: Picture, marks: FaceMarks) -> None:
        self._key = key
        self._picture = picture
        self._marks = marks
        self._stage = lru_cache(maxsize=2)(self._make_stage)

    @property
    def key(self) -> str:
        return f"portrait-{VERSION}-{self._key}"

    def render(self, head: Head, eyes: Eyes, mouth: Mouth, *, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3), RGB."""
        return self._stage(width, height).render(head, eyes, mouth)

    def _make_stage(self, width: int, height: int) -> _Stage:
        return _Stage(self._picture, self._marks, width, height)


class _Stage:
    """The picture framed for one size, with all that is computed once for it."""

    def __init__(self, picture: Picture, marks: FaceMarks, width: int, height: int) -> None:
        framed = frame(picture, marks, width=width, height=height)
        self._picture = framed.picture
        self._eyes = EyeArea(framed.picture, framed.marks)
        self._mouth = MouthArea(framed.picture, framed.marks)
        self._head = HeadFields(framed.marks, width, height)
        self._sources = lru_cache(maxsize=2)(self._head.sources)

    def render(self, head: Head, eyes: Eyes, mouth: Mouth) -> NDArray[np.uint8]:
        canvas = self._picture.copy()
        for area, pose in ((self._eyes, eyes), (self._mouth, mouth)):
            if pose != type(pose)():
                canvas[area.region.rows, area.region.columns] = area.paint(pose)  # type: ignore[arg-type]
        return canvas if head == Head() else bend(canvas, self._sources(head))
