"""The mouth: lips and jaw are the picture bent, the opening is filled with teeth, tongue and the dark behind them.

All measures are in ipd from the middle between the corners of the mouth, u along their line, v towards the chin.
The opening is bounded by two arches over the corners, at rest the picture's own (they coincide when its lips are closed).
A pose gives new arches; what lies above the upper one moves with the upper lip, what lies below the lower one with
lower lip and jaw, both fading out towards nose, cheeks and neck. At rest every displacement is zero: the picture itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatars.engines.faces.framing import Landmarks
from avatars.engines.faces.marks import Ruler
from avatars.engines.faces.region import Region, fade
from avatars.engines.poses import Mouth

DROP = 0.27
"""Between the lips at openness 1."""
UPPER_SHARE = 0.14
"""The upper lip's part of it."""
CHIN_SHARE = 0.62
"""How much of the lower lip's way the chin goes."""
SPREAD, ROUND = 0.2, 0.34
"""Of the corners outwards (width 0 to 1: half of it each way) and inwards (rounding 1), as part of half the mouth."""
POUT = 0.05
"""Opening of rounded lips that are otherwise closed."""
CHEEK, NOSE, NECK = 0.6, 0.28, 0.55
"""How far from the mouth, upwards from it and downwards from the chin the skin moves."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Arches:
    """Shape of the opening: half its width, the height of its corners, of upper and lower edge in the middle, and how
    round the arches are (1 a parabola, less is rounder)."""

    half: float
    corner: float
    top: float
    bottom: float
    bow: float

    def edges(self, u: Array) -> tuple[Array, Array]:
        """v of upper and lower edge at `u`; beyond the corners both are the corners' height."""
        arch = np.clip(1 - (u / self.half) ** 2, 0, 1) ** self.bow
        return self.corner + (self.top - self.corner) * arch, self.corner + (self.bottom - self.corner) * arch


class MouthArea:
    """Mouth and jaw of a framed face."""

    def __init__(self, picture: NDArray[np.uint8], marks: Landmarks) -> None:
        ruler = marks.ruler
        left, right, top, bottom, chin = (
            ruler.to_face(point)
            for point in (marks.mouth_left, marks.mouth_right, marks.mouth_top, marks.mouth_bottom, marks.chin)
        )
        along = (right - left) / np.hypot(*(right - left))
        self._turn = np.column_stack([along, [-along[1], along[0]]])  # (u, v) to face
        self._middle = (left + right) / 2
        inside = (np.array([top, bottom]) - self._middle) @ self._turn
        self._rest = Arches(
            half=float(np.hypot(*(right - left)) / 2),
            corner=0.0,
            top=float(inside[0, 1]),
            bottom=float(max(inside[0, 1], inside[1, 1])),
            bow=1.0,
        )
        self._shows_teeth = self._rest.bottom - self._rest.top > 0.03
        self._chin = float(((chin - self._middle) @ self._turn)[1])
        reach = self._rest.half * (1 + SPREAD / 2) + CHEEK
        self.region = Region.of(
            ruler,
            picture,
            x=(self._middle[0] - reach, self._middle[0] + reach),
            y=(self._middle[1] - NOSE, self._middle[1] + self._chin + NECK),
        )
        here = np.stack([self.region.x, self.region.y], axis=-1) - self._middle
        self._u, self._v = np.moveaxis((here @ self._turn).astype(np.float32), -1, 0)
        self._soft = max(1.3, 0.014 * ruler.ipd) / ruler.ipd
        self._inside = _Inside(ruler.upright(picture))

    def paint(self, mouth: Mouth) -> NDArray[np.uint8]:
        """The region with the mouth in this shape."""
        u, v = self._u, self._v
        rest, shape = self._rest, self._shape(mouth)
        away_x = self._sideways(shape)
        u_rest = u - away_x
        upper, lower = shape.edges(u)
        upper_rest, lower_rest = rest.edges(u_rest)
        # Beyond the corners the cheeks follow these.
        aside = fade(np.abs(u), shape.half, shape.half + CHEEK)
        up, down = (upper - upper_rest) * aside, (lower - lower_rest) * aside
        jaw = CHIN_SHARE * (shape.bottom - rest.bottom) * fade(np.abs(u), 0.1, 0.95)
        near_lip = fade(v - lower, 0.1, 0.55)
        down = (down * near_lip + jaw * (1 - near_lip)) * fade(v, self._chin, self._chin + NECK)
        up = up * fade(upper - v, 0.04, NOSE - 0.04)
        bent = self._sample(u_rest, v - np.where(v >= (upper + lower) / 2, down, up))

        opening = np.clip((v - upper) / self._soft, 0, 1) * np.clip((lower - v) / self._soft, 0, 1)
        opening *= np.abs(u) < shape.half
        if not opening.any():
            return bent
        filling = self._inside.paint(u, v, upper, lower, shape, own_teeth=self._shows_teeth)
        if self._shows_teeth:
            filling = self._own_teeth(filling, shape, mouth)
        beside = np.maximum(upper - v, v - lower)
        opened = np.clip((shape.bottom - shape.top - rest.bottom + rest.top) / 0.1, 0, 1)
        shade = 0.3 * opened * np.exp(-np.square(beside / 0.025)) * (np.abs(u) < shape.half)
        mixed = opening[..., None] * filling + ((1 - opening) * (1 - shade))[..., None] * bent
        return np.asarray(np.clip(mixed + 0.5, 0, 255).astype(np.uint8))

    def _own_teeth(self, filling: Array, shape: Arches, mouth: Mouth) -> Array:
        """What the picture shows between its lips, in its place: the skull does not move with the lips. It only
        follows an upper lip that rises and corners that spread, since nothing is known of what these uncover."""
        u = self._u / max(1.0, shape.half / self._rest.half)
        v = self._v - min(0.0, shape.top - self._rest.top)
        _, bottom = self._rest.edges(u)
        covers = np.clip((bottom - v) / self._soft + 0.5, 0, 1)
        in_shadow = 1 - 0.55 * mouth.rounding
        return np.asarray(_mix(filling, self._sample(u, v) * in_shadow, covers))

    def _shape(self, mouth: Mouth) -> Arches:
        rest = self._rest
        width = 1 + SPREAD * (mouth.width - 0.5) - ROUND * mouth.rounding - 0.07 * mouth.openness
        gap = DROP * mouth.openness * (1 - 0.3 * mouth.rounding) + POUT * mouth.rounding
        # Corners travel along the line of the lips; rounded lips close over the teeth.
        middle = (rest.top + rest.bottom) / 2
        corner = 0.8 * middle * (1 - width**2)
        purse = 1 - 0.85 * mouth.rounding
        return Arches(
            half=rest.half * width,
            corner=corner,
            top=middle + (rest.top - middle) * purse - UPPER_SHARE * gap,
            bottom=middle + (rest.bottom - middle) * purse + (1 - UPPER_SHARE) * gap,
            bow=1 - 0.4 * min(1.0, mouth.rounding + 0.5 * mouth.openness),
        )

    def _sideways(self, shape: Arches) -> Array:
        """Displacement along the mouth: of the lips in proportion, of the cheeks less and less."""
        u, v = self._u, self._v
        lips = u * (1 - self._rest.half / shape.half)
        cheeks = np.sign(u) * (shape.half - self._rest.half) * fade(np.abs(u), shape.half, shape.half + CHEEK)
        rows = fade(np.minimum(shape.top, 0) - v, 0.06, NOSE) * fade(v - shape.bottom, 0.2, 0.75)
        return np.asarray(np.where(np.abs(u) < shape.half, lips, cheeks) * rows, np.float32)

    def _sample(self, u: Array, v: Array) -> NDArray[np.uint8]:
        points = np.stack([u, v], axis=-1) @ self._turn.T.astype(np.float32) + self._middle.astype(np.float32)
        return self.region.sample(points[..., 0], points[..., 1])


