"""Which poses are kept ready, and which of them comes nearest to a pose that is wanted.

Heads lie on a grid, mouths are openness x lips, eyes are a list of what people do with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatars.engines.poses import Eyes, Head, Mouth

OPENNESS = (0.0, 0.12, 0.28, 0.46, 0.7, 1.0)
LIPS = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""One axis from protruded ("oo") over rest to spread ("ee"): lips cannot do both."""


def lips_of(mouth: Mouth) -> float:
    """Where a mouth stands on the axis of the lips, -1 to 1."""
    spread = max(0.0, 2.0 * mouth.width - 1.0)
    return spread if spread > mouth.rounding else -mouth.rounding


def mouth_of(openness: float, lips: float) -> Mouth:
    return Mouth(openness, 0.5 + (0.5 if lips > 0 else 0.35) * lips, max(0.0, -lips))


MOUTHS = tuple(mouth_of(openness, lips) for openness in OPENNESS for lips in LIPS)

EYES = (
    Eyes(),
    Eyes(brows=0.6),
    Eyes(gaze_x=-0.35),
    Eyes(gaze_x=0.35),
    Eyes(gaze_x=-0.7, gaze_y=0.15),
    Eyes(gaze_x=0.7, gaze_y=0.15),
    Eyes(gaze_x=-0.5, gaze_y=0.6, brows=0.4),
    Eyes(gaze_x=0.5, gaze_y=0.6, brows=0.4),
    Eyes(gaze_y=-0.5),
    Eyes(lids=0.5),
    Eyes(lids=1.0),
    Eyes(lids=1.0, brows=0.6),
)

OUTERMOST_EYES = (
    Eyes(brows=0.6),
    Eyes(gaze_x=-0.7, gaze_y=0.15),
    Eyes(gaze_x=0.7, gaze_y=0.15),
    Eyes(gaze_x=0.5, gaze_y=0.6, brows=0.4),
    Eyes(lids=1.0),
)
"""Whatever changes in any of EYES changes in one of these."""

YAW, PITCH = 0.24, 0.24
"""How far the head turns and nods. Beyond this the steps between poses would show."""


@dataclass(frozen=True)
class Grid:
    """Poses of the head: `columns` turns of the head from left to right, `rows` nods from down to up."""

    columns: int
    rows: int

    def __len__(self) -> int:
        return self.columns * self.rows

    def heads(self) -> list[Head]:
        """All poses, a column at a time. The body breathes in as the head rises, the head tilts as it turns."""
        return [
            Head(yaw=yaw, pitch=pitch, roll=0.8 * yaw, breath=pitch / PITCH)
            for yaw in np.linspace(-YAW, YAW, self.columns).tolist()
            for pitch in np.linspace(-PITCH, PITCH, self.rows).tolist()
        ]

    def between(self, x: float, y: float) -> tuple[int, int, float]:
        """Two neighbouring poses and the weight of the second that come nearest to the point (x, y), each -1 to 1.

        The point is moved onto the nearest of the sides and diagonals of its cell, at most a fifth of a step away, so
        that two pictures suffice where a bilinear blend would take four.
        """
        column, u = self._cell(x, self.columns)
        row, v = self._cell(y, self.rows)
        side = abs(v - 0.5), abs(u - 0.5)  # the further from the middle, the nearer to a side
        to_side = 0.5 - max(side)
        rising, falling = abs(u - v), abs(u + v - 1.0)  # distances to the diagonals, times the square root of two
        if to_side <= 0.7071 * min(rising, falling):
            if side[0] >= side[1]:
                row += round(v)
                return self._pair(column, row, column + 1, row, u)
            column += round(u)
            return self._pair(column, row, column, row + 1, v)
        if rising <= falling:
            return self._pair(column, row, column + 1, row + 1, (u + v) / 2)
        return self._pair(column, row + 1, column + 1, row, (u + 1.0 - v) / 2)

    def _cell(self, position: float, count: int) -> tuple[int, float]:
        if count == 1:
            return 0, 0.0
        place = (min(1.0, max(-1.0, position)) + 1.0) / 2.0 * (count - 1)
        cell = min(int(place), count - 2)
        return cell, place - cell

    def _pair(self, column_a: int, row_a: int, column_b: int, row_b: int, weight: float) -> tuple[int, int, float]:
        last_column, last_row = self.columns - 1, self.rows - 1
        return (
            min(column_a, last_column) * self.rows + min(row_a, last_row),
            min(column_b, last_column) * self.rows + min(row_b, last_row),
            weight,
        )


def nearest_mouth(mouth: Mouth) -> int:
    """Which of MOUTHS comes nearest."""
    row = min(range(len(OPENNESS)), key=lambda i: abs(OPENNESS[i] - mouth.openness))
    lips = lips_of(mouth)
    return row * len(LIPS) + min(range(len(LIPS)), key=lambda i: abs(LIPS[i] - lips))


def nearest_eyes(eyes: Eyes) -> int:
    """Which of EYES comes nearest. Lids count most: a blink must not be lost for a glance."""

    def distance(kept: Eyes) -> float:
        seen = 1.0 - eyes.lids  # behind closed lids the gaze does not count
        return (
            8.0 * (kept.lids - eyes.lids) ** 2
            + seen * ((kept.gaze_x - eyes.gaze_x) ** 2 + (kept.gaze_y - eyes.gaze_y) ** 2)
            + 0.7 * (kept.brows - eyes.brows) ** 2
        )

    return min(range(len(EYES)), key=lambda i: distance(EYES[i]))


GRIDS = (Grid(11, 7), Grid(9, 7), Grid(9, 5), Grid(7, 5), Grid(5, 3))
"""Finest first: the finest that fits into a file of the wanted size is taken. Odd, so that rest is among the poses."""
