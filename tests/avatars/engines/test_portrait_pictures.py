"""The contact sheet of a portrait in docs/images: `pytest -m pictures` draws it anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from avatars.engines.faces.artist import PortraitArtist
from avatars.engines.faces.marks import MarksByHand
from avatars.engines.poses import Eyes, Head, Mouth
from tests.avatars.engines import portraits

SHEET = Path(__file__).parents[3] / "docs/images/portrait.webp"
ENGINE_PICTURE = Path(__file__).parents[3] / "static/src/engines/portrait.webp"
SIZE = 320
FACE, NEAR_FACE = (86, 70, 426, 410), (36, 20, 476, 460)
POSES = {
    "rest": (Head(), Eyes(), Mouth()),
    "half open": (Head(), Eyes(), Mouth(0.45)),
    "ah": (Head(), Eyes(), Mouth(0.95)),
    "ee": (Head(), Eyes(), Mouth(0.25, 1.0)),
    "oo": (Head(), Eyes(), Mouth(0.15, 0.15, 1.0)),
    "oh": (Head(), Eyes(), Mouth(0.6, 0.3, 0.6)),
    "blink": (Head(), Eyes(lids=1.0), Mouth()),
    "left": (Head(yaw=-1.0, roll=-0.5), Eyes(gaze_x=-0.7), Mouth()),
    "right": (Head(yaw=1.0, roll=0.5), Eyes(gaze_x=0.7), Mouth()),
    "listening": (Head(pitch=0.4), Eyes(brows=0.7), Mouth()),
}


@pytest.mark.pictures
def test_the_contact_sheet_of_a_portrait() -> None:
    font = ImageFont.load_default(18)
    columns = 5
    lines = len(POSES) // columns
    pictures = {portraits.SMILING: FACE, portraits.CLOSED: FACE, portraits.GLASSES: NEAR_FACE}
    sheet = Image.new("RGB", (columns * SIZE, len(pictures) * lines * SIZE))
    draw = ImageDraw.Draw(sheet)
    for block, (path, cut) in enumerate(pictures.items()):
        artist = PortraitArtist(path, MarksByHand())
        for number, (name, pose) in enumerate(POSES.items()):
            at = (number % columns * SIZE, (block * lines + number // columns) * SIZE)
            # Drawn as large as in a room, cut to the face.
            picture = Image.fromarray(artist.render(*pose, width=512, height=512)).crop(cut)
            sheet.paste(picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS), at)
            draw.text((at[0] + 10, at[1] + 8), name, fill="white", font=font, stroke_width=2, stroke_fill="black")
    sheet.save(SHEET, quality=85, method=6)
    assert SHEET.stat().st_size < 500_000


@pytest.mark.pictures
def test_the_picture_where_an_engine_is_chosen() -> None:
    artist, picture = PortraitArtist(portraits.CLOSED, MarksByHand()), Image.new("RGB", (192, 192))
    for number, name in enumerate(("rest", "half open", "oo", "ah")):
        face = Image.fromarray(artist.render(*POSES[name], width=512, height=512)).crop(FACE)
        picture.paste(face.resize((96, 96), Image.Resampling.LANCZOS), (number % 2 * 96, number // 2 * 96))
    picture.save(ENGINE_PICTURE, quality=88, method=6)
    assert ENGINE_PICTURE.stat().st_size < 20_000
