"""Eyes and brows: the lids are the picture's own skin, drawn down over the eye; gaze and brows shift what is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from avatars.engines.faces.framing import Landmarks
from avatars.engines.faces.marks import Ruler
from avatars.engines.faces.region import Region, fade
from avatars.engines.poses import Eyes

HALF_WIDTH = 0.25
"""Of an eye, in ipd, as all measures here; y grows downwards from the pupil."""
LASHES = 0.03
BROW = -0.3
BROW_DARKER = 0.82
"""Than the skin under it."""
BESIDE = (-0.14, 0.0, 0.14)
ENOUGH_SKIN = 0.1
"""Between brow and eye, for a lid."""
TOP, BOTTOM = -0.62, 0.24
"""What eyes and brows may change, seen from the line of the eyes."""
GAZE_X, GAZE_Y = 0.05, 0.03
RAISE, FROWN = 0.06, 0.035


@dataclass(frozen=True)
class Opening:
    """One eye: its pupil's x, the rows of upper and lower lid above and below it, and where its brow begins, at BESIDE
    from the nose outwards in the picture's order."""

    x: float
    y: float
    upper: float
    lower: float
    brows: tuple[float, ...]


class EyeArea:
    """Both eyes of a framed face."""

    def __init__(self, picture: NDArray[np.uint8], marks: Landmarks) -> None:
        self._ruler = marks.ruler
        self.region = Region.of(marks.ruler, picture, x=(-0.95, 0.95), y=(TOP, BOTTOM))
        lab = marks.ruler.upright(picture)
        self._eyes = [_opening(lab, x) for x in (-0.5, 0.5)]

    def paint(self, eyes: Eyes) -> NDArray[np.uint8]:
        """The region with `eyes` as they are asked for."""
        x, y = self.region.x, self.region.y
        shift_x, shift_y = np.zeros_like(x), np.zeros_like(y)
        for eye in self._eyes:
            near = _bell((x - eye.x) / 0.27) * _bell((y - eye.y) / 0.2)
            shift_x += near * GAZE_X * eyes.gaze_x
            shift_y -= near * GAZE_Y * eyes.gaze_y
            brow = _bell((x - eye.x) / 0.42) * _bell((y - eye.y - BROW) / 0.24)
            inner = _bell((x - 0.45 * eye.x) / 0.36) * _bell((y - eye.y - BROW) / 0.24)
            shift_y += -brow * RAISE * max(eyes.brows, 0.0) + inner * FROWN * max(-eyes.brows, 0.0)
            shift_x -= inner * np.sign(eye.x) * FROWN * max(-eyes.brows, 0.0)
        below = self.region.sample(x - shift_x, y - shift_y)
        if eyes.lids <= 0:
            return below
        shut, shadow, lent = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
        lender = y.copy()
        for eye in self._eyes:
            self._close(eye, eyes.lids, shift_y, shut, shadow)
            self._lend(eye, lender, lent)
        lids = self.region.sample(x - shift_x, y - shift_y)
        if lent.any():
            lids = lent[..., None] * self.region.sample(x, lender) + (1 - lent)[..., None] * lids
        dark = (1 - shadow)[..., None]
        mixed = shut[..., None] * lids + (1 - shut)[..., None] * below
        return np.asarray(np.clip(mixed * dark + 0.5, 0, 255).astype(np.uint8))

    def _close(
        self,
        eye: Opening,
        lids: float,
        shift_y: NDArray[np.float32],
        shut: NDArray[np.float32],
        shadow: NDArray[np.float32],
    ) -> None:
        """Write the lid of one eye into the fields: `shift_y` of the skin, `shut` where the lid covers, `shadow`."""
        x, y = self.region.x - eye.x, self.region.y - eye.y
        arch = np.clip(1 - (x / HALF_WIDTH) ** 2, 0, 1)
        upper, lower = eye.upper * arch, eye.lower * arch
        drop = lids * (lower - upper)
        edge = upper + drop
        # From the brow, where nothing moves, to the lashes, which move as they are; the fold between them unfolds, and
        # where there is little skin it is stretched evenly.
        brow = _brow_line(eye, x, upper)
        long = np.maximum(edge - LASHES - brow, 1e-3)
        part = np.clip((y - brow) / long, 0, 1)
        unfolds = np.clip(0.85 * long / np.maximum(drop, 1e-3), 1.0, 1.7)
        shift_y[:] = np.where(arch > 0, shift_y * (1 - part) + drop * part**unfolds, shift_y)
        soft = 1.2 / self._ruler.ipd
        covers = np.clip((edge - y) / soft + 0.5, 0, 1) * (arch > 0)
        np.maximum(shut, covers, out=shut)
        line = np.exp(-(((y - edge + 0.4 * LASHES) / (0.5 * LASHES)) ** 2)) * np.sqrt(arch)
        np.maximum(shadow, 0.45 * lids * line, out=shadow)

    def _lend(self, eye: Opening, lender: NDArray[np.float32], lent: NDArray[np.float32]) -> None:
        """Where a brow or the frame of glasses leaves too little skin above the eye to draw down, that under the eye is
        lent: write its rows into `lender`, how much of it is taken into `lent`."""
        x, y = self.region.x - eye.x, self.region.y - eye.y
        arch = np.clip(1 - (x / HALF_WIDTH) ** 2, 0, 1)
        upper, lower = eye.upper * arch, eye.lower * arch
        brow = _brow_line(eye, x, upper)
        little = 1 - np.clip((upper - LASHES - brow) / ENOUGH_SKIN, 0, 1)
        inside = np.clip((y - brow) / 0.05, 0, 1) * (y < lower + 0.05) * np.sqrt(arch)
        lender[:] = np.where(inside > 0, eye.lower + 0.13 + 0.4 * (lower - y), lender)
        np.maximum(lent, little * inside, out=lent)


