"""The mouth: lips and jaw are the picture bent, the opening is filled with teeth, tongue and the dark behind them.

All measures are in ipd from the middle between the corners of the mouth, u along their line, v towards the chin.
The opening is bounded by two arches over the corners, at rest the picture's own (they coincide when its lips are
closed). A pose gives new arches; what lies above the upper one moves with the upper lip, what lies below the lower one
with lower lip and jaw, both fading out towards nose, cheeks and neck. At rest every displacement is zero: the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatars.engines.faces.framing import Landmarks
from avatars.engines.faces.marks import Array, Ruler
from avatars.engines.faces.region import Region, fade
from avatars.engines.poses import Mouth

DROP = 0.27
"""Between the lips at openness 1."""
UPPER_SHARE = 0.14
"""The upper lip's part of it."""
CORNER_SHARE = 0.14
"""How much of the lower lip's way the corners go."""
CHIN_SHARE = 0.62
"""How much of the lower lip's way the chin goes."""
SPREAD, ROUND, MOST_ROUND = 0.26, 0.31, 0.14
"""Of the corners outwards (width 0 to 1: half of it each way) and inwards (rounding 1), as part of half the mouth; the
last in ipd: the cheeks beside a wide mouth would crumple."""
SMILE = 0.6
"""How much of rounding a mouth does that shows its teeth: what a smile has pulled apart cannot be made undone."""
SEAM = 0.02
"""Width of the dark line between closed lips."""
POUT = 0.035
"""Opening of rounded lips that are otherwise closed."""
CHEEK, NOSE, NECK = 0.42, 0.28, 0.42
"""How far from the mouth, upwards from it and downwards from the chin the skin moves."""


