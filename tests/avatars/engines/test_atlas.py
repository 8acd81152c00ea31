"""Kept poses: drawn once, whole or not at all, and put together to what the artist would have drawn."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from avatars.characters import CHARACTERS, get_artist
from avatars.engines import atlas as atlas_module
from avatars.engines.atlas import HEADER, Atlas, Canvas, PosesOverlap, _Drawing, open_atlas, to_i420
from avatars.engines.pose_plan import EYES, MOUTHS, OUTERMOST_EYES, Grid, nearest_eyes, nearest_mouth
from avatars.engines.poses import Eyes, Head, Mouth
from tests.avatars.engines.artist import RoundFace

SIDE = 96
FEW_POSES = (
    "import sys, time; from pathlib import Path\n"
    "from avatars.engines import atlas; from avatars.engines.atlas import open_atlas\n"
    "from tests.avatars.engines.artist import RoundFace\n"
    "atlas.GRIDS = (atlas.Grid(3, 3),)\n"
)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    return open_atlas(RoundFace(), SIDE, SIDE, folder=tmp_path_factory.mktemp("poses"))


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is open yet in this process; few poses, so that they are drawn quickly."""
    monkeypatch.setattr(atlas_module, "_open", {})
    monkeypatch.setattr(atlas_module, "GRIDS", (Grid(3, 3),))


def poses_file(folder: Path) -> Path:
    [path] = folder.glob("*.poses")
    return path


# -- which poses ------------------------------------------------------------------------------------------------------
@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.sampled_from([Grid(9, 7), Grid(5, 3), Grid(1, 3), Grid(2, 2)]))
def test_two_neighbours_come_near_to_any_point(x: float, y: float, grid: Grid) -> None:
    def place(index: int) -> NDArray[np.float64]:
        return np.array(divmod(index, grid.rows), dtype=float)

    first, second, weight = grid.between(x, y)
    assert 0 <= first < len(grid)
    assert 0 <= second < len(grid)
    assert 0.0 <= weight <= 1.0
    assert np.abs(place(first) - place(second)).max() <= 1
    wanted = (np.clip([x, y], -1, 1) + 1) / 2 * [grid.columns - 1, grid.rows - 1]
    found = (1 - weight) * place(first) + weight * place(second)
    assert np.linalg.norm(found - wanted) < 0.22


def test_the_middle_of_the_grid_is_rest() -> None:
    for grid in (Grid(9, 7), Grid(5, 3)):
        first, _, weight = grid.between(0.0, 0.0)
        assert weight == 0.0
        assert grid.heads()[first] == Head()


@pytest.mark.parametrize("index", range(len(MOUTHS)))
def test_each_mouth_is_its_own_nearest(index: int) -> None:
    assert nearest_mouth(MOUTHS[index]) == index


@pytest.mark.parametrize("index", range(len(EYES)))
def test_each_pair_of_eyes_is_its_own_nearest(index: int) -> None:
    assert nearest_eyes(EYES[index]) == index


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_a_blink_is_never_lost(gaze_x: float, gaze_y: float, brows: float) -> None:
    assert EYES[nearest_eyes(Eyes(1.0, gaze_x, gaze_y, brows))].lids == 1.0
    assert EYES[nearest_eyes(Eyes(0.0, gaze_x, gaze_y, brows))].lids == 0.0


# -- the picture ------------------------------------------------------------------------------------------------------
def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    error = float(np.mean((one.astype(float) - other) ** 2))
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


def test_a_frame_is_what_the_artist_draws(atlas: Atlas) -> None:
    canvas, artist, heads = Canvas(atlas), RoundFace(), atlas.grid.heads()
    for step in range(60):
        column, row = step * 5 % atlas.grid.columns, step * 3 % atlas.grid.rows
        eyes, mouth = step * 7 % len(EYES), step * 11 % len(MOUTHS)
        at = (2 * column / (atlas.grid.columns - 1) - 1, 2 * row / (atlas.grid.rows - 1) - 1)
        canvas.show(*at, eyes, mouth)
        head = heads[column * atlas.grid.rows + row]
        drawn = artist.render(head, EYES[eyes], MOUTHS[mouth], width=SIDE, height=SIDE)
        assert psnr(canvas.data, to_i420(drawn)) > 45