def _brow_line(eye: Opening, x: NDArray[np.float32], upper: NDArray[np.float32]) -> NDArray[np.float32]:
    """The row in which the brow begins, at `x` beside the pupil; above the upper lid in any case."""
    return np.asarray(np.minimum(np.interp(x, BESIDE, eye.brows), upper - LASHES - 0.02), np.float32)


def _opening(lab: NDArray[np.float32], x: float) -> Opening:
    """How far the eye at `x` is open: the dark of iris and lashes, down its middle."""
    scale, origin = Ruler.SCALE, Ruler.ORIGIN
    columns = slice(round((x - 0.06 + origin) * scale), round((x + 0.06 + origin) * scale))
    middle = round(origin * scale)
    light = cv2.GaussianBlur(lab[..., 0], (0, 0), 1.0)[:, columns].mean(axis=1)
    dark = float(light[middle - 3 : middle + 4].mean())
    reach = round(0.24 * scale)
    above, below = light[middle - reach : middle][::-1], light[middle : middle + reach]
    # Up to the skin of the lid, which may be a narrow strip under the brow, and from there down to the lashes. Shine
    # in the eye is lower down.
    iris = round(0.06 * scale)
    skin = _without_lashes(above)[iris:]
    brightest = np.maximum.accumulate(skin)
    ended = (skin < 0.92 * brightest) & (brightest > 1.15 * dark)
    skin = skin[: max(int(ended.argmax()), 1)] if ended.any() else skin
    lid = iris + int(np.flatnonzero(skin > 0.95 * skin.max())[-1])
    upper = (lid - int(np.argmax(above[lid::-1] < (dark + above[lid]) / 2)) + 1) / scale
    lower = int(np.argmax(below > (dark + below.max()) / 2)) / scale
    opened = -float(np.clip(upper, 0.07, 0.16)) + 0.5 * LASHES
    brows = tuple(_brow(lab, x + beside, opened - LASHES) for beside in BESIDE)
    return Opening(x, 0.0, opened, float(np.clip(lower, 0.06, 0.13)), brows)


def _brow(lab: NDArray[np.float32], x: float, lid: float) -> float:
    """The row in which a brow begins above the skin of the lid, BROW for one further up or none that is seen."""
    scale, origin = Ruler.SCALE, Ruler.ORIGIN
    columns = slice(round((x - 0.05 + origin) * scale), round((x + 0.05 + origin) * scale))
    rows = slice(round((BROW + origin) * scale), round((lid + origin) * scale) + 1)
    light = cv2.GaussianBlur(lab[..., 0], (0, 0), 1.0)[rows, columns].mean(axis=1)[::-1]
    fallen = light < BROW_DARKER * np.maximum.accumulate(light)
    return lid - float(fallen.argmax() - 1) / scale if fallen.any() else BROW


def _without_lashes(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows,) with dark lines filled that are narrower than a brow."""
    return np.asarray(cv2.morphologyEx(light.reshape(-1, 1), cv2.MORPH_CLOSE, np.ones((7, 1), np.uint8))[:, 0])


def _bell(value: NDArray[Any]) -> NDArray[np.float32]:
    """1 at 0, smoothly to 0 at -1 and 1."""
    return np.asarray(fade(np.abs(value), 0.0, 1.0))
