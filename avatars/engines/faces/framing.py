"""A picture framed for a video: the face at a good size and place, whatever shape the video has."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatars.engines.faces.marks import POINTS, Array, FaceMarks, Ruler
from avatars.engines.faces.picture import Picture

HEIGHT = 5.6
"""Of the frame, in ipd: head and shoulders."""
LEAST_HEIGHT = 0.62
"""Part of it that a picture may fall short of without getting a background above and below: chin to hair."""
EYE_LINE = 0.42
"""Where the eyes are, from the top, as a part of the height."""
MOST_TILT = 4.0
"""Degrees that a tilted head keeps: mouth and eyes then lie in rectangles one above the other."""
WIDEST_CROP = 0.72
"""A picture that fills this part of the frame's width is cropped to fill it all; a narrower one gets a background."""


@dataclass(frozen=True)
class Landmarks:
    """One face in a frame, in its pixels: what is bent. All points (2,)."""

    ruler: Ruler
    mouth_left: Array
    mouth_right: Array
    mouth_top: Array
    mouth_bottom: Array
    chin: Array


@dataclass(frozen=True)
class Framed:
    """A picture of the video's size and the face in it."""

    picture: Picture
    marks: Landmarks


def frame(picture: Picture, marks: FaceMarks, *, width: int, height: int) -> Framed:
    """Crop and scale `picture` to (height, width, 3). Where it ends, a blurred, darkened copy goes on."""
    size = np.array(picture.shape[1::-1], float)
    points = {name: np.array(getattr(marks, name)) * size for name in POINTS}
    eyes = (points["left_eye"] + points["right_eye"]) / 2
    ruler = Ruler(points["left_eye"], points["right_eye"])
    tall = HEIGHT * ruler.ipd
    tall = max(min(tall, size[1]), LEAST_HEIGHT * tall)
    wide = tall * width / height
    if WIDEST_CROP * wide <= size[0] < wide:
        wide, tall = size[0], size[0] * height / width
    left = _within(eyes[0] - wide / 2, wide, size[0])
    top = _within(eyes[1] - EYE_LINE * tall, tall, size[1])
    # A tilted head is set nearly upright, about the point between its eyes.
    tilt = np.degrees(np.arctan2(*ruler.axes[::-1, 0]))
    matrix: Array = cv2.getRotationMatrix2D(
        (float(eyes[0]), float(eyes[1])), tilt - float(np.clip(tilt, -MOST_TILT, MOST_TILT)), width / wide
    )
    matrix[:, 2] += (eyes - (left, top)) * width / wide - eyes
    framed = _cut(picture, matrix, width, height)
    moved = {name: matrix[:, :2] @ point + matrix[:, 2] for name, point in points.items()}
    return Framed(framed, _landmarks(moved))


def _landmarks(points: dict[str, Array]) -> Landmarks:
    return Landmarks(Ruler(points.pop("left_eye"), points.pop("right_eye")), **points)


def _within(start: float, length: float, available: float) -> float:
    """`start` moved so that the crop stays in the picture; centred when it is longer than the picture."""
    if length >= available:
        return (available - length) / 2
    return float(np.clip(start, 0, available - length))


def _cut(picture: Picture, matrix: Array, width: int, height: int) -> Picture:
    """(height, width, 3) of `picture`, moved by `matrix` (2, 3)."""
    scale = float(np.hypot(*matrix[:, 0]))
    # Blurred first where it shrinks, so that fine structures do not turn into noise.
    source = cv2.GaussianBlur(picture, (0, 0), 0.45 / scale) if scale < 1 else picture
    crop = cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    # 1 inside the picture, falling to 0 over its last few pixels.
    ones = np.ones(picture.shape[:2], np.float32)
    covered = cv2.warpAffine(ones, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=0) > 0.4
    if covered.all():
        return np.asarray(crop)
    feather = 0.02 * width
    kernel = np.ones((2 * round(feather) + 1,) * 2, np.uint8)
    core = cv2.erode(covered.astype(np.float32), kernel, borderValue=1)
    inside: Array = cv2.GaussianBlur(core, (0, 0), feather / 2)
    mixed = inside[..., None] * crop + (1 - inside[..., None]) * _background(picture, width, height)
    return np.asarray(np.clip(mixed + 0.5, 0, 255).astype(np.uint8))


def _background(picture: Picture, width: int, height: int) -> NDArray[np.float32]:
    """The picture filling the frame, out of focus and darker."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    small = 8  # blurred at an eighth of the size: the same and quicker
    cover = cv2.resize(picture, None, fx=scale / small, fy=scale / small, interpolation=cv2.INTER_AREA)
    rows, columns = height // small, width // small
    top, left = (cover.shape[0] - rows) // 2, (cover.shape[1] - columns) // 2
    cover = cover[max(top, 0) :, max(left, 0) :][:rows, :columns]
    blurred = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), 0.035 * width / small, borderType=cv2.BORDER_REFLECT)
    return np.asarray(0.62 * cv2.resize(blurred, (width, height), interpolation=cv2.INTER_CUBIC))