@dataclass(frozen=True)
class Arches:
    """Shape of the opening: half its width and the height of its corners; in the middle the height of the line around
    which it opens and how far it does, above and below; `bow`: 1 opens as a parabola, less rounder, more only about
    the middle."""

    half: float
    corner: float
    line: float
    above: float
    below: float
    bow: float = 1.0

    @property
    def top(self) -> float:
        """v of the upper edge in the middle."""
        return self.line - self.above

    @property
    def bottom(self) -> float:
        """v of the lower edge in the middle."""
        return self.line + self.below

    @property
    def gap(self) -> float:
        """Between the lips, in the middle."""
        return self.above + self.below

    def edges(self, u: Array) -> tuple[Array, Array]:
        """v of upper and lower edge at `u`; beyond the corners both are the corners' height."""
        arch = np.clip(1 - (u / self.half) ** 2, 0, 1)
        line, opened = self.corner + (self.line - self.corner) * arch, arch**self.bow
        return line - self.above * opened, line + self.below * opened


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
        high, low = float(inside[0, 1]), float(max(inside[0, 1], inside[1, 1]))
        self._rest = Arches(
            half=float(np.hypot(*(right - left)) / 2),
            corner=0.0,
            line=(high + low) / 2,
            above=(low - high) / 2,
            below=(low - high) / 2,
        )
        self._shows_teeth = self._rest.gap > 0.03
        self._chin = float(((chin - self._middle) @ self._turn)[1])
        reach = self._rest.half * (1 + SPREAD / 2) + CHEEK
        self.region = Region.of(
            ruler,
            picture,
            x=(self._middle[0] - reach, self._middle[0] + reach),
            y=(self._middle[1] - NOSE - 0.08, self._middle[1] + self._chin + NECK),
        )
        here = np.stack([self.region.x, self.region.y], axis=-1) - self._middle
        self._u, self._v = np.moveaxis((here @ self._turn).astype(np.float32), -1, 0)
        self._soft = max(1.3, 0.014 * ruler.ipd) / ruler.ipd
        self._inside = _Inside(ruler.upright(picture))

    def paint(self, mouth: Mouth) -> NDArray[np.uint8]:
        """The region with the mouth in this shape."""
        u, v = self._u, self._v
        shape = self._shape(mouth)
        upper, lower = shape.edges(u)
        bent = self._bend(mouth, shape, upper, lower)
        between = np.abs(u) < shape.half
        opening = np.clip((v - upper) / self._soft, 0, 1) * np.clip((lower - v) / self._soft, 0, 1) * between
        if not opening.any():
            return bent
        # How much of the opening upper teeth fill: most of it when lips are spread, little when they are rounded.
        teeth = 0.0 if self._shows_teeth else 0.5 + 0.35 * max(0.0, 2 * mouth.width - 1) - 0.42 * mouth.rounding
        filling = self._inside.paint(u, v, upper, lower, shape, teeth)
        if self._shows_teeth:
            filling = self._own_teeth(filling, upper, shape, mouth)
        # Lips darken towards the opening, where they turn inwards.
        outside = np.maximum(upper - v, 0) + np.maximum(v - lower, 0)
        opened = np.clip((shape.gap - self._rest.gap) / 0.1, 0, 1)
        shade = 0.3 * opened * np.exp(-np.square(outside / 0.025)) * between
        mixed = opening[..., None] * filling + ((1 - opening) * (1 - shade))[..., None] * bent
        return np.asarray(np.clip(mixed + 0.5, 0, 255).astype(np.uint8))

    def _bend(self, mouth: Mouth, shape: Arches, upper: Array, lower: Array) -> NDArray[np.uint8]:
        """Lips, cheeks and jaw where this shape puts them; between the lips their edges go on, so that the soft border
        of the opening mixes lips with what is inside."""
        u, v, rest = self._u, self._v, self._rest
        u_rest = u - self._sideways(shape)
        upper_rest, lower_rest = rest.edges(u_rest)
        # Beyond the corners the cheeks follow these.
        aside = fade(np.abs(u), shape.half, shape.half + CHEEK)
        up = (upper - upper_rest) * aside * fade(upper - v, 0.04, NOSE - 0.04)
        near_lip = fade(v - lower, 0.1, 0.55)
        jaw = CHIN_SHARE * (shape.bottom - rest.bottom) * fade(np.abs(u), 0.1, 0.88)
        down = (lower - lower_rest) * aside * near_lip + jaw * (1 - near_lip)
        down *= fade(v, self._chin, self._chin + NECK)
        # The line between closed lips is dark: parted ones show what was beside it.
        parted = np.clip((shape.gap - rest.gap) / 0.05 + mouth.rounding, 0, 1)
        seam = SEAM * parted * np.sqrt(np.clip(1 - (u / shape.half) ** 2, 0, 1))
        up = up + seam * np.exp(-np.maximum(upper - v, 0) / (2 * SEAM))
        down = down - seam * np.exp(-np.maximum(v - lower, 0) / (2 * SEAM))
        is_upper = v < (upper + lower) / 2
        return self._sample(u_rest, np.where(is_upper, np.minimum(v, upper) - up, np.maximum(v, lower) - down))

    def _own_teeth(self, filling: Array, upper: Array, shape: Arches, mouth: Mouth) -> Array:
        """What the picture shows between its lips, in its place: the skull does not move with the lips. It only
        follows an upper lip that rises and corners that spread, since nothing is known of what these uncover."""
        u = self._u / max(1.0, shape.half / self._rest.half)
        v = self._v - min(0.0, shape.top - self._rest.top)
        _, bottom = self._rest.edges(u)
        covers = np.clip((bottom - v) / self._soft + 0.5, 0, 1)
        # Rounded lips stand out and shade what is behind them.
        light = 1 - SMILE * mouth.rounding * (0.8 - 0.45 * np.clip((self._v - upper) / 0.1, 0, 1))
        return np.asarray(_mix(filling, self._sample(u, v) * light[..., None] ** self._inside.shadow, covers))

    def _shape(self, mouth: Mouth) -> Arches:
        rest = self._rest
        rounding = mouth.rounding * (SMILE if self._shows_teeth else 1.0)
        inwards = min(ROUND, MOST_ROUND / rest.half) * rounding
        width = 1 + SPREAD * (mouth.width - 0.5) - inwards - 0.07 * mouth.openness
        gap = DROP * mouth.openness + POUT * rounding
        # Corners travel along the line of the lips, and down with the jaw.
        corner = 0.8 * rest.line * (1 - width**2) + CORNER_SHARE * gap
        corner += 0.6 * rounding * (rest.line - corner)
        # Rounded lips close over the teeth, the lower one more, and open only in their middle.
        return Arches(
            half=rest.half * width,
            corner=corner,
            line=rest.line,
            above=rest.above * (1 - 0.7 * rounding) + UPPER_SHARE * gap,
            below=rest.below * (1 - 0.9 * rounding) + (1 - UPPER_SHARE) * gap,
            bow=1 - 0.25 * mouth.openness + 0.4 * rounding * (1 - mouth.openness),
        )

    def _sideways(self, shape: Arches) -> Array:
        """Displacement along the mouth: of the lips in proportion, of the cheeks less and less."""
        u, v = self._u, self._v
        lips = u * (1 - self._rest.half / shape.half)
        cheeks = np.sign(u) * (shape.half - self._rest.half) * fade(np.abs(u), shape.half, shape.half + CHEEK)
        # Beside the nose the cheeks move along far up, below it only the lip.
        above = NOSE - 0.06 + 0.14 * (1 - fade(np.abs(u), 0.25, 0.5))
        rows = fade((np.minimum(shape.top, 0) - v) / above, 0.0, 1.0) * fade(v - shape.bottom, 0.1, 0.5)
        return np.asarray(np.where(np.abs(u) < shape.half, lips, cheeks) * rows, np.float32)

    def _sample(self, u: Array, v: Array) -> NDArray[np.uint8]:
        points = np.stack([u, v], axis=-1) @ self._turn.T.astype(np.float32) + self._middle.astype(np.float32)
        return self.region.sample(points[..., 0], points[..., 1])


