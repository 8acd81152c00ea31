"""Pictures for tests of photographed faces, made from those of tests/fixtures/portraits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]

FOLDER = Path(__file__).parents[2] / "fixtures/portraits"
SMILING = FOLDER / "astronaut.jpg"
CLOSED = FOLDER / "astronaut-closed.jpg"
GLASSES = FOLDER / "hopper.jpg"
TRUE_MARKS = {
    # By hand, in pixels of SMILING.
    "left_eye": (143.8, 100.8),
    "right_eye": (187.0, 103.0),
    "mouth_left": (145.5, 139.5),
    "mouth_right": (184.5, 139.0),
    "mouth_top": (163.5, 143.5),
    "mouth_bottom": (163.5, 150.5),
    "chin": (163.0, 177.5),
}


TRUE_MARKS_OF_GLASSES = {
    "left_eye": (131.0, 172.5),
    "right_eye": (217.5, 169.5),
    "mouth_left": (148.0, 257.0),
    "mouth_right": (206.0, 254.0),
    "mouth_top": (177.0, 256.5),
    "mouth_bottom": (177.0, 256.5),
    "chin": (178.0, 308.0),
}


def smiling() -> Picture:
    return np.asarray(Image.open(SMILING).convert("RGB"))


def closed() -> Picture:
    return np.asarray(Image.open(CLOSED).convert("RGB"))


def glasses() -> Picture:
    return np.asarray(Image.open(GLASSES).convert("RGB"))


def laughing() -> Picture:
    """The smiling one with teeth nearly twice as high: all that is below them moves down by 7 pixels."""
    above, teeth, below = np.split(smiling(), [143, 152])
    return np.vstack([above, cv2.resize(teeth, (teeth.shape[1], 16), interpolation=cv2.INTER_CUBIC), below])


def turned_away(picture: Picture) -> Picture:
    """The eyes nearer to each other, as those of a head that is turned."""
    return np.asarray(cv2.resize(picture, None, fx=0.75, fy=1.0, interpolation=cv2.INTER_AREA), np.uint8)


def without_features(picture: Picture) -> Picture:
    """The smiling one with eyes and mouth out of focus: its outline is still that of a face."""
    blurred = cv2.GaussianBlur(picture, (0, 0), 9)
    bare = picture.copy()
    for part in (np.s_[85:118, 125:208], np.s_[128:162, 135:195]):
        bare[part] = blurred[part]
    return bare


def grey(picture: Picture) -> Picture:
    return np.asarray(cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def dark_skinned(picture: Picture) -> Picture:
    """The same face in darker, warmer tones."""
    return np.asarray(255 * (picture / 255.0) ** 2.2 * np.array([1.0, 0.86, 0.75])).astype(np.uint8)


def turned(picture: Picture, degrees: float) -> Picture:
    """Tilted anticlockwise about the middle, the corners filled by reflection."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)


def beside(*pictures: Picture) -> Picture:
    """Pictures in a row, filled up below to the height of the first."""
    height = pictures[0].shape[0]
    filled = [
        cv2.copyMakeBorder(each, 0, height - each.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=(200, 200, 200))
        for each in pictures
    ]
    return np.asarray(np.hstack(filled), np.uint8)


def scaled(picture: Picture, factor: float) -> Picture:
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def drawing_of_a_house() -> Picture:
    """No face anywhere, though it has two windows and a door."""
    picture = np.full((480, 480, 3), (170, 205, 235), np.uint8)
    cv2.rectangle(picture, (0, 360), (480, 480), (96, 150, 70), -1)
    cv2.rectangle(picture, (120, 200), (360, 400), (214, 180, 140), -1)
    cv2.fillPoly(picture, [np.array([(100, 200), (240, 100), (380, 200)])], (150, 60, 50))
    for left in (150, 280):
        cv2.rectangle(picture, (left, 230), (left + 50, 280), (60, 70, 90), -1)
    cv2.rectangle(picture, (215, 310), (265, 400), (90, 60, 40), -1)
    return picture


def save(picture: Picture, path: Path) -> Path:
    Image.fromarray(picture).save(path)
    return path
