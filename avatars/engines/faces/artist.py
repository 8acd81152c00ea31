"""The artist of photographed faces: any pose of a portrait."""

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatars.engines.faces.eyes import EyeArea
from avatars.engines.faces.framing import frame
from avatars.engines.faces.head import HeadFields, bend
from avatars.engines.faces.marks import FaceMarks, MarksByHand, find_face
from avatars.engines.faces.mouth import MouthArea
from avatars.engines.faces.picture import Picture, read_picture
from avatars.engines.poses import Eyes, Head, Mouth
from molts.errors import BadInput

VERSION = 2
"""Of how faces are found and bent: counted up when pixels change, so that kept poses are made anew."""


class PortraitArtist:
    """Renders one picture in any pose (`avatars.engines.poses.Artist` and `PartArtist`).

    The picture is read and its face looked for when the first pose is rendered: whoever has all poses needs neither.
    """

    def __init__(self, path: Path, given: MarksByHand) -> None:
        """Raises BadInput when the picture's file is missing."""
        self._path = path
        self._given = given
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadInput("The picture is missing: upload it again.", attr="portrait") from error
        self.key = f"portrait-{hashlib.sha256(content + repr((VERSION, given)).encode()).hexdigest()}"
        self._stage = lru_cache(maxsize=2)(self._make_stage)

    def render(self, head: Head, eyes: Eyes, mouth: Mouth, *, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3), RGB. Raises BadInput for a picture without a face that can be used."""
        return self._stage(width, height).render(head, eyes, mouth)

    def render_part(
        self, head: Head, eyes: Eyes, mouth: Mouth, *, width: int, height: int, box: tuple[int, int, int, int]
    ) -> NDArray[np.uint8]:
        """The same pixels within `box` (x, y, width, height)."""
        return self._stage(width, height).render(head, eyes, mouth, box)

    def check(self) -> FaceMarks:
        """Where the face is. Raises BadInput for a picture without a face that can be used."""
        return self._found[1]

    @cached_property
    def _found(self) -> tuple[Picture, FaceMarks]:
        picture = read_picture(self._path)
        return picture, find_face(picture, self._given)

    def _make_stage(self, width: int, height: int) -> _Stage:
        return _Stage(*self._found, width, height)


class _Stage:
    """The picture framed for one size, with all that is computed once for it."""

    def __init__(self, picture: Picture, marks: FaceMarks, width: int, height: int) -> None:
        framed = frame(picture, marks, width=width, height=height)
        self._picture = framed.picture
        self._eyes = EyeArea(framed.picture, framed.marks)
        self._mouth = MouthArea(framed.picture, framed.marks)
        self._head = HeadFields(framed.marks, width, height)
        # Poses are asked for head by head, and for each head with the same few eyes and mouths.
        self._sources = lru_cache(maxsize=2)(self._head.sources)
        self._painted_eyes = lru_cache(maxsize=32)(self._eyes.paint)
        self._painted_mouth = lru_cache(maxsize=64)(self._mouth.paint)

    def render(
        self, head: Head, eyes: Eyes, mouth: Mouth, box: tuple[int, int, int, int] | None = None
    ) -> NDArray[np.uint8]:
        canvas = self._picture.copy()
        if eyes != Eyes():
            canvas[self._eyes.region.rows, self._eyes.region.columns] = self._painted_eyes(eyes)
        if mouth != Mouth():
            canvas[self._mouth.region.rows, self._mouth.region.columns] = self._painted_mouth(mouth)
        rows, columns = slice(None), slice(None)
        if box is not None:
            x, y, width, height = box
            rows, columns = slice(y, y + height), slice(x, x + width)
        if head == Head():
            return canvas[rows, columns]
        return bend(canvas, self._sources(head)[rows, columns])