class _Inside:
    """Colours of a mouth's inside, in the light of its picture. `shadow`: powers by which a shadow darkens each."""

    def __init__(self, lab: NDArray[np.float32]) -> None:
        rows = slice(round((0.45 + Ruler.ORIGIN) * Ruler.SCALE), round((0.8 + Ruler.ORIGIN) * Ruler.SCALE))
        columns = slice(round((Ruler.ORIGIN - 0.6) * Ruler.SCALE), round((Ruler.ORIGIN + 0.6) * Ruler.SCALE))
        skin = np.median(cv2.cvtColor(lab[rows, columns], cv2.COLOR_Lab2RGB).reshape(-1, 3), axis=0) * 255
        light = np.clip(skin / LIGHT_SKIN, 0.2, 1.15)
        # Light and skin cannot be told apart: half of the colour is taken for the light's.
        light = (light + light.mean()) / 2
        colours = np.array([DARK, TONGUE, TEETH], np.float32) * light
        self.shadow = WARM
        if np.ptp(skin) < 2:  # a grey picture
            self.shadow = np.ones(3)
            colours = np.repeat(colours @ np.array([[0.299], [0.587], [0.114]]), 3, axis=1)
        self._dark, self._tongue, self._teeth = colours

    def paint(self, u: Array, v: Array, upper: Array, lower: Array, shape: Arches, teeth: float) -> Array:
        """(rows, columns, 3) for every pixel; only what is between the lips will be seen."""
        gap = shape.gap
        t = u / shape.half
        depth = np.clip((v - upper) / np.maximum(lower - upper, 1e-3), 0, 1)
        colour = self._dark * (0.75 + 0.5 * depth)[..., None]
        # The tongue lies on the floor, in shadow towards the throat.
        floor = shape.bottom - 0.02
        tall = 0.42 * gap
        tongue = np.square(t / 0.72) + np.square((v - floor) / max(tall, 1e-3))
        seen = fade(tongue, 0.3, 1.15) * float(fade(np.array(-gap), -0.28, -0.12))
        lit = 0.45 + 0.55 * fade(tongue, 0.1, 1.0)
        colour = _mix(colour, self._tongue * lit[..., None], seen)
        if teeth:
            colour = _mix(colour, *self._upper_teeth(u, v, upper, shape, min(teeth * gap, 0.105)))
        return np.asarray(colour)

    def _upper_teeth(self, u: Array, v: Array, upper: Array, shape: Arches, long: float) -> tuple[Array, Array]:
        """Colour and coverage: a row of teeth under the upper lip, narrower ones at the sides, in its shadow."""
        place = np.abs(u) / 0.135  # in front teeth
        within = np.abs(place % 1 - 0.5) * 2  # 0 in the middle of a tooth, 1 between two
        bottom = upper + long * (1 - 0.1 * within**4) * np.sqrt(np.clip(1 - (u / (0.95 * shape.half)) ** 2, 0, 1))
        soft = 0.02
        covers = np.clip((bottom - v) / soft + 0.5, 0, 1) * fade(np.abs(u) / shape.half, 0.45, 0.92)
        below_lip = np.clip((v - upper) / 0.06, 0, 1)
        shade = (
            (0.72 + 0.28 * below_lip) * (1 - 0.4 * np.clip(np.abs(u) / shape.half, 0, 1) ** 2) * (1 - 0.16 * within**6)
        )
        return np.asarray(self._teeth * shade[..., None]), np.asarray(covers)


DARK, TONGUE, TEETH = (46, 16, 15), (140, 66, 63), (236, 223, 204)
"""RGB, beside LIGHT_SKIN."""
LIGHT_SKIN = np.array([222.0, 176.0, 150.0])


WARM = np.array([1.0, 1.4, 1.55])
"""Shadows in a mouth are red: how much faster than red green and blue fall off in them."""


def _mix(below: Array, above: Array, coverage: Array) -> Array:
    return np.asarray(below + (above - below) * coverage[..., None])
