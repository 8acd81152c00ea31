"""Finding a face: where its parts are, and what is said when it cannot be used."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from avatars.engines.faces.artist import PortraitArtist
from avatars.engines.faces.marks import POINTS, FaceMarks, MarksByHand, _looks_like_a_face, find_face
from avatars.engines.faces.picture import Picture, read_picture
from avatars.engines.poses import Eyes, Head, Mouth
from molts.errors import BadInput
from tests.avatars.engines import portraits


def in_pixels(marks: FaceMarks, picture: Picture) -> dict[str, np.ndarray]:
    size = np.array(picture.shape[1::-1])
    return {name: np.array(getattr(marks, name)) * size for name in POINTS}


def furthest(marks: FaceMarks, picture: Picture, true: dict[str, tuple[float, float]]) -> tuple[float, str]:
    """The point that is furthest from where it is by hand, in distances between the eyes."""
    eyes = np.hypot(*np.subtract(true["right_eye"], true["left_eye"]))
    found = in_pixels(marks, picture)
    return max((float(np.hypot(*(found[name] - true[name])) / eyes), name) for name in POINTS)


@pytest.mark.parametrize("change", [lambda picture: picture, portraits.grey, portraits.dark_skinned])
def test_it_finds_eyes_mouth_and_chin(change: Callable[[Picture], Picture]) -> None:
    picture = change(portraits.smiling())
    marks = find_face(picture)
    distance, name = furthest(marks, picture, portraits.TRUE_MARKS)
    assert distance < 0.1, name
    assert marks.confidence > 0.7


def test_it_finds_the_parts_of_a_face_with_glasses_and_thin_lips() -> None:
    picture = portraits.glasses()
    for seen in (picture, portraits.scaled(picture, 0.6), np.ascontiguousarray(picture[:, ::-1])):
        marks = find_face(seen)
        assert marks.mouth_top == marks.mouth_bottom, "a bright lower lip is not teeth"
    distance, name = furthest(find_face(picture), picture, portraits.TRUE_MARKS_OF_GLASSES)
    assert distance < 0.1, name


def test_it_finds_all_of_the_teeth_of_a_broad_smile() -> None:
    true = dict(portraits.TRUE_MARKS)
    for name in ("mouth_bottom", "chin"):
        true[name] = true[name][0], true[name][1] + 7
    picture = portraits.laughing()
    found = in_pixels(find_face(picture), picture)
    assert found["mouth_top"][1] == pytest.approx(true["mouth_top"][1], abs=3)
    assert found["mouth_bottom"][1] == pytest.approx(true["mouth_bottom"][1], abs=5)
    assert found["chin"][1] == pytest.approx(true["chin"][1], abs=6)


def test_it_finds_the_mouth_of_a_head_that_is_turned_away() -> None:
    picture = portraits.turned_away(portraits.smiling())
    true = {name: (0.75 * x, y) for name, (x, y) in portraits.TRUE_MARKS.items()}
    found = in_pixels(find_face(picture), picture)
    for name in ("left_eye", "right_eye", "mouth_left", "mouth_right", "mouth_top", "mouth_bottom"):
        assert np.hypot(*(found[name] - true[name])) < 5, name


def test_it_finds_the_parts_of_a_tilted_face() -> None:
    picture = portraits.turned(portraits.smiling(), 12)
    angle = np.radians(12)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = np.array([170, 170])
    true = {name: tuple(turn @ (np.array(at) - middle) + middle) for name, at in portraits.TRUE_MARKS.items()}
    distance, name = furthest(find_face(picture), picture, true)
    assert distance < 0.12, name


def test_it_tells_closed_lips_from_teeth() -> None:
    for picture, gap in ((portraits.smiling(), True), (portraits.closed(), False)):
        marks = find_face(picture)
        assert (marks.mouth_bottom[1] > marks.mouth_top[1]) is gap
        assert marks.mouth_left[0] < marks.mouth_top[0] < marks.mouth_right[0]


def test_it_takes_the_face_that_is_much_larger() -> None:
    picture = portraits.beside(portraits.scaled(portraits.smiling(), 2), portraits.scaled(portraits.smiling(), 1))
    marks = find_face(picture)
    assert marks.chin[0] < 0.5, "the left, larger one"


def test_two_like_faces_are_refused() -> None:
    with pytest.raises(BadInput, match="2 faces") as refusal:
        find_face(portraits.beside(portraits.smiling(), portraits.smiling()))
    assert refusal.value.attr == "portrait"


def test_marking_the_face_decides_between_two() -> None:
    picture = portraits.beside(portraits.smiling(), portraits.smiling())
    marks = find_face(picture, MarksByHand(box=(0.68, 0.19, 0.16, 0.32)))
    assert 0.6 < marks.left_eye[0] < marks.right_eye[0] < 0.85
    assert abs(marks.mouth_top[0] - (0.5 + 163.5 / 680)) < 0.01


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        (portraits.drawing_of_a_house(), "No face was found"),
        (np.full((300, 300, 3), 128, np.uint8), "No face was found"),
        (portraits.scaled(portraits.smiling(), 0.5), "face is too small"),
    ],
)
def test_a_picture_without_a_usable_face_is_refused(picture: Picture, text: str) -> None:
    with pytest.raises(BadInput, match=text) as refusal:
        find_face(picture)
    assert refusal.value.attr == "portrait"


def test_what_has_neither_eyes_nor_mouth_is_no_face_however_like_one_it_is() -> None:
    box = np.array([115.0, 65.0, 100.0, 100.0])
    for picture, is_face in ((portraits.smiling(), True), (portraits.without_features(portraits.smiling()), False)):
        gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        assert _looks_like_a_face(picture, gray, box, votes=40) is is_face


def test_marks_by_hand_win_and_the_rest_is_found() -> None:
    picture = portraits.smiling()
    found = find_face(picture)
    mouth = ((0.40, 0.42), (0.56, 0.42), (0.48, 0.43), (0.48, 0.43))
    marks = find_face(picture, MarksByHand(mouth=mouth, chin=(0.48, 0.54)))
    assert (marks.mouth_left, marks.mouth_right, marks.mouth_top, marks.mouth_bottom) == mouth
    assert marks.chin == (0.48, 0.54)
    assert marks.left_eye == found.left_eye


def test_a_face_that_is_not_found_can_be_marked() -> None:
    marks = find_face(portraits.drawing_of_a_house(), MarksByHand(eyes=((0.36, 0.53), (0.64, 0.53))))
    assert marks.left_eye == (0.36, 0.53)
    assert 0.53 < marks.mouth_top[1] < marks.chin[1]


@pytest.mark.parametrize(
    ("given", "attr"),
    [
        (MarksByHand(box=(0.2, 0.2, 0.0, 0.3)), "options.face"),
        (MarksByHand(box=(0.1, 0.4, 0.8, 0.05)), "options.face"),
        (MarksByHand(eyes=((0.6, 0.3), (0.4, 0.3))), "options.eyes"),
        (MarksByHand(mouth=((0.47, 0.42), (0.49, 0.42), (0.48, 0.42), (0.48, 0.42))), "options.mouth"),
        (MarksByHand(mouth=((0.4, 0.9), (0.6, 0.9), (0.5, 0.9), (0.5, 0.9))), "options.mouth"),
        (
            MarksByHand(mouth=((0.43, 0.42), (0.53, 0.42), (0.48, 0.42), (0.48, 0.42)), chin=(0.48, 0.43)),
            "options.chin",
        ),
        (MarksByHand(mouth=((0.6, 0.5), (0.4, 0.5), (0.5, 0.5), (0.5, 0.5))), "options.mouth"),
        (MarksByHand(mouth=((0.4, 0.5), (0.6, 0.5), (0.5, 0.6), (0.5, 0.5))), "options.mouth"),
        (
            MarksByHand(eyes=((0.4, 0.7), (0.6, 0.7)), mouth=((0.4, 0.5), (0.6, 0.5), (0.5, 0.5), (0.5, 0.5))),
            "options.mouth",
        ),
        (MarksByHand(mouth=((0.4, 0.5), (0.6, 0.5), (0.5, 0.5), (0.5, 0.5)), chin=(0.5, 0.4)), "options.chin"),
    ],
)
def test_marks_that_cannot_be_a_face_are_refused(given: MarksByHand, attr: str) -> None:
    with pytest.raises(BadInput) as refusal:
        find_face(portraits.smiling(), given)
    assert refusal.value.attr == attr


def test_marks_of_any_kind_are_bent_or_refused() -> None:
    """Whatever somebody clicks: a face, or a clear answer."""
    chance = random.Random(7)

    def point() -> tuple[float, float]:
        return chance.choice([0.0, 1.0, chance.random()]), chance.choice([0.0, 1.0, chance.random()])

    bent = 0
    for _ in range(150):
        eyes = ((0.42 + 0.2 * chance.random(), 0.3), (0.55 + 0.4 * chance.random(), 0.1 + 0.4 * chance.random()))
        given = MarksByHand(
            box=(*point(), *point()) if chance.random() < 0.3 else None,
            eyes=chance.choice([eyes, (point(), point())]),
            mouth=(point(), point(), point(), point()) if chance.random() < 0.3 else None,
            chin=point() if chance.random() < 0.3 else None,
        )
        with contextlib.suppress(BadInput):
            PortraitArtist(portraits.SMILING, given).render(Head(0.3), Eyes(0.5), Mouth(0.7), width=96, height=96)
            bent += 1
    assert bent > 10


class TestReading:
    def test_a_picture_is_set_upright_by_its_exif(self, tmp_path: Path) -> None:
        picture = Image.open(portraits.SMILING).rotate(90, expand=True)
        exif = Image.Exif()
        exif[0x0112] = 6  # lies on its left side: turn it clockwise
        picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
        upright = read_picture(tmp_path / "turned.jpg")
        distance, name = furthest(find_face(upright), upright, portraits.TRUE_MARKS)
        assert distance < 0.1, name

    def test_a_transparent_picture_gets_a_background(self, tmp_path: Path) -> None:
        Image.new("RGBA", (120, 100), (255, 0, 0, 0)).save(tmp_path / "clear.png")
        picture = read_picture(tmp_path / "clear.png")
        assert picture.shape == (100, 120, 3)
        assert picture.min() > 200

    @pytest.mark.parametrize("mode", ["L", "P", "I;16", "CMYK", "LA"])
    def test_every_kind_of_colours_is_read(self, mode: str, tmp_path: Path) -> None:
        path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
        Image.new("L", (100, 100), 128).convert(mode).save(path)
        assert read_picture(path).shape == (100, 100, 3)

    @pytest.mark.parametrize(
        ("content", "text"),
        [(b"", "no picture"), (b"GIF89a nonsense", "no picture"), (None, "missing"), (b"cut", "broken")],
    )
    def test_what_is_no_picture_is_refused(self, content: bytes | None, text: str, tmp_path: Path) -> None:
        path = tmp_path / "portrait.png"
        if content == b"cut":
            content = portraits.SMILING.read_bytes()[:2000]
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BadInput, match=text) as refusal:
            read_picture(path)
        assert refusal.value.attr == "portrait"

    @pytest.mark.parametrize(
        ("size", "text"), [((50_000, 1000), "too many pixels"), ((50_000, 20), "too small"), ((40, 40), "too small")]
    )
    def test_sizes_that_cannot_work_are_refused_before_decoding(
        self, size: tuple[int, int], text: str, tmp_path: Path
    ) -> None:
        Image.new("1", size).save(tmp_path / "sized.png")
        with pytest.raises(BadInput, match=text):
            read_picture(tmp_path / "sized.png")
