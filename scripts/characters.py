"""Draws the characters anew for the page and the documentation: `python -m scripts.characters`.

The portraits of the page are the characters at rest, so that the page can turn from the picture to the moving face.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from avatars.characters import CHARACTERS, get_artist
from avatars.engines.poses import REST, Eyes, Head, Mouth

ROOT = Path(__file__).resolve().parent.parent
PORTRAITS = ROOT / "static" / "src" / "portraits"
SHEET = ROOT / "docs" / "images" / "characters.webp"

POSES: dict[str, tuple[Head, Eyes, Mouth]] = {
    "idle": REST,
    "blink": (Head(), Eyes(lids=1.0), Mouth()),
    "M": (Head(), Eyes(), Mouth()),
    "AH": (Head(), Eyes(), Mouth(openness=1.0)),
    "EE": (Head(), Eyes(), Mouth(openness=0.35, width=1.0)),
    "OO": (Head(), Eyes(), Mouth(openness=0.3, rounding=1.0)),
    "EH": (Head(), Eyes(), Mouth(openness=0.5)),
    "left": (Head(yaw=-1.0), Eyes(gaze_x=-0.5), Mouth()),
    "right": (Head(yaw=1.0), Eyes(gaze_x=0.5), Mouth()),
}
"""What the sheet shows of each."""

SIDE, LABEL, GAP = 320, 34, 8


def portrait(key: str) -> Image.Image:
    return Image.fromarray(get_artist(key).render(*REST, width=1024, height=1024))


def contact_sheet() -> Image.Image:
    """A row for each character, a column for each pose; the mouth positions are close-ups."""
    columns, rows = len(POSES), len(CHARACTERS)
    sheet = Image.new("RGB", (columns * (SIDE + GAP) + GAP, LABEL + rows * (SIDE + GAP)), "#fbfaf8")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
    for column, (label, pose) in enumerate(POSES.items()):
        x = GAP + column * (SIDE + GAP)
        pen.text((x + SIDE / 2, LABEL / 2), label, fill="#3a3a3a", font=font, anchor="mm")
        for row, key in enumerate(CHARACTERS):
            picture = get_artist(key).render(*pose, width=640, height=640)
            tile = Image.fromarray(_near(picture) if label.isupper() else picture)
            sheet.paste(tile.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, LABEL + row * (SIDE + GAP)))
    return sheet


def _near(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The face alone."""
    return picture[120:470, 145:495]


def main() -> None:
    for key in CHARACTERS:
        portrait(key).save(PORTRAITS / f"{key}.webp", quality=92, method=6)
    contact_sheet().save(SHEET, quality=86, method=6)


if __name__ == "__main__":
    main()
