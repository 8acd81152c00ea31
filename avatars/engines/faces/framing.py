"""A picture framed for a video: the face at a good size and place, whatever shape the video has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from avatars.engines.faces.marks import FaceMarks, Ruler
from avatars.engines.faces.picture import Picture

HEIGHT = 5.4
"""Of the frame, in ipd: head and shoulders."""
EYE_LINE = 0.42
"""Where the eyes are, from the top, as a part of the height."""
WIDEST_CROP = 0.8
"""A picture that fills this part of the frame's width is cropped to fill all of it; a narrower one gets a background."""


@dataclass(frozen=True)
class Landmarks:
    """One face in a frame, in its pixels: what is bent. All points (2,)."""

    ruler: Ruler
    mouth_left: NDArray[np.floating[Any]]
    mouth_right: NDArray[np.floating[Any]]
    mouth_top: NDArray[np.floating[Any]]
    mouth_bottom: NDArray[np.floating[Any]]
    chin: NDArray[np.floating[Any]]


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
    # No more than the picture has, as long as chin and forehead have room.
    tall = max(min(tall, size[1]), 0.8 * tall)
    wide = tall * width / height
    if WIDEST_CROP * wide <= size[0] < wide:
        wide, tall = size[0], size[0] * height / width
    left = _within(eyes[0] - wide / 2, wide, size[0])
    top = _within(eyes[1] - EYE_LINE * tall, tall, size[1])
    scale = width / wide
    framed = _cut(picture, left, top, scale, width, height)
    return Framed(framed, _landmarks({name: (point - (left, top)) * scale for name, point in points.items()}))


POINTS = ("left_eye", "right_eye", "mouth_left", "mouth_right", "mouth_top", "mouth_bottom", "chin")


def _landmarks(points: dict[str, NDArray[np.floating[Any]]]) -> Landmarks:
    return Landmarks(Ruler(points.pop("left_eye"), points.pop("right_eye")), **points)


def _within(start: float, length: float, available: float) -> float:
    """`start` moved so that the crop stays in the picture; centred when it is longer than the picture."""
    if length >= available:
        return (available - length) / 2
    return float(np.clip(start, 0, available - length))


def _cut(picture: Picture, left: float, top: float, scale: float, width: int, height: int) -> Picture:
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]]) + np.array(
        [[0, 0, (scale - 1) / 2], [0, 0, (scale - 1) / 2]]
    )
    source = picture
    if scale < 1:  # so that fine structures do not flicker as noise
        source = cv2.GaussianBlur(picture, (0, 0), 0.45 / scale)
    crop = cv2.warpAffine(
        source, matrix, (width, height), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE
    )
    # 1 inside the picture, falling to 0 over its last few pixels.
    inside = cv2.warpAffine(
        np.ones(picture.shape[:2], np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=0
    )
    if inside.min() >= 0.99:
        return np.asarray(crop)
    feather = 0.02 * width
    inside = cv2.GaussianBlur(cv2.erode(inside, np.ones((2 * round(feather) + 1,) * 2, np.uint8), borderValue=1), (0, 0), feather / 2)
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
