"""Draws the characters anew for the page and the documentation: `python -m scripts.characters`.

The portraits of the page are the characters at rest, so that the page can turn from the picture to the moving face.
Beside each lies a short silent clip that begins and ends at rest, for lists and the start page. Needs FFmpeg.
"""

from __future__ import annotations

import math
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from avatars.characters import CHARACTERS, get_artist
from avatars.engines.poses import REST, Eyes, Head, Mouth

ROOT = Path(__file__).resolve().parent.parent
PORTRAITS = ROOT / "static" / "src" / "portraits"
ENGINE_PICTURE = ROOT / "static" / "src" / "engines" / "puppet.webp"
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

# Twice what the room page shows at most.
PORTRAIT_SIDE = 896


CLIP_SIDE, CLIP_FPS, CLIP_SECONDS = 384, 25, 5.0
BLINKS = (0.5, 3.9)
BLINK_LIDS = (0.5, 1.0, 1.0, 0.5)
"""How far the lids are closed in the frames of a blink."""
PHRASE: tuple[tuple[float, Mouth], ...] = (
    (1.00, Mouth()),
    (1.14, Mouth(openness=0.45)),
    (1.28, Mouth(openness=0.25, width=0.9)),
    (1.40, Mouth(openness=0.15)),
    (1.56, Mouth(openness=0.45, rounding=0.9)),
    (1.76, Mouth(openness=0.2, rounding=0.8)),
    (1.90, Mouth()),
    (2.02, Mouth()),
    (2.16, Mouth(openness=0.75)),
    (2.32, Mouth(openness=0.3, width=0.8)),
    (2.44, Mouth(openness=0.08)),
    (2.58, Mouth(openness=0.35, width=1.0)),
    (2.74, Mouth(openness=0.5)),
    (2.86, Mouth()),
    (3.00, Mouth(openness=0.3, rounding=1.0)),
    (3.18, Mouth(openness=0.55)),
    (3.34, Mouth(openness=0.2, width=0.9)),
    (3.54, Mouth()),
)
"""What the mouth does in a clip, by the second: about "Hello, it is good to meet you"."""


def portrait(key: str) -> Image.Image:
    return Image.fromarray(get_artist(key).render(*REST, width=PORTRAIT_SIDE, height=PORTRAIT_SIDE))


def engine_picture() -> Image.Image:
    """The faces of four, for the place where an engine is chosen."""
    picture = Image.new("RGB", (192, 192))
    for number, key in enumerate([*CHARACTERS][:4]):
        face = Image.fromarray(_near(get_artist(key).render(*REST, width=640, height=640)))
        picture.paste(face.resize((96, 96), Image.Resampling.LANCZOS), (number % 2 * 96, number // 2 * 96))
    return picture


# -- Clips ------------------------------------------------------------------------------------------------------------
def pose_at(seconds: float) -> tuple[Head, Eyes, Mouth]:
    """The pose of a clip. At rest at 0 and at CLIP_SECONDS, so that the clip follows on itself and on the portrait."""
    turn = 2.0 * math.pi * seconds / CLIP_SECONDS
    nod = 0.35 * math.exp(-(((seconds - 2.2) / 0.25) ** 2))
    head = Head(
        yaw=0.45 * math.sin(turn),
        pitch=0.12 * math.sin(2.0 * turn) - nod,
        roll=0.3 * math.sin(turn) * math.sin(turn / 2.0),
        breath=0.5 - 0.5 * math.cos(turn),
    )
    since = min((seconds - blink for blink in BLINKS if seconds >= blink), default=math.inf)
    frame = since * CLIP_FPS
    lids = BLINK_LIDS[int(frame)] if frame < len(BLINK_LIDS) else 0.0
    brows = 0.5 * math.sin(math.pi * (seconds - 1.0) / 2.5) ** 2 if 1.0 < seconds < 3.5 else 0.0
    return head, Eyes(lids=lids, brows=brows), mouth_at(seconds)


def mouth_at(seconds: float) -> Mouth:
    for (start, first), (end, then) in pairwise(PHRASE):
        if start <= seconds < end:
            share = 0.5 - 0.5 * math.cos(math.pi * (seconds - start) / (end - start))
            mix = [a + share * (b - a) for a, b in zip(_numbers(first), _numbers(then), strict=True)]
            return Mouth(*mix)
    return Mouth()


def _numbers(mouth: Mouth) -> tuple[float, float, float]:
    return mouth.openness, mouth.width, mouth.rounding


def write_clip(key: str, output: Path) -> None:
    artist = get_artist(key)
    encoder = subprocess.Popen(
        [
            *("ffmpeg", "-hide_banner", "-loglevel", "error", "-y"),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{CLIP_SIDE}x{CLIP_SIDE}", "-r", str(CLIP_FPS), "-i", "-"),
            *("-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryslow", "-crf", "27", "-movflags", "+faststart"),
            *("-colorspace", "bt709", "-vf", "scale=out_color_matrix=bt709"),
            str(output),
        ],
        stdin=subprocess.PIPE,
    )
    assert encoder.stdin is not None
    with encoder.stdin as frames:
        for number in range(round(CLIP_SECONDS * CLIP_FPS)):
            pose = pose_at(number / CLIP_FPS)
            large = Image.fromarray(artist.render(*pose, width=2 * CLIP_SIDE, height=2 * CLIP_SIDE))
            frames.write(large.resize((CLIP_SIDE, CLIP_SIDE), Image.Resampling.LANCZOS).tobytes())
    if encoder.wait(60):
        raise SystemExit(f"FFmpeg could not write {output}.")


# -- The sheet --------------------------------------------------------------------------------------------------------
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
        portrait(key).save(PORTRAITS / f"{key}.webp", quality=62, method=6)
        write_clip(key, PORTRAITS / f"{key}.mp4")
    engine_picture().save(ENGINE_PICTURE, quality=88, method=6)
    contact_sheet().save(SHEET, quality=86, method=6)


if __name__ == "__main__":
    main()
