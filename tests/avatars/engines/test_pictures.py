"""A picture for the documentation: what each character's mouth makes of five vowels that it only hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from avatars.characters import CHARACTERS, get_artist
from avatars.engines.pose_plan import MOUTHS, nearest_mouth
from avatars.engines.poses import Eyes, Head, Mouth
from tests.avatars.engines.speech import envelope, mouths, say

pytestmark = pytest.mark.pictures

TARGET = Path(__file__).resolve().parents[3] / "docs" / "images" / "vowels.webp"
VOWELS = ("a", "e", "i", "o", "u")
SIDE, CUT = 512, (116, 100, 396, 380)  # of the picture: the face
CELL, HEADING = 240, 44


def heard(vowel: str) -> Mouth:
    """The kept mouth in the middle of a long vowel, spoken by espeak-ng."""
    sound = say(f"[[{vowel}:{vowel}:]]", "de+f2", words_a_minute=90)
    loud = np.flatnonzero(envelope(sound) > 0.3 * envelope(sound).max())
    return MOUTHS[nearest_mouth(mouths(sound)[int(loud[len(loud) // 2])])]


def test_picture_of_vowels() -> None:
    shapes = [Mouth(), *(heard(vowel) for vowel in VOWELS)]
    sheet = Image.new("RGB", (CELL * len(shapes), HEADING + CELL * len(CHARACTERS)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(26)
    for column, name in enumerate(("silence", *VOWELS)):
        draw.text((CELL * column + CELL / 2, HEADING / 2), name, fill="#333", font=font, anchor="mm")
        for row, key in enumerate(CHARACTERS):
            face = get_artist(key).render(Head(), Eyes(), shapes[column], width=SIDE, height=SIDE)
            cell = Image.fromarray(face).crop(CUT).resize((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(cell, (CELL * column, HEADING + CELL * row))
    sheet.save(TARGET, quality=86, method=6)
    assert TARGET.stat().st_size < 400_000