def test_between_poses_the_picture_flows(atlas: Atlas) -> None:
    canvas = Canvas(atlas)
    frames = []
    for step in range(121):
        canvas.show(step / 60 - 1, 0.0, 0, 0)
        frames.append(canvas.data[: SIDE * SIDE].astype(float))
    steps = [np.abs(after - before).mean() for before, after in pairwise(frames)]
    whole = np.abs(frames[-1] - frames[0]).mean()
    assert max(steps) < whole / 8, "no single step is a large part of the way"


def test_only_what_changed_is_told(atlas: Atlas) -> None:
    canvas = Canvas(atlas)
    assert canvas.show(0.1, 0.1, 0, 0)
    assert not canvas.show(0.1, 0.1, 0, 0)
    assert canvas.show(0.1, 0.1, 0, 5)
    assert canvas.show(0.1, 0.1, 4, 5)
    assert canvas.show(0.6, 0.1, 4, 5)


def test_the_order_of_frames_leaves_nothing_behind(atlas: Atlas) -> None:
    """Patches are copied onto what the last frame left: any way to a pose gives the same picture."""
    chance = np.random.default_rng(3)
    wanderer = Canvas(atlas)
    for _ in range(80):
        pose = (*chance.uniform(-1, 1, 2).tolist(), int(chance.integers(len(EYES))), int(chance.integers(len(MOUTHS))))
        wanderer.show(*pose)
        direct = Canvas(atlas)
        direct.show(*pose)
        assert np.array_equal(wanderer.data, direct.data)


def test_the_poses_cannot_be_written(atlas: Atlas) -> None:
    with pytest.raises(ValueError, match="read-only"):
        atlas.mouths.luma[0, 0] = 0


def test_colours_are_those_of_video() -> None:
    picture = np.empty((4, 4, 3), dtype=np.uint8)
    picture[:] = (255, 0, 0)
    planes = to_i420(picture)
    assert np.abs(planes[:16].astype(int) - 82).max() <= 1  # BT.601, 16 to 235
    assert np.abs(planes[16:20].astype(int) - 90).max() <= 1
    assert np.abs(planes[20:].astype(int) - 240).max() <= 1


@pytest.mark.parametrize("key", CHARACTERS)
def test_what_eyes_and_mouth_of_each_character_change_lies_in_their_boxes(key: str) -> None:
    artist, layout = get_artist(key), _Drawing(get_artist(key), 256, 256).layout()  # refuses when the boxes overlap
    for head in (layout.grid.heads()[8], layout.grid.heads()[-3]):
        base = artist.render(head, Eyes(), Mouth(), width=256, height=256)
        for box, poses in (
            (layout.mouth_box, [(Eyes(), mouth) for mouth in MOUTHS[::6]]),
            (layout.eyes_box, [(eyes, Mouth()) for eyes in OUTERMOST_EYES]),
        ):
            for eyes, mouth in poses:
                difference = cv2.absdiff(artist.render(head, eyes, mouth, width=256, height=256), base).max(axis=2)
                difference[box.rows, box.columns] = 0
                assert (difference > 8).sum() == 0


