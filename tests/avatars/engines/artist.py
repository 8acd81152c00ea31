"""A face for tests: a few ellipses that move as a face does, drawn in a millisecond."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from avatars.engines.poses import Eyes, Head, Mouth

SHIFT = 4  # bits of a pixel's fraction


@cache
def background(width: int, height: int) -> NDArray[np.uint8]:
    """One colour. Filling it in anew for each of thousands of pictures takes most of their time."""
    return np.full((height, width, 3), (70, 110, 120), dtype=np.uint8)


@dataclass
class RoundFace:
    """An `Artist`. Counts what it renders."""

    key: str = "round face 1"
    overlapping: bool = False
    rendered: int = 0

    def render(self, head: Head, eyes: Eyes, mouth: Mouth, *, width: int, height: int) -> NDArray[np.uint8]:
        self.rendered += 1
        picture = background(width, height).copy()
        unit = height / 512
        x = width / 2 + 12 * unit * head.yaw
        y = 240 * unit - 10 * unit * head.pitch

        def oval(cx: float, cy: float, rx: float, ry: float, colour: tuple[int, int, int]) -> None:
            one = 1 << SHIFT
            centre = (round(cx * one), round(cy * one))
            axes = (round(max(0.0, rx) * one), round(max(0.0, ry) * one))
            cv2.ellipse(picture, centre, axes, 0, 0, 360, colour, -1, cv2.LINE_AA, SHIFT)

        breath = 3 * unit * head.breath
        oval(width / 2, 560 * unit - breath, 190 * unit, 170 * unit, (60, 70, 130))
        oval(x, y, 125 * unit, 160 * unit, (236, 190, 160))
        for side in (-1, 1):
            ex, ey = x + (side * 48 + 4 * head.yaw) * unit, y - 40 * unit
            oval(ex, ey, 22 * unit, 14 * unit * (1 - eyes.lids) + 1.5 * unit, (250, 250, 250))
            if eyes.lids < 0.9:
                oval(ex + 9 * unit * eyes.gaze_x, ey - 5 * unit * eyes.gaze_y, 8 * unit, 8 * unit, (50, 40, 40))
            oval(ex, ey - (30 + 8 * eyes.brows) * unit, 26 * unit, 4 * unit, (90, 60, 40))
        wide = (34 + 28 * (mouth.width - 0.5) - 16 * mouth.rounding) * unit
        at = y + (-40 if self.overlapping else 75) * unit
        oval(x + 5 * head.yaw * unit, at, wide + 6 * unit, (9 + 28 * mouth.openness + 4 * mouth.rounding) * unit,
             (190, 80, 80))  # fmt: skip
        oval(x + 5 * head.yaw * unit, at, wide, (1 + 26 * mouth.openness) * unit, (70, 20, 25))
        return picture
