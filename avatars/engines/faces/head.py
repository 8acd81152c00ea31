"""Motion of the whole head: the picture bent as if the face had depth.

A point of the head moves with its distance from the background: the nose most, the ears little, the background not at
all. The displacement is smooth and far below the size over which it changes, so nothing tears; behind the head the
background gives a little.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from avatars.engines.faces.framing import Landmarks
from avatars.engines.faces.region import fade
from avatars.engines.poses import Head

YAW, PITCH = 0.2, 0.14
"""Of the tip of the nose at 1, in ipd."""
ROLL = 0.09
"""Radians at 1."""
BREATH = 0.028
"""Rise of the shoulders from -1 to 1, in ipd."""

Field = NDArray[np.float32]


class HeadFields:
    """The fields of one face, made once: where each pixel of the frame comes from for any `Head`."""

    def __init__(self, marks: Landmarks, width: int, height: int) -> None:
        ruler = marks.ruler
        self._ipd = ruler.ipd
        self._axes = ruler.axes / ruler.ipd
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        self._here = np.stack([columns, rows], axis=-1)
        x, y = np.moveaxis(ruler.to_face(self._here).astype(np.float32), -1, 0)
        self._pivot = ruler.to_picture((0.0, 1.9)).astype(np.float32)  # where the neck bends
        # The head is an ellipse from the top of the hair to the chin; what moves fades out around it.
        middle, radius_x, radius_y = 0.35, 1.35, 1.75
        distance = np.hypot(x / radius_x, (y - middle) / radius_y)
        self._head = fade(distance, 0.95, 1.75)
        # A dome over the face, with the nose on it.
        dome = np.sqrt(np.clip(1 - np.minimum(distance / 1.3, 1) ** 2, 0, 1)) * fade(distance, 0.6, 1.3)
        nose = np.exp(-((x / 0.28) ** 2) - ((y - 0.55) / 0.4) ** 2)
        self._depth = (0.75 * dome + 0.25 * nose).astype(np.float32)
        self._body = fade(-y, -2.6, -1.2)
        self._body *= 1 - 0.6 * self._head

    def sources(self, head: Head) -> Field:
        """(height, width, 2): the place in the resting picture of every pixel, as x and y."""
        across, along = self._axes[:, 0], self._axes[:, 1]
        turn = self._ipd * (YAW * head.yaw * across - PITCH * head.pitch * along)
        move = (0.35 * self._head + 0.65 * self._depth)[..., None] * turn.astype(np.float32)
        angle = ROLL * head.roll
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
        rolled = (self._here - self._pivot) @ (rotation.T - np.eye(2, dtype=np.float32))
        move += self._head[..., None] * rolled
        rise = np.float32(-self._ipd * BREATH * head.breath)
        move[..., 1] += rise * (self._body + 0.45 * self._head)
        return np.asarray(self._here - move)


def bend(picture: NDArray[np.uint8], sources: Field) -> NDArray[np.uint8]:
    """The pixels of `picture` at `sources` (height, width, 2)."""
    x, y = np.ascontiguousarray(sources[..., 0]), np.ascontiguousarray(sources[..., 1])
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101))
