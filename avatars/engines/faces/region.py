"""A rectangle of a framed face that one part of it may change, with coordinates of the face on every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from avatars.engines.faces.marks import Ruler


@dataclass(frozen=True)
class Region:
    """Pixels rows x columns of a picture; `x`, `y`: where each is in the face, in ipd."""

    picture: NDArray[np.uint8]
    ruler: Ruler
    rows: slice
    columns: slice
    x: NDArray[np.float32]
    y: NDArray[np.float32]

    @classmethod
    def of(cls, ruler: Ruler, picture: NDArray[np.uint8], *, x: tuple[float, float], y: tuple[float, float]) -> Region:
        """The pixels around a part of the face that spans `x` and `y`, as far as they are in the picture."""
        corners = ruler.to_picture([(x[i], y[j]) for i in (0, 1) for j in (0, 1)])
        height, width = picture.shape[:2]
        left, top = np.clip(np.floor(corners.min(axis=0)), 0, (width - 2, height - 2)).astype(int)
        right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 1, (left + 2, top + 2), (width, height)).astype(int)
        rows, columns = np.mgrid[top:bottom, left:right]
        here = ruler.to_face(np.stack([columns, rows], axis=-1)).astype(np.float32)
        return cls(picture, ruler, slice(top, bottom), slice(left, right), here[..., 0], here[..., 1])

    def sample(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.uint8]:
        """The picture's colours at points of the face."""
        sources = self.ruler.to_picture(np.stack([x, y], axis=-1)).astype(np.float32)
        columns, rows = np.ascontiguousarray(sources[..., 0]), np.ascontiguousarray(sources[..., 1])
        return np.asarray(cv2.remap(self.picture, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101))


def fade(value: NDArray[Any], full: float, none: float) -> NDArray[np.float32]:
    """1 up to `full`, 0 from `none` on, smooth between."""
    part = np.clip((value - full) / (none - full), 0, 1)
    return np.asarray(1 - part * part * (3 - 2 * part), np.float32)
