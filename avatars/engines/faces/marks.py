"""Where a face is in a picture: box, eyes, mouth and chin, found with OpenCV's cascades and the picture itself.

All measures of a face are given in `ipd`, the distance between its pupils (63 mm in adults, and so a good ruler); rows
and columns relative to the point between the eyes, along and across the line of the eyes, so that a tilted face is
measured like an upright one. The proportions used as first guess are the means of facial anthropometry.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from avatars.engines.faces.picture import Picture
from molts.errors import BadInput

Point = tuple[float, float]
Array = NDArray[Any]

MIN_FACE = 64
"""Pixels across. Below that a mouth is a dozen pixels: nothing to move."""


@dataclass(frozen=True)
class FaceMarks:
    """Points of one face in fractions of the picture's width and height, 0 to 1. Left and right are the picture's.

    `mouth_top` and `mouth_bottom` are the middle of the inner edges of upper and lower lip: the same point when the
    lips are closed, with teeth between them when they are not. `confidence`: 0 guessed to 1 sure.
    """

    box: tuple[float, float, float, float]  # left, top, width, height
    left_eye: Point
    right_eye: Point
    mouth_left: Point
    mouth_right: Point
    mouth_top: Point
    mouth_bottom: Point
    chin: Point
    confidence: float

    def options(self) -> dict[str, Any]:
        """The same marks as options of the engine: what a form for marking by hand begins with."""
        return {
            "face": self.box,
            "eyes": (self.left_eye, self.right_eye),
            "mouth": (self.mouth_left, self.mouth_right, self.mouth_top, self.mouth_bottom),
            "chin": self.chin,
        }


POINTS = ("left_eye", "right_eye", "mouth_left", "mouth_right", "mouth_top", "mouth_bottom", "chin")
"""The points of `FaceMarks`."""


@dataclass(frozen=True)
class MarksByHand:
    """What was marked by hand, in fractions as `FaceMarks`. The rest is found."""

    box: tuple[float, float, float, float] | None = None
    eyes: tuple[Point, Point] | None = None
    mouth: tuple[Point, Point, Point, Point] | None = None  # left, right, top, bottom
    chin: Point | None = None


def find_face(picture: Picture, given: MarksByHand | None = None) -> FaceMarks:
    """Marks of the one face in the picture. Takes some tenths of a second.

    Raises BadInput (`portrait`) when there is none, several of like size, or only a tiny one.
    """
    given = given or MarksByHand()
    _check_given(given)
    height, width = picture.shape[:2]
    size = np.array([width, height], float)
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if given.box is not None:
        box, certainty = _clipped(np.array(given.box) * np.tile(size, 2), size), 0.8
        if not 0.6 < box[3] / max(box[2], 1.0) < 2.0:
            raise BadInput("Mark the face from ear to ear and from brows to chin.", attr="options.face")
    elif given.eyes is not None:
        box, certainty = _box_of_eyes(np.array(given.eyes) * size), 1.0
    else:
        box, certainty = _find_box(picture, gray)
    _check_width(box[2])
    if given.eyes is not None:
        eyes = np.array(given.eyes) * size
        _check_width(_box_of_eyes(eyes)[2])
    else:
        eyes, seen = _find_eyes(gray, box)
        certainty *= seen
    ruler = Ruler(*eyes)
    upright = ruler.upright(picture)
    if given.mouth is not None:
        mouth, clear = np.array(given.mouth) * size, 1.0
        _check_place(ruler.to_face(mouth))
    else:
        found, clear = _find_mouth(upright)
        mouth = ruler.to_picture(found)
    if given.chin is not None and ruler.to_face(np.array(given.chin) * size)[1] < ruler.to_face(mouth)[3, 1] + 0.2:
        raise BadInput("The chin is marked too close to the mouth.", attr="options.chin")
    chin = np.array(given.chin) * size if given.chin else ruler.to_picture(_find_chin(upright, ruler.to_face(mouth)))

    def fraction(point: Array) -> Point:
        x, y = np.clip(point / size, 0.0, 1.0)
        return round(float(x), 5), round(float(y), 5)

    left, top = fraction(box[:2])
    right, bottom = fraction(box[:2] + box[2:])
    named = dict(zip(POINTS, (*eyes, *mouth, chin), strict=True))
    return FaceMarks(
        box=(left, top, round(right - left, 5), round(bottom - top, 5)),
        **{name: fraction(point) for name, point in named.items()},
        confidence=round(float(certainty * (0.5 + 0.5 * clear)), 3),
    )


def _check_place(mouth: Array) -> None:
    """Raises BadInput for a mouth (left, right, top, bottom in ipd) that is not below its eyes, or far too small."""
    across = mouth[1] - mouth[0]
    wide, askew = float(np.hypot(*across)), abs(float(across[1]))
    middle, gap = mouth[:2].mean(axis=0), float(mouth[3, 1] - mouth[2, 1])
    if not (0.25 < wide < 1.6 and askew < 0.4 and gap < 0.6 and abs(middle[0]) < 0.7 and 0.5 < mouth[2, 1] < 1.8):
        raise BadInput(
            "The marked mouth does not fit the eyes: mark its corners and lips, and the eyes too.", attr="options.mouth"
        )


def _check_width(pixels: float) -> None:
    if pixels < MIN_FACE:
        raise BadInput(
            f"The face is too small: {pixels:.0f} pixels across, at least {MIN_FACE}. Use a larger or closer picture.",
            attr="portrait",
        )


def _check_given(given: MarksByHand) -> None:
    """Raises BadInput (`options.<name>`) for marks that cannot be a face's."""
    if given.box is not None and min(given.box[2:]) <= 0:
        raise BadInput("The marked face is empty.", attr="options.face")
    if given.eyes is not None and given.eyes[0][0] >= given.eyes[1][0]:
        raise BadInput("Mark the eye on the left of the picture first, then the right one.", attr="options.eyes")
    if given.mouth is not None:
        left, right, top, bottom = given.mouth
        if left[0] >= right[0] or bottom[1] < top[1]:
            raise BadInput("Mark the mouth as left and right corner, then upper and lower lip.", attr="options.mouth")
        if given.eyes is not None and top[1] <= max(given.eyes[0][1], given.eyes[1][1]):
            raise BadInput("The mouth is marked above the eyes: turn the picture upright.", attr="options.mouth")
    if given.chin is not None and given.mouth is not None and given.chin[1] <= given.mouth[3][1]:
        raise BadInput("The chin is marked above the mouth.", attr="options.chin")