# -- the file ---------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("forget")
def test_it_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artist, shares = RoundFace(), list[float]()
    first = open_atlas(artist, SIDE, SIDE, folder=tmp_path, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    drawn = artist.rendered
    assert open_atlas(artist, SIDE, SIDE, folder=tmp_path) is first
    monkeypatch.setattr(atlas_module, "_open", {})
    again = open_atlas(artist, SIDE, SIDE, folder=tmp_path)
    assert artist.rendered == drawn
    assert np.array_equal(again.mouths.luma, first.mouths.luma)


@pytest.mark.usefixtures("forget")
def test_another_size_or_artwork_is_another_file(tmp_path: Path) -> None:
    open_atlas(RoundFace(), SIDE, SIDE, folder=tmp_path)
    open_atlas(RoundFace(), 128, SIDE, folder=tmp_path)
    open_atlas(RoundFace(key="round face 2"), SIDE, SIDE, folder=tmp_path)
    assert len(list(tmp_path.glob("*.poses"))) == 3
    assert not list(tmp_path.glob("*.part"))


def damage(path: Path, way: str) -> None:
    data = bytearray(path.read_bytes())
    if way == "empty":
        data.clear()
    elif way == "cut":
        del data[len(data) // 2 :]
    elif way == "longer":
        data += b"x"
    elif way == "pixel":
        data[len(data) - 1000] ^= 1
    elif way == "description":
        data[HEADER.size + 5] ^= 1
    elif way == "version":
        data[12] ^= 3
    elif way == "noise":
        data = bytearray(os.urandom(len(data)))
    path.write_bytes(data)


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize("way", ["empty", "cut", "longer", "pixel", "description", "version", "noise"])
def test_a_damaged_file_is_drawn_anew(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = np.array(open_atlas(RoundFace(), SIDE, SIDE, folder=tmp_path).mouths.luma)
    damage(poses_file(tmp_path), way)
    monkeypatch.setattr(atlas_module, "_open", {})
    artist = RoundFace()
    assert np.array_equal(open_atlas(artist, SIDE, SIDE, folder=tmp_path).mouths.luma, good)
    assert artist.rendered > 0


@dataclass
class Falling(RoundFace):
    """Gives up in the middle."""

    def render(self, head: Head, eyes: Eyes, mouth: Mouth, *, width: int, height: int) -> NDArray[np.uint8]:
        if self.rendered == 300:
            raise RuntimeError("out of paint")
        return super().render(head, eyes, mouth, width=width, height=height)


@pytest.mark.usefixtures("forget")
def test_nothing_is_left_of_a_drawing_that_failed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of paint"):
        open_atlas(Falling(), SIDE, SIDE, folder=tmp_path)
    assert not list(tmp_path.glob("*.poses"))
    assert not list(tmp_path.glob("*.part"))
    open_atlas(RoundFace(), SIDE, SIDE, folder=tmp_path)


@pytest.mark.usefixtures("forget")
def test_threads_that_ask_at_once_draw_once(tmp_path: Path) -> None:
    artists = [RoundFace() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        atlases = list(pool.map(lambda artist: open_atlas(artist, SIDE, SIDE, folder=tmp_path), artists))
    assert sorted(artist.rendered > 0 for artist in artists) == [False, False, False, True]
    assert all(each.layout == atlases[0].layout for each in atlases)


def test_processes_that_ask_at_once_draw_once(tmp_path: Path) -> None:
    program = FEW_POSES + (
        "artist = RoundFace(); open_atlas(artist, 96, 96, folder=Path(sys.argv[1])); print(artist.rendered)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    drawn = [int(process.communicate(timeout=60)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert min(drawn) == 0
    assert max(drawn) > 0


@pytest.mark.usefixtures("forget")
def test_a_killed_process_keeps_nobody_waiting(tmp_path: Path) -> None:
    program = FEW_POSES + (
        "def stop(share): print('half', flush=True); time.sleep(60)\n"
        "open_atlas(RoundFace(), 96, 96, folder=Path(sys.argv[1]), progress=stop)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate(timeout=10)
    assert not list(tmp_path.glob("*.poses"))
    assert open_atlas(RoundFace(), SIDE, SIDE, folder=tmp_path).width == SIDE


@pytest.mark.usefixtures("forget")
def test_what_nobody_uses_is_deleted(tmp_path: Path) -> None:
    old, recent, half = tmp_path / "old.poses", tmp_path / "recent.poses", tmp_path / "x.1.2.part"
    for path, days in ((old, 20), (recent, 3), (half, 3)):
        path.write_bytes(b"")
        os.utime(path, (time.time() - days * 86_400,) * 2)
    open_atlas(RoundFace(), SIDE, SIDE, folder=tmp_path)
    assert not old.exists()
    assert not half.exists()
    assert recent.exists()


def test_an_artist_whose_mouth_and_eyes_meet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PosesOverlap, match="share pixels"):
        open_atlas(RoundFace(key="overlapping", overlapping=True), SIDE, SIDE, folder=tmp_path)


def test_odd_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even"):
        open_atlas(RoundFace(), SIDE + 1, SIDE, folder=tmp_path)