class _Inside:
    """Colours of a mouth's inside, in the light of its picture."""

    def __init__(self, lab: NDArray[np.float32]) -> None:
        rows = slice(round((0.45 + Ruler.ORIGIN) * Ruler.SCALE), round((0.8 + Ruler.ORIGIN) * Ruler.SCALE))
        skin = lab[rows].reshape(-1, 3)
        light = float(np.clip(np.percentile(skin[:, 0], 80) / 75, 0.35, 1.15))
        grey = bool(np.abs(skin[:, 1:]).max() < 2)
        colours = np.array([DARK, TONGUE, TEETH], np.float32) * light
        if grey:
            colours = np.repeat(colours @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=1)
        self._dark, self._tongue, self._teeth = colours

    def paint(self, u: Array, v: Array, upper: Array, lower: Array, shape: Arches, *, own_teeth: bool) -> Array:
        """(rows, columns, 3) for every pixel; only what is between the lips will be seen."""
        gap = shape.bottom - shape.top
        t = u / shape.half
        depth = np.clip((v - upper) / np.maximum(lower - upper, 1e-3), 0, 1)
        colour = self._dark * (0.75 + 0.5 * depth)[..., None]
        # The tongue lies on the floor, in shadow towards the throat.
        floor = shape.bottom - 0.02
        tall = 0.42 * gap
        tongue = np.square(t / 0.72) + np.square((v - floor) / max(tall, 1e-3))
        seen = fade(tongue, 0.3, 1.15) * float(fade(np.array(-gap), -0.2, -0.07))
        lit = 0.45 + 0.55 * fade(tongue, 0.1, 1.0)
        colour = _mix(colour, self._tongue * lit[..., None], seen)
        if not own_teeth:
            colour = _mix(colour, *self._upper_teeth(u, v, upper, shape, gap))
        return np.asarray(colour)

    def _upper_teeth(self, u: Array, v: Array, upper: Array, shape: Arches, gap: float) -> tuple[Array, Array]:
        """Colour and coverage: a row of teeth under the upper lip, narrower ones at the sides, in its shadow."""
        long = min(0.5 * gap, 0.105)
        place = np.abs(u) / 0.135  # in front teeth
        within = np.abs(place % 1 - 0.5) * 2  # 0 in the middle of a tooth, 1 between two
        bottom = upper + long * (1 - 0.1 * within**4) * np.sqrt(np.clip(1 - (u / (0.95 * shape.half)) ** 2, 0, 1))
        soft = 0.02
        covers = np.clip((bottom - v) / soft + 0.5, 0, 1) * fade(np.abs(u) / shape.half, 0.45, 0.92)
        below_lip = np.clip((v - upper) / 0.06, 0, 1)
        shade = (0.55 + 0.45 * below_lip) * (1 - 0.5 * np.clip(np.abs(u) / shape.half, 0, 1) ** 2) * (
            1 - 0.16 * within**6
        )
        return np.asarray(self._teeth * shade[..., None]), np.asarray(covers)


DARK, TONGUE, TEETH = (46, 16, 15), (158, 76, 74), (214, 202, 184)
"""RGB in even light on light skin."""


def _mix(below: NDArray[Any], above: NDArray[Any], coverage: NDArray[Any]) -> NDArray[Any]:
    return below + (above - below) * coverage[..., None]