@dataclass(frozen=True)
class Ruler:
    """Measures a face by its eyes: to and from coordinates in `ipd`, x along the eyes, y towards the chin."""

    left_eye: Array
    right_eye: Array

    SCALE = 80
    """Pixels per ipd of the upright copy, whose point between the eyes is at (ORIGIN, ORIGIN) ipd."""
    ORIGIN = 1.2

    @property
    def ipd(self) -> float:
        """Pixels between the pupils."""
        return float(np.hypot(*(self.right_eye - self.left_eye)))

    @property
    def axes(self) -> Array:
        """Columns: one ipd along the eyes, one ipd towards the chin, in pixels."""
        along = self.right_eye - self.left_eye
        return np.column_stack([along, [-along[1], along[0]]])

    def to_picture(self, points: Any) -> Array:
        """(..., 2) in ipd to pixels."""
        return np.asarray(points) @ self.axes.T + (self.left_eye + self.right_eye) / 2

    def to_face(self, points: Any) -> Array:
        """(..., 2) in pixels to ipd."""
        away = np.asarray(points) - (self.left_eye + self.right_eye) / 2
        return np.asarray(away @ np.linalg.inv(self.axes).T)

    def upright(self, picture: Picture) -> Array:
        """The face upright and of one size: (3.2 ipd, 2.4 ipd) in CIE L*a*b* (L 0 to 100)."""
        corner = self.to_picture((-self.ORIGIN, -self.ORIGIN))
        matrix = np.column_stack([self.axes / self.SCALE, corner]).astype(np.float32)
        shape = (int(2.4 * self.SCALE), int((2.2 + self.ORIGIN) * self.SCALE))
        flags = cv2.INTER_AREA if self.ipd > 2 * self.SCALE else cv2.INTER_CUBIC
        patch = cv2.warpAffine(
            picture, matrix, shape, flags=flags | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(cv2.cvtColor(patch.astype(np.float32) / 255, cv2.COLOR_RGB2Lab))


# Finding the face


class _Cascades(threading.local):
    """OpenCV's trained detectors, read when first used. A copy for each thread: they keep buffers, and one that two
    threads use at once crashes."""

    def __init__(self) -> None:
        self._read: dict[str, cv2.CascadeClassifier] = {}

    def __getitem__(self, name: str) -> cv2.CascadeClassifier:
        if name not in self._read:
            path = Path(cv2.__file__).parent / "data" / f"haarcascade_{name}.xml"
            self._read[name] = cv2.CascadeClassifier(str(path))
        return self._read[name]


_cascades = _Cascades()


def _detect(name: str, gray: Array, smallest: int) -> list[tuple[Array, int]]:
    """Boxes (left, top, width, height) with the number of windows that agreed on each."""
    boxes, counts = _cascades[name].detectMultiScale2(gray, 1.08, 2, minSize=(smallest, smallest))
    return [(np.array(box, float), int(count)) for box, count in zip(boxes, counts, strict=True)]


def _find_box(picture: Picture, gray: Array) -> tuple[Array, float]:
    """The face that stands out: its box in pixels, and how sure it is one."""
    small = min(1.0, 600 / max(gray.shape))
    look = cv2.equalizeHist(cv2.resize(gray, None, fx=small, fy=small, interpolation=cv2.INTER_AREA))
    groups: list[list[tuple[Array, int]]] = []
    for name in ("frontalface_default", "frontalface_alt2", "frontalface_alt"):
        for box, count in _detect(name, look, smallest=30):
            near = next((group for group in groups if _overlap(group[0][0], box) > 0.4), None)
            groups.append([(box, count)]) if near is None else near.append((box, count))
    faces = []
    for group in groups:
        votes = sum(count for _, count in group)
        box = np.sum([box * count for box, count in group], axis=0) / votes / small
        if votes >= LIKELY and _looks_like_a_face(picture, gray, box, votes):
            faces.append((box, votes))
    if not faces:
        raise BadInput(
            "No face was found in this picture. Use a photo in which one face looks into the camera, or mark the face"
            " by hand.",
            attr="portrait",
        )
    faces.sort(key=lambda face: -face[0][2])
    if len(faces) > 1 and faces[0][0][2] < DOMINANT * faces[1][0][2]:
        raise BadInput(
            f"There are {len(faces)} faces in this picture. Crop it to one, or mark the face that shall speak by hand.",
            attr="portrait",
        )
    box, votes = faces[0]
    return box, min(1.0, votes / (2 * SURE))


def _looks_like_a_face(picture: Picture, gray: Array, box: Array, votes: int) -> bool:
    """Whether eyes and mouth are where a face has them: a window blind or an arm may look like one from afar."""
    eyes, seen = _find_eyes(gray, box)
    if seen == BOTH_EYES or votes < SURE:
        return seen == BOTH_EYES
    mouth = _place_mouth(Ruler(*eyes).upright(picture))[2] >= MOUTH_SEEN
    return mouth and (seen >= AN_EYE or votes >= SURE_WITHOUT_EYES)


SURE, LIKELY, SURE_WITHOUT_EYES = 25, 10, 70
"""Windows of three cascades that must agree on a face: one with an eye and a mouth in it, with both eyes, and with a
mouth only (behind glasses no eye may be seen). Photos have 60 and more, what only looks like a face seldom 30."""
BOTH_EYES, AN_EYE = 1.0, 0.6
"""What `_find_eyes` says, at least, when it saw so many."""
DOMINANT = 1.6
"""A face so many times as wide as the next one is the one meant."""


def _overlap(one: Array, other: Array) -> float:
    """Intersection over union."""
    corner = np.maximum(one[:2], other[:2])
    shared = np.prod(np.maximum(0, np.minimum(one[:2] + one[2:], other[:2] + other[2:]) - corner))
    return float(shared / (np.prod(one[2:]) + np.prod(other[2:]) - shared))


def _clipped(box: Array, size: Array) -> Array:
    """The part of `box` inside the picture."""
    corner = np.clip(box[:2], 0, size)
    return np.concatenate([corner, np.clip(box[:2] + box[2:], 0, size) - corner])


def _box_of_eyes(eyes: Array) -> Array:
    ipd = np.hypot(*(eyes[1] - eyes[0]))
    return np.array([*(eyes.mean(axis=0) - ipd * np.array([1.15, 0.9])), 2.3 * ipd, 2.3 * ipd])


# Finding the eyes


def _find_eyes(gray: Array, box: Array) -> tuple[Array, float]:
    """Pupils, left first, in pixels; and 1 when both were seen, less when they are where eyes usually are."""
    left, top, width, height = (round(float(side)) for side in box)
    left, top = max(left, 0), max(top, 0)
    face = gray[top : top + height, left : left + width]
    scale = 300 / max(width, 1)
    face = cv2.resize(face, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    upper = cv2.equalizeHist(face[: int(face.shape[0] * 0.62)])
    votes = [
        (box[:2] + box[2:] * (0.5, 0.54), count)
        for name in ("eye", "eye_tree_eyeglasses")
        for box, count in _detect(name, upper, smallest=36)
    ]
    pupils, seen = [], 1.0
    for usual in ((0.3, 0.38), (0.7, 0.38)):
        target = np.array(usual) * 300
        near = [(centre, count) for centre, count in votes if np.hypot(*(centre - target)) < 45]
        if near:
            target = np.average([centre for centre, _ in near], axis=0, weights=[count for _, count in near])
        else:
            seen -= 0.3
        pupils.append(_refine_pupil(face, target) / scale + (left, top))
    return np.array(pupils), seen


def _refine_pupil(face: Array, guess: Array) -> Array:
    """The point from which the picture's gradients point away, near `guess`, dark places first.

    Timm and Barth, "Accurate eye centre localisation by means of gradients", VISAPP 2011.
    """
    reach = 24
    x, y = (round(float(value)) for value in guess)
    window = face[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
    smooth = cv2.GaussianBlur(window.astype(np.float32), (0, 0), 2)
    gx, gy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    strength = np.hypot(gx, gy)
    strong = strength > strength.mean() + 0.6 * strength.std()
    ys, xs = np.nonzero(strong)
    gx, gy = gx[strong] / strength[strong], gy[strong] / strength[strong]
    rows, columns = np.mgrid[: window.shape[0], : window.shape[1]]
    dx, dy = xs - columns[..., None], ys - rows[..., None]
    away = np.maximum((dx * gx + dy * gy) / np.maximum(np.hypot(dx, dy), 1), 0) ** 2
    prior = np.exp(-((columns - (x - max(x - reach, 0))) ** 2 + (rows - (y - max(y - reach, 0))) ** 2) / (2 * 12.0**2))
    score = away.mean(axis=-1) * (260 - smooth) * prior
    best = np.unravel_index(int(score.argmax()), score.shape)
    return np.array([max(x - reach, 0) + best[1], max(y - reach, 0) + best[0]], float)


# Finding mouth and chin in the upright copy


def _row(y: float) -> int:
    return round((y + Ruler.ORIGIN) * Ruler.SCALE)


def _span(left: float, right: float) -> slice:
    return slice(_row(left), _row(right) + 1)


MOUTH_ROW, MOUTH_SPREAD = 1.1, (0.45, 0.4)
"""Of the mouth under the eyes, and how far it may lie from there, across and down: heads that are turned away have a
shorter distance between their eyes."""
MOUTH_HALF, MOUTH_LONGEST = 0.42, 0.66
MOUTH_SEEN = 0.2
"""Certainty of `_place_mouth` from which on there is a mouth."""
CHIN_BELOW_MOUTH, CHIN_SPREAD = 0.72, 0.1


def _cheeks(lab: Array) -> Array:
    """(pixels, 3): skin, beside the nose."""
    rows = _span(0.45, 0.8)
    return np.concatenate([lab[rows, _span(-0.6, -0.3)].reshape(-1, 3), lab[rows, _span(0.3, 0.6)].reshape(-1, 3)])


def _lipness(lab: Array) -> Array:
    """How much each pixel looks like lips: redder and darker than the skin of the cheeks, in its deviations."""
    skin = _cheeks(lab)
    away = (cv2.GaussianBlur(lab, (0, 0), 1.2) - np.median(skin, axis=0)) / (
        skin.std(axis=0) + np.array([6.0, 1.5, 1.5])
    )
    return np.asarray(np.clip(away[..., 1], -2, 4) - 0.6 * np.clip(away[..., 0], -4, 2))


def _place_mouth(lab: Array) -> tuple[float, float, float]:
    """About where the mouth is: x and y of its middle in ipd; and how sure that is, 0 when nothing like one was seen.

    OpenCV's cascade for smiles finds other mouths as well, with fewer windows that agree.
    """
    start = _row(0.5)
    look = np.clip(lab[start:, :, 0] * 2.55, 0, 255).astype(np.uint8)
    boxes, counts = _cascades["smile"].detectMultiScale2(look, 1.05, 3, minSize=(50, 25))
    best, x, y = 0.0, 0.0, MOUTH_ROW - 0.04
    for (left, top, width, height), count in zip(boxes, counts, strict=True):
        middle = np.array([left + width / 2, start + top + height / 2]) / Ruler.SCALE - Ruler.ORIGIN
        away = np.sum(((middle - (0.0, MOUTH_ROW + 0.04)) / MOUTH_SPREAD) ** 2)
        if (votes := min(float(count), 400.0) * float(np.exp(-away))) > best:
            best, (x, y) = votes, middle - (0.0, 0.04)  # its boxes reach down to the chin
    # The lips are redder and darker than the skin around them.
    rows = np.arange(_row(y - 0.4), min(_row(y + 0.4), len(lab)))
    place = rows / Ruler.SCALE - Ruler.ORIGIN
    lips = np.maximum(_lipness(lab)[rows, _span(x - 0.25, x + 0.25)].mean(axis=1), 0)
    lips *= np.exp(-(((place - y) / 0.25) ** 2))
    weight = float(lips.sum()) / Ruler.SCALE
    y = (0.15 * y + weight * float(lips @ place / max(lips.sum(), 1e-6))) / (0.15 + weight)
    return float(x), float(y), float(np.clip(best / 100, 0, 1))


def _find_mouth(lab: Array) -> tuple[Array, float]:
    """Left and right corner, top and bottom of the opening, in ipd; and how clearly they were seen, 0 to 1."""
    x, y, sure = _place_mouth(lab)
    smooth = cv2.GaussianBlur(lab, (0, 0), 1.0)
    corners, even = _find_corners(smooth[..., 0], x, y)
    (left, left_y), (right, right_y) = corners
    height = (left_y + right_y) / 2
    rows = np.arange(_row(height - 0.32), min(_row(height + 0.5), len(lab) - 1))
    place = rows / Ruler.SCALE - Ruler.ORIGIN
    near = np.exp(-(((place - y) / 0.16) ** 2))
    # Medians: the shine on a lower lip is as bright as teeth, but narrow.
    middle = np.median(smooth[rows, _span(x - 0.15, x + 0.15)], axis=1)
    skin = np.median(_cheeks(lab), axis=0)
    if opening := _find_opening(middle, skin, near, _row(height - 0.2) - rows[0]):
        edges = _arches_around_opening(lab, corners, (float(place[opening[0]]), float(place[opening[1]])))
    else:
        lips = np.maximum(_lipness(lab)[rows, _span(x - 0.18, x + 0.18)].mean(axis=1), 0) * near
        about = np.abs(np.arange(len(rows)) - int(lips.argmax())) <= 10
        about &= (place > height - 0.08) & (place < height + 0.2)
        line = float(place[int((middle[:, 0] - 4 * near + 100 * ~about).argmin())])
        edges = line, line
    centre = (left + right) / 4 + x / 2
    return np.array([*corners, (centre, edges[0]), (centre, edges[1])]), float(sure * (1.0 if even else 0.6))


def _find_opening(middle: Array, skin: Array, near: Array, highest: int) -> tuple[int, int] | None:
    """First and last row between open lips: teeth or the dark of the mouth. None when the lips are closed.

    middle: (rows, 3) colours down the middle of the mouth, L*a*b*; skin: (3,) its usual colour; near: (rows,) how
    likely a mouth is there; highest: the first row that it may begin in. Lips are red, what is between them is not; a
    grey picture has only brightness to go by.
    """
    if np.ptp(middle[:, 1]) < GREY:
        return _find_teeth(middle[:, 0], skin[0], near)
    light, red = middle[:, 0], cv2.GaussianBlur(middle[:, 1].reshape(-1, 1), (1, 5), 1.2)[:, 0]
    black = light < DARK_MOUTH * skin[0]
    peaks = [row for row in range(1, len(red) - 1) if red[row - 1] <= red[row] >= red[row + 1]]
    best, found = 0.0, None
    for upper in peaks:
        for lower in (peak for peak in peaks if upper + 4 <= peak < upper + WIDEST_OPENING):
            lips, least = min(red[upper], red[lower]), float(red[upper : lower + 1].min())
            if lips - least < LIPS_REDDER or least > skin[1] + 7:
                continue
            inner = (red[upper : lower + 1] < lips - 0.4 * (lips - least)) | black[upper : lower + 1]
            first, last = (upper + int(row) for row in np.flatnonzero(inner)[[0, -1]])
            within = slice(first, last + 1)
            brighter = light[within].max() > max(light[upper], light[lower]) + 4
            if first < highest or not (brighter or black[within].any()):
                continue
            if inner[first - upper : last - upper + 1].mean() < 0.6:
                continue
            likely = near[(upper + lower) // 2] * min(near[upper], near[lower]) ** 0.1
            if (score := (lips - least) * (last - first) ** 0.8 * likely) > best:
                best, found = float(score), (first, last)
    return found


GREY = 3.0
"""A mouth that varies less in red (a*) is in a grey picture."""
LIPS_REDDER = 9.0
"""How much redder (a*) lips are than what is between them, at least."""
DARK_MOUTH = 0.35
"""What is darker than this part of the skin's light is the depth of the mouth."""
WIDEST_OPENING = 44


def _find_teeth(light: Array, skin: float, near: Array) -> tuple[int, int] | None:
    """First and last row of teeth in a grey picture: clearly brighter than what is above and below, and
    than skin, which a lower lip is not."""
    opened = cv2.morphologyEx(light.reshape(-1, 1), cv2.MORPH_OPEN, np.ones((TEETH_ROWS, 1), np.uint8))
    strip = (light - opened[:, 0]) * (near > 0.5)
    best = int(strip.argmax())
    if strip[best] < TEETH_CONTRAST or light[best] < skin + 3:
        return None
    return _strip_edges(light, best, float(strip[best]))


def _strip_edges(light: Array, best: int, contrast: float) -> tuple[int, int] | None:
    """First and last row around `best` that are brighter than the lips, most of the way down to these."""
    level = light[best] - 0.7 * contrast
    top = best - int(np.argmax(light[best::-1] < level)) + 1
    bottom = best + int(np.argmax(light[best:] < level)) - 1
    return (top, bottom) if 3 <= bottom - top <= TEETH_ROWS else None


def _arches_around_opening(lab: Array, corners: Sequence[Point], edges: tuple[float, float]) -> tuple[float, float]:
    """Rows of upper and lower edge in the middle, so that parabolas from corner to corner hold all teeth in between.

    A parabola through the middle alone would leave slivers of teeth on the lips, which would move with these.
    """
    (left, left_y), (right, right_y) = corners
    light = cv2.GaussianBlur(lab[..., 0], (0, 0), 1.0)
    start = _row(min(edges) - 0.2)
    highest, lowest = [edges[0]], [edges[1]]
    for part in np.linspace(-0.66, 0.66, 23):
        arch = 1 - part**2
        base = left_y + (right_y - left_y) * (part + 1) / 2
        column = light[start : _row(max(edges) + 0.2), _row(left + (right - left) * (part + 1) / 2)]
        expected = (base + (np.mean(edges) - base) * arch) * Ruler.SCALE + Ruler.ORIGIN * Ruler.SCALE - start
        near = slice(max(round(expected) - 5, 0), max(round(expected) - 5, 0) + 11)
        best = near.start + int(column[near].argmax())
        low = max(column[:best].min(initial=np.inf), column[best:].min(initial=np.inf))
        strip = _strip_edges(column, best, float(column[best] - low))
        if strip is None or column[best] - low < TEETH_CONTRAST:
            continue
        top, bottom = ((row + start) / Ruler.SCALE - Ruler.ORIGIN for row in strip)
        highest.append(base + (top - base) / arch)
        lowest.append(base + (bottom - base) / arch)
    margin = 0.01
    # Not the outermost: a shine on a lip may join the teeth.
    top, bottom = float(np.percentile(highest, 25)), float(np.percentile(lowest, 75))
    return float(np.clip(top, edges[0] - 0.07, edges[0])) - margin, float(
        np.clip(bottom, edges[1], edges[1] + 0.07)
    ) + margin


TEETH_ROWS = 24
TEETH_CONTRAST = 7.0
"""How much brighter (L*) teeth are than the lips around them, at least."""


def _find_corners(light: Array, x: float, y: float) -> tuple[tuple[Point, Point], bool]:
    """Left and right end of the dark valley that upper lip and line make through (x, y), in ipd; and whether both were
    seen: a mouth that is far longer on one side is cut there, it ran on into a fold of the cheek."""
    dark: Array = cv2.morphologyEx(light, cv2.MORPH_CLOSE, np.ones((23, 1), np.uint8)) - light
    dark = cv2.GaussianBlur(dark, (0, 0), 1.5)
    first, middle, last = (_row(x + side) for side in (-MOUTH_LONGEST, 0, MOUTH_LONGEST))
    first, last = max(first, 0), min(last, dark.shape[1] - 1)
    path = _darkest_path(dark, range(first, last + 1), y)
    depth = np.array([dark[row - 1 : row + 2, column].max() for column, row in enumerate(path, first)])
    reach = round(0.2 * Ruler.SCALE)
    usual = float(np.median(depth[middle - first - reach : middle - first + reach + 1])) + 1e-3
    # Where the sum of what is dark enough is largest: the darker the further out and the steeper, as folds are.
    far = np.abs(np.arange(first, last + 1) - middle) / Ruler.SCALE
    slope = np.abs(np.convolve(np.pad(path, 4, mode="edge"), [1, 0, 0, 0, 0, 0, 0, 0, -1], mode="valid")) / 8
    gain = np.minimum(depth / usual, 1) - 0.45 - 1.2 * np.maximum(0, far - MOUTH_HALF) - np.maximum(0, slope - 0.4)
    lengths = [1 + int(np.cumsum(side).argmax()) for side in (gain[: middle - first][::-1], gain[middle - first + 1 :])]
    even = max(lengths) < 2 * min(lengths) and min(lengths) > 0.2 * Ruler.SCALE
    shortest = max(min(lengths), round(0.26 * Ruler.SCALE))
    left, right = (min(length, round(1.5 * shortest)) for length in lengths)
    ends = [max(middle - left, first), min(middle + right, last)]
    one, other = (
        (column / Ruler.SCALE - Ruler.ORIGIN, float(path[column - first]) / Ruler.SCALE - Ruler.ORIGIN)
        for column in ends
    )
    return (one, other), even


def _darkest_path(dark: Array, columns: range, y: float) -> Array:
    """For each column the row of the darkest path near `y` from left to right, a row up or down from one to the next
    at most."""
    rows = np.arange(_row(y - 0.3), min(_row(y + 0.3), len(dark) - 2))
    place = rows / Ruler.SCALE - Ruler.ORIGIN
    gain = np.sqrt(np.maximum(dark[rows, columns.start : columns.stop], 0))
    gain *= np.exp(-(((place - y) / 0.2) ** 2))[:, None]
    total, came = gain[:, 0], np.zeros(gain.shape, int)
    for column in range(1, gain.shape[1]):
        padded = np.pad(total, 1, constant_values=-np.inf)
        choices = np.stack([padded[:-2] - 0.15, padded[1:-1], padded[2:] - 0.15])
        came[:, column] = choices.argmax(axis=0) - 1
        total = choices.max(axis=0) + gain[:, column]
    path = [int(total.argmax())]
    for column in range(gain.shape[1] - 1, 0, -1):
        path.append(path[-1] + came[path[-1], column])
    return rows[path[::-1]]


def _find_chin(lab: Array, mouth: Array) -> Point:
    """Where the skin of the chin ends above the shadow of the neck, in ipd."""
    usual = float(np.clip(mouth[2:, 1].mean() + CHIN_BELOW_MOUTH, 1.55, 2.05))
    lowest = min(float(mouth[3, 1]) + 0.4, usual)
    rows = np.arange(_row(max(usual - 0.3, lowest)), _row(min(usual + 0.27, 2.1)))
    light = cv2.GaussianBlur(lab[..., 0], (0, 0), 2.5)[:, _span(-0.12, 0.12)].mean(axis=1)
    fall = np.maximum(light[rows - 3] - light[rows + 3], 0)
    weighted = fall * np.exp(-(((rows / Ruler.SCALE - Ruler.ORIGIN - usual) / (2 * CHIN_SPREAD)) ** 2))
    # The first edge from above that is clear: a collar below may be a stronger one.
    edges = (weighted > max(3.0, 0.3 * float(weighted.max()))) & (weighted >= np.roll(weighted, -1))
    row = rows[int(edges.argmax())] if edges.any() else _row(max(usual, lowest))
    return float(mouth[:2, 0].mean()) * 0.5, row / Ruler.SCALE - Ruler.ORIGIN
