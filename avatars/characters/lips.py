"""The shape of a mouth: from flat lips to rounded ones, from closed to wide open."""

from __future__ import annotations

from dataclasses import dataclass

from avatars.characters.look import MIDDLE, Look
from avatars.engines.poses import Mouth

DrawnPoint = tuple[float, float]


def between(one: DrawnPoint, other: DrawnPoint, share: float) -> DrawnPoint:
    return one[0] + (other[0] - one[0]) * share, one[1] + (other[1] - one[1]) * share


@dataclass(frozen=True)
class Arch:
    """A symmetric curve over the middle of the face: its left end, and the points of the cubic curves from there to the
    middle (three each, the last one in the middle)."""

    corner: DrawnPoint
    half: tuple[DrawnPoint, ...]

    @property
    def start(self) -> str:
        return f"M{self.corner[0]:.2f} {self.corner[1]:.2f}"

    @property
    def across(self) -> str:
        """From the left end to the right one."""
        return self._curve([*self.half, *self._mirrored((*self.half[-2::-1], self.corner))])

    @property
    def back(self) -> str:
        """From the right end to the left one."""
        return self._curve([*self._mirrored(self.half[:-1]), *self.half[::-1], self.corner])

    @property
    def to_right(self) -> str:
        """A straight line to the right end."""
        ((x, y),) = self._mirrored((self.corner,))
        return f"L{x:.2f} {y:.2f}"

    @property
    def to_left(self) -> str:
        return f"L{self.corner[0]:.2f} {self.corner[1]:.2f}"

    @staticmethod
    def _mirrored(points: tuple[DrawnPoint, ...]) -> list[DrawnPoint]:
        return [(2 * MIDDLE - x, y) for x, y in points]

    @staticmethod
    def _curve(points: list[DrawnPoint]) -> str:
        form = "C" + "%.2f %.2f " * 3
        return "".join(form % (*points[i], *points[i + 1], *points[i + 2]) for i in range(0, len(points), 3))


@dataclass(frozen=True)
class Lips:
    """The outlines of a mouth, and the measures others need."""

    upper: str
    lower: str
    inside: str
    seam: str
    half: float  # half the width between the corners
    corner: float  # height of the corners
    gap: float  # between the lips, in the middle
    top: float
    bottom: float
    low: float  # thickness of the lower lip

    @classmethod
    def shaped(cls, look: Look, mouth: Mouth) -> Lips:
        """Between a lens (flat lips, pointed corners) and an oval (rounded lips)."""
        o, r = mouth.openness, mouth.rounding
        spread = (mouth.width - 0.5) * 2.0
        half = (look.mouth_wide + 9.0 * spread * (1 - r)) * (1 - 0.50 * r) * (1 - 0.10 * o)
        smile = look.smile * (1 - 0.75 * r) * (1 - 0.35 * o) + 1.6 * max(0.0, spread)
        gap = 36.0 * o**0.9 * (1 - 0.12 * r)
        top, bottom = look.mouth_y - gap * 0.20, look.mouth_y + gap * 0.80
        dip = 2.6 * (1 - min(1.0, o * 6)) * (1 - r)
        oval = max(r, 0.30 * o)
        corner = look.mouth_y - smile + 5.0 * o
        corner += (top + 0.5 * gap - corner) * 0.6 * r
        left = (MIDDLE - half, corner)
        right_of = MIDDLE - half

        inner_top = Arch(
            left,
            (
                between(
                    (right_of + half * 0.55, corner + (top - corner) * 1.26),
                    (right_of, corner + (top - corner) * 0.6),
                    oval,
                ),
                between((MIDDLE - half * 0.20, top - 0.6), (MIDDLE - half * 0.6, top), oval),
                (MIDDLE, top + dip),
            ),
        )
        inner_bottom = Arch(
            left,
            (
                between(
                    (right_of + half * 0.34, corner + (bottom - corner) * 0.86),
                    (right_of, corner + (bottom - corner) * 0.6),
                    oval,
                ),
                between((MIDDLE - half * 0.42, bottom), (MIDDLE - half * 0.6, bottom), oval),
                (MIDDLE, bottom + dip),
            ),
        )
        full = look.lips * (1 + 0.30 * r - 0.12 * max(0.0, spread) - 0.12 * o)
        up, low = 7.2 * full, 9.4 * full
        out = 2.6 * look.lips * (1 + 0.9 * r)
        peak, rim = half * 0.30, top - up
        outer_top = Arch(
            (right_of - out, corner),
            (
                between(
                    (right_of + half * 0.30, corner - up * 0.62 + (top - look.mouth_y) * 0.7),
                    (right_of - out, corner + (rim - corner) * 0.6),
                    oval,
                ),
                (MIDDLE - peak * 1.7, rim - 0.6),
                (MIDDLE - peak * 0.8, rim - 0.4),
                (MIDDLE - peak * 0.35, rim - 0.2),
                (MIDDLE - 1.5, rim + up * 0.28),
                (MIDDLE, rim + up * 0.28),
            ),
        )
        fall = bottom + low - corner
        outer_bottom = Arch(
            (right_of - out * 0.8, corner),
            (
                between(
                    (right_of + half * 0.10 - out, corner + fall * 0.80), (right_of - out, corner + fall * 0.6), oval
                ),
                between((MIDDLE - half * 0.50, bottom + low), (MIDDLE - half * 0.66, bottom + low), oval),
                (MIDDLE, bottom + low),
            ),
        )
        return cls(
            upper=f"{outer_top.start}{outer_top.across}{inner_top.to_right}{inner_top.back}Z",
            lower=f"{outer_bottom.start}{inner_bottom.to_left}{inner_bottom.across}{outer_bottom.to_right}{outer_bottom.back}Z",
            inside=f"{inner_top.start}{inner_top.across}{inner_bottom.back}Z",
            seam=f"{inner_top.start}{inner_top.across}",
            half=half,
            corner=corner,
            gap=gap,
            top=top,
            bottom=bottom,
            low=low,
        )
