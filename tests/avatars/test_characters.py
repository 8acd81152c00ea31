"""What the puppet relies on: the drawings of every character keep the promises of `avatars.engines.poses.Artist`."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from avatars.characters import CHARACTERS, get_artist
from avatars.characters.stage import Character
from avatars.characters.svg import Drawing, ViewBox
from avatars.engines.poses import REST, Eyes, Head, Mouth
from molts.errors import BadConfiguration
from scripts.characters import CLIP_SECONDS, mouth_at, pose_at

SIDE = 512

HEADS = [
    Head(),
    Head(1.0, 1.0, 1.0, 1.0),
    Head(1.0, -1.0, -1.0, -1.0),
    Head(-1.0, 1.0, -1.0, -1.0),
    Head(-1.0, -1.0, 1.0, 1.0),
]
MOUTHS = [
    Mouth(openness=1.0),
    Mouth(openness=0.35, width=1.0),
    Mouth(openness=0.3, rounding=1.0),
    Mouth(openness=1.0, width=1.0, rounding=0.5),
    Mouth(width=0.0),
]
EYES = [
    Eyes(lids=1.0),
    Eyes(gaze_x=1.0, gaze_y=1.0, brows=1.0),
    Eyes(gaze_x=-1.0, gaze_y=-1.0, brows=-1.0),
    Eyes(lids=0.5, brows=1.0),
]

every_character = pytest.mark.parametrize("key", CHARACTERS)


def drawn(key: str, head: Head, eyes: Eyes, mouth: Mouth, width: int = SIDE, height: int = SIDE) -> NDArray[np.uint8]:
    return get_artist(key).render(head, eyes, mouth, width=width, height=height)


def box(changed: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is set; right and bottom excluded."""
    ys, xs = np.nonzero(changed)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def differs(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((one != other).any(axis=2))


@every_character
@pytest.mark.parametrize(("width", "height"), [(512, 512), (1920, 1080), (360, 640)])
def test_it_is_drawn_in_any_size(key: str, width: int, height: int) -> None:
    picture = drawn(key, *REST, width, height)

    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8
    edges = [picture[0], picture[-1], picture[:, 0], picture[:, -1]]
    assert all(edge.any(axis=1).all() for edge in edges), "the scene does not reach the edge"


@every_character
def test_a_wide_picture_shows_the_square_in_its_middle(key: str) -> None:
    wide = drawn(key, *REST, 1024, 512).astype(int)
    square = drawn(key, *REST).astype(int)

    # Blurred parts may differ by a shade.
    assert np.abs(wide[:, 256:768] - square).mean() < 0.5


@every_character
def test_the_same_pose_gives_the_same_pixels(key: str) -> None:
    pose = Head(0.3, -0.2, 0.5, 1.0), Eyes(0.2, 0.4, -0.3, 0.5), Mouth(0.6, 0.7, 0.2)

    first = drawn(key, *pose)
    drawn(key, *REST)

    assert np.array_equal(drawn(key, *pose), first)


def test_another_process_draws_the_same_and_names_it_the_same() -> None:
    script = (
        "import hashlib; from avatars.characters import get_artist; from avatars.engines.poses import REST;"
        "a = get_artist('otto');"
        "print(a.key, hashlib.sha256(a.render(*REST,width=512,height=512).tobytes()).hexdigest())"
    )
    lines = {
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
        for _ in range(2)
    }

    assert len(lines) == 1
    assert lines.pop().startswith("otto-")


@every_character
def test_mouth_and_eyes_change_only_boxes_of_their_own(key: str) -> None:
    for head in HEADS:
        rest = drawn(key, head, Eyes(), Mouth())
        mouths = np.zeros((SIDE, SIDE), dtype=bool)
        eyes = np.zeros((SIDE, SIDE), dtype=bool)
        for mouth in MOUTHS:
            mouths |= differs(drawn(key, head, Eyes(), mouth), rest)
        for look in EYES:
            eyes |= differs(drawn(key, head, look, Mouth()), rest)
        mouth_box, eyes_box = box(mouths), box(eyes)

        assert mouth_box[2] - mouth_box[0] < 0.45 * SIDE
        assert mouth_box[3] - mouth_box[1] < 0.3 * SIDE
        assert eyes_box[2] - eyes_box[0] < 0.4 * SIDE
        assert eyes_box[3] - eyes_box[1] < 0.2 * SIDE
        assert eyes_box[3] <= mouth_box[1], f"{head}: eyes {eyes_box} reach into the mouth {mouth_box}"


@every_character
def test_a_pose_can_be_put_together_from_patches(key: str) -> None:
    head = Head(0.7, -0.5, 0.6, 0.5)
    base = drawn(key, head, Eyes(), Mouth())
    for eyes, mouth in zip(EYES, MOUTHS, strict=False):
        put_together = base.copy()
        for patch in (drawn(key, head, eyes, Mouth()), drawn(key, head, Eyes(), mouth)):
            changed = differs(patch, base)
            put_together[changed] = patch[changed]

        assert np.array_equal(put_together, drawn(key, head, eyes, mouth))


@every_character
def test_a_part_is_what_the_whole_shows_there(key: str) -> None:
    pose = Head(0.3, -0.2, 0.5, 1.0), Eyes(0.2, 0.4, -0.3, 0.5), Mouth(0.6, 0.7, 0.2)
    whole = drawn(key, *pose).astype(int)

    for x, y, width, height in [(170, 150, 170, 80), (160, 236, 190, 120), (101, 33, 47, 300)]:
        artist = get_artist(key)
        assert isinstance(artist, Character)
        part = artist.render_part(*pose, width=SIDE, height=SIDE, box=(x, y, width, height))
        difference = np.abs(part - whole[y : y + height, x : x + width])
        # Edges and blurs may differ by a shade where the part cuts them.
        assert difference.max() <= 16
        assert difference.mean() < 0.1


def test_only_pieces_of_a_path_that_show_are_drawn() -> None:
    drawing = Drawing()
    drawing.clip("M0 0L50 0L50 50Z")
    drawing.line("M5 5L9 9M105 105L109 109", "#fff", 2.0)
    drawing.line("M5 5L9 9M105 105L109 109", "@gradient", 2.0)
    drawing.close()

    assert drawing.svg(ViewBox(0, 0, 20, 20)).count("M105") == 1, "the piece beyond is left out, but not of a gradient"
    assert drawing.svg(ViewBox(60, 60, 200, 200)) == "", "nothing shows beyond the clip"
    assert drawing.svg().count("M105") == 2


@every_character
def test_an_opening_mouth_grows_darker_inside(key: str) -> None:
    rest = drawn(key, *REST)
    around = np.logical_or.reduce([differs(drawn(key, Head(), Eyes(), mouth), rest) for mouth in MOUTHS])

    def dark(openness: float) -> int:
        picture = drawn(key, Head(), Eyes(), Mouth(openness=openness))
        return int(((picture[..., 1] < 34) & around).sum())

    areas = [dark(step / 10) for step in range(11)]

    assert all(later >= earlier - 2 for earlier, later in itertools.pairwise(areas)), areas
    assert areas[10] - areas[0] > 250, areas
    assert areas[5] - areas[0] > 0.2 * (areas[10] - areas[0]), areas


@every_character
def test_the_mouth_reads_spread_and_round(key: str) -> None:
    def gap(mouth: Mouth) -> int:
        """Width of the dark between the lips."""
        dark = (drawn(key, Head(), Eyes(), mouth)[..., 1] < 34) & (rest[..., 1] >= 60)
        left, _, right, _ = box(dark[:, SIDE // 2 - 48 : SIDE // 2 + 48])
        return right - left

    rest = drawn(key, *REST)
    spread, flat, rounded = (gap(Mouth(0.35, 1.0)), gap(Mouth(0.35, 0.5)), gap(Mouth(0.3, 0.5, 1.0)))

    assert spread > 1.1 * flat > 1.4 * rounded, (spread, flat, rounded)


@every_character
def test_small_steps_of_the_head_are_small_steps_of_the_picture(key: str) -> None:
    """No jump where a layer would change its place in the order."""
    steps = [drawn(key, Head(yaw=-1 + step / 8), Eyes(), Mouth()).astype(int) for step in range(17)]
    changes = [float(np.abs(later - earlier).mean()) for earlier, later in itertools.pairwise(steps)]

    assert min(changes) > 0
    assert max(changes) < 2.0 * float(np.median(changes)), changes


@every_character
def test_the_portrait_of_the_page_is_the_character_at_rest(key: str) -> None:
    """When this fails, run `python -m scripts.characters`."""
    path = Path(__file__).resolve().parents[2] / "static" / "src" / "portraits" / f"{key}.webp"
    with Image.open(path) as image:
        shown = np.asarray(image.convert("RGB")).astype(int)
    drawing = drawn(key, *REST, *reversed(shown.shape[:2])).astype(int)

    assert np.abs(shown - drawing).mean() < 3.0


@every_character
def test_the_clip_of_the_page_is_small_and_returns_to_rest(key: str) -> None:
    path = Path(__file__).resolve().parents[2] / "static" / "src" / "portraits" / f"{key}.mp4"

    assert path.stat().st_size < 150_000
    for seconds in (0.0, CLIP_SECONDS):
        head, eyes, mouth = pose_at(seconds)
        assert (eyes, mouth) == REST[1:]
        assert max(map(abs, (head.yaw, head.pitch, head.roll, head.breath))) < 1e-6
    assert max(mouth_at(number / 25).openness for number in range(125)) > 0.6


def test_the_names_of_the_artworks_differ() -> None:
    assert len({get_artist(key).key for key in CHARACTERS}) == len(CHARACTERS) >= 3


def test_an_unknown_character_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadConfiguration, match=r"'nobody'.*mira.*otto"):
        get_artist("nobody")


def test_the_list_of_characters_loads_no_drawing() -> None:
    script = "import sys, avatars.characters; print([m for m in ('numpy', 'thorvg_python') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert "thorvg_python" not in result.stdout
