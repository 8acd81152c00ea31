"""Colours and proportions of a face."""

from __future__ import annotations

from dataclasses import dataclass

MIDDLE = 256.0
"""Where left and right meet."""


@dataclass(frozen=True)
class Look:
    """Colours and proportions of a face (units of the drawing)."""

    light: str
    skin: str
    shade: str
    deep: str  # lines, nostrils
    blush: str
    lip: str
    lip_light: str
    iris: str
    iris_light: str
    brow: str
    lash: str
    lid: str  # the edge of the upper lid
    eye_apart: float = 37.0  # from the middle of the face to the middle of an eye
    eye_y: float = 212.0
    eye_wide: float = 21.5
    eye_up: float = 12.6
    eye_down: float = 7.4
    eye_tilt: float = 2.0  # outer corner higher than the inner one
    iris_radius: float = 11.8
    lash_wing: float = 1.0  # 0: none
    brow_y: float = 183.0
    brow_thick: float = 6.0
    brow_arch: float = 5.0
    mouth_y: float = 287.0
    mouth_wide: float = 27.5
    lips: float = 1.0  # fullness
    smile: float = 6.6
    mouth_lift: float = 6.0  # how far the mouth stands out from the egg of the head
    jaw_y: float = 282.0  # the outline below goes down with the chin
    nose_y: float = 259.0
    nose_wide: float = 14.0
    jaw: str = (
        "M178 186C177 132 204 94 256 94C308 94 335 132 334 186C334 214 331 242 323 266C315 292 296 316 276 329"
        "C263 337 249 337 236 329C216 316 197 292 189 266C181 242 178 214 178 186Z"
    )
    neck_wide: float = 34.0
    ears: bool = True
    bags: float = 0.2  # lines under the eyes
    folds: float = 0.35  # how deep the lines from nose to mouth are
