"""Photographed faces in all poses, and the engine that makes them speak."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from avatars.engines import get_engine
from avatars.engines.base import AudioChunk, Face, SegmentEnd, VideoFormat, VideoFrame
from avatars.engines.cache import cache_folder, keep_in
from avatars.engines.faces import artist as artist_module
from avatars.engines.faces.artist import PortraitArtist
from avatars.engines.faces.marks import MarksByHand, find_face
from avatars.engines.portrait import PortraitEngine, PortraitOptions
from avatars.engines.poses import REST, Eyes, Head, Mouth, PartArtist
from molts.errors import BadConfiguration, BadInput
from tests.avatars.engines import portraits
from tests.avatars.engines.portraits import Picture
from tests.avatars.engines.speech import FPS, RATE, TEXT, best_lag, envelope, say

SIZE = 256
"""Frames of tests: a quarter of the real ones' pixels, the same face."""
AH, EE, OO = Mouth(0.9), Mouth(0.25, 1.0), Mouth(0.15, 0.15, 1.0)


@pytest.fixture(scope="module", params=[portraits.SMILING, portraits.CLOSED], ids=["teeth", "closed"])
def face(request: pytest.FixtureRequest) -> PortraitArtist:
    return PortraitArtist(request.param, MarksByHand())


@pytest.fixture(scope="module")
def closed() -> PortraitArtist:
    return PortraitArtist(portraits.CLOSED, MarksByHand())


def draw(
    face: PortraitArtist, mouth: Mouth = REST[2], eyes: Eyes = REST[1], head: Head = REST[0], width: int = SIZE
) -> Picture:
    return face.render(head, eyes, mouth, width=width, height=SIZE)


def changed(one: Picture, other: Picture) -> NDArray[np.bool_]:
    return np.asarray((one != other).any(axis=2))


def bounds(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def dark_of_the_mouth(face: PortraitArtist, picture: Picture) -> NDArray[np.bool_]:
    """What an open mouth shows: the largest area that is far darker than at rest."""
    rest = draw(face).astype(int).sum(axis=2)
    darker = (rest - picture.astype(int).sum(axis=2) > 90) & (rest > 200)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(darker.astype(np.uint8))
    sizes = stats[1:, cv2.CC_STAT_AREA]
    return np.asarray(labels == 1 + int(sizes.argmax())) if sizes.size else darker


class TestMouth:
    def test_it_opens_as_far_as_asked(self, face: PortraitArtist) -> None:
        asked = np.linspace(0, 1, 9)
        seen = [dark_of_the_mouth(face, draw(face, Mouth(float(openness)))).sum() for openness in asked]
        assert np.corrcoef(asked, seen)[0, 1] > 0.95
        assert (np.diff(seen) >= 0).all()

    def test_the_chin_goes_down_with_it(self, face: PortraitArtist) -> None:
        moved = changed(draw(face), draw(face, Mouth(1.0)))
        eyes = bounds(changed(draw(face), draw(face, eyes=Eyes(1.0))))
        eyes_height = eyes[3] - eyes[1]
        assert bounds(moved)[3] - eyes[3] > 2 * eyes_height, "far below the lips"

    def test_rounded_lips_open_narrower_than_spread_ones(self, closed: PortraitArtist) -> None:
        def width(mouth: Mouth) -> int:
            left, _, right, _ = bounds(dark_of_the_mouth(closed, draw(closed, mouth)))
            return right - left

        assert width(Mouth(0.4, 0.15, 1.0)) < 0.8 * width(Mouth(0.4, 1.0))

    def test_vowels_look_different(self, face: PortraitArtist) -> None:
        pictures = [draw(face, mouth) for mouth in (Mouth(), AH, EE, OO)]
        for i, one in enumerate(pictures):
            for other in pictures[i + 1 :]:
                assert (np.abs(one.astype(int) - other).max(axis=2) > 40).sum() > 60

    def test_an_opening_that_grows_little_changes_little(self, face: PortraitArtist) -> None:
        """No jump where the lips part: pictures of neighbouring openness are neighbours."""
        last = draw(face)
        for openness in np.linspace(0.01, 0.2, 20):
            picture = draw(face, Mouth(float(openness)))
            assert np.abs(picture.astype(int) - last).mean() < 0.25
            last = picture

    def test_the_inside_is_dark_with_teeth_above(self, closed: PortraitArtist) -> None:
        before, after = draw(closed), draw(closed, Mouth(1.0))
        left, top, right, bottom = bounds(dark_of_the_mouth(closed, after))
        column = after[top - 2 : bottom + 1, (left + right) // 2].astype(int).sum(axis=1)
        assert before.sum() > after.sum()
        assert column.min() < 200, "the dark of the mouth"
        upper, lower = column[: len(column) // 2], column[len(column) // 2 :]
        assert upper.max() > 1.5 * lower.min(), "teeth are light, and above"

    @pytest.mark.parametrize(("picture", "mouth"), [(portraits.closed(), Mouth(1.0)), (portraits.smiling(), OO)])
    def test_a_grey_picture_stays_grey(self, picture: Picture, mouth: Mouth, tmp_path: Path) -> None:
        path = portraits.save(portraits.grey(picture), tmp_path / "grey.png")
        picture = draw(PortraitArtist(path, MarksByHand()), mouth)
        assert np.ptp(picture.astype(int), axis=2).max() <= 4


class TestEyes:
    def test_lids_cover_the_eyes(self, face: PortraitArtist) -> None:
        """Where iris and white were, there is skin: the contrast within goes."""
        found = face.check()
        opened, shut = draw(face, width=SIZE), draw(face, eyes=Eyes(lids=1.0))
        mask = changed(opened, shut)
        left, top, right, bottom = bounds(mask)
        assert found.left_eye[0] < found.right_eye[0]
        dark_opened = (opened[top:bottom, left:right].astype(int).sum(axis=2) < 240).sum()
        dark_shut = (shut[top:bottom, left:right].astype(int).sum(axis=2) < 240).sum()
        assert dark_shut < 0.6 * dark_opened

    def test_the_frame_of_glasses_stays_where_it_is(self) -> None:
        face = PortraitArtist(portraits.GLASSES, MarksByHand())
        darker = draw(face).astype(int).sum(axis=2) - draw(face, eyes=Eyes(lids=1.0)).astype(int).sum(axis=2) > 120
        assert darker.sum() < 40, "lashes at most"

    def test_half_closed_lies_between(self, face: PortraitArtist) -> None:
        pictures = [draw(face, eyes=Eyes(lids=lids)).astype(int) for lids in (0.0, 0.5, 1.0)]
        half, full = (np.abs(picture - pictures[0]).sum() for picture in pictures[1:])
        assert 0.2 * full < half < 0.9 * full

    @pytest.mark.parametrize("eyes", [Eyes(gaze_x=1), Eyes(gaze_y=1), Eyes(brows=1), Eyes(brows=-1)])
    def test_gaze_and_brows_show(self, face: PortraitArtist, eyes: Eyes) -> None:
        assert (np.abs(draw(face, eyes=eyes).astype(int) - draw(face)).max(axis=2) > 25).sum() > 20


class TestHead:
    def test_the_face_moves_and_the_background_stays(self, face: PortraitArtist) -> None:
        rest = draw(face).astype(int)
        for head in (Head(yaw=1), Head(yaw=-1), Head(pitch=1), Head(roll=1)):
            away = np.abs(draw(face, head=head).astype(int) - rest).mean(axis=2)
            assert away[90:150, 100:160].mean() > 4, "the face"
            assert away[:100, :12].mean() < 1, "the background"

    def test_turning_right_moves_the_nose_to_the_right(self, face: PortraitArtist) -> None:
        def eyes_middle(head: Head) -> float:
            left, _, right, _ = bounds(changed(draw(face, head=head), draw(face, head=head, eyes=Eyes(1.0))))
            return (left + right) / 2

        assert eyes_middle(Head(yaw=1)) - eyes_middle(Head(yaw=-1)) > 4

    def test_the_shoulders_breathe(self, face: PortraitArtist) -> None:
        inhaled = draw(face, head=Head(breath=1)).astype(int)
        assert np.abs(inhaled - draw(face))[-40:].mean() > 1

    def test_no_pose_bares_the_border(self, face: PortraitArtist) -> None:
        rest = draw(face).astype(int)
        for head in (Head(1, 1, 1, 1), Head(-1, -1, -1, -1)):
            picture = draw(face, head=head).astype(int)
            for edge in (np.s_[:2], np.s_[-2:], np.s_[:, :2], np.s_[:, -2:]):
                assert (picture[edge].sum(axis=-1) < 12).mean() <= (rest[edge].sum(axis=-1) < 40).mean() + 0.05


class TestArtist:
    def test_it_is_an_artist_of_parts(self, face: PortraitArtist) -> None:
        assert isinstance(face, PartArtist)
        pose = Head(0.4, -0.3, 0.2, 0.5), Eyes(0.5), Mouth(0.5)
        whole = face.render(*pose, width=SIZE, height=SIZE)
        part = face.render_part(*pose, width=SIZE, height=SIZE, box=(60, 80, 120, 100))
        assert np.array_equal(part, whole[80:180, 60:180])

    @pytest.mark.parametrize("width", [SIZE, SIZE * 16 // 9 // 2 * 2])
    def test_mouth_and_eyes_have_boxes_of_their_own(self, face: PortraitArtist, width: int) -> None:
        heads = [Head(yaw, pitch, 0.7 * yaw, pitch) for yaw in (-0.5, 0, 0.5) for pitch in (-0.5, 0, 0.5)]
        mouth = np.zeros((SIZE, width), bool)
        eyes = mouth.copy()
        for head in heads:
            base = draw(face, head=head, width=width)
            for shape in (AH, EE, OO, Mouth(1.0)):
                mouth |= changed(draw(face, shape, head=head, width=width), base)
            for look in (Eyes(1), Eyes(0, 1, 1, 1), Eyes(0, -1, -1, -1)):
                eyes |= changed(draw(face, eyes=look, head=head, width=width), base)
        assert bounds(eyes)[3] < bounds(mouth)[1], "all of the eyes above all of the mouth"

    def test_rest_is_the_picture_itself(self, face: PortraitArtist) -> None:
        """No bending at all: nearly closed and nearly still differ by next to nothing."""
        nearly = draw(face, Mouth(1e-4), Eyes(1e-4), Head(1e-4)).astype(int)
        assert np.abs(nearly - draw(face)).mean() < 0.5

    def test_the_same_pose_gives_the_same_pixels(self) -> None:
        pose = Head(0.3, 0.2, -0.5, 1), Eyes(0.3, 0.2), Mouth(0.6, 0.2, 0.4)
        one, other = (
            PortraitArtist(portraits.SMILING, MarksByHand()).render(*pose, width=SIZE, height=SIZE) for _ in range(2)
        )
        assert np.array_equal(one, other)

    def test_its_key_names_picture_and_marks(self, tmp_path: Path) -> None:
        copy = tmp_path / "copy.jpg"
        copy.write_bytes(portraits.SMILING.read_bytes())
        key = PortraitArtist(portraits.SMILING, MarksByHand()).key
        assert PortraitArtist(copy, MarksByHand()).key == key
        assert PortraitArtist(portraits.CLOSED, MarksByHand()).key != key
        assert PortraitArtist(copy, MarksByHand(chin=(0.5, 0.6))).key != key

    def test_a_tilted_head_is_set_nearly_upright(self, tmp_path: Path) -> None:
        path = portraits.save(portraits.turned(portraits.closed(), 14), tmp_path / "tilted.png")
        face = PortraitArtist(path, MarksByHand())
        rest = draw(face)
        lids = bounds(changed(rest, draw(face, eyes=Eyes(1.0))))
        lips = bounds(changed(rest, draw(face, AH)))
        assert lids[3] < lips[1]

    def test_a_wide_frame_puts_the_face_in_the_middle_on_a_blurred_background(self, tmp_path: Path) -> None:
        narrow = portraits.save(portraits.closed()[60:500, 120:400], tmp_path / "narrow.png")
        face = PortraitArtist(narrow, MarksByHand())
        picture = face.render(*REST, width=640, height=360)
        left, _, right, _ = bounds(changed(picture, face.render(Head(), Eyes(1.0), Mouth(), width=640, height=360)))
        assert abs((left + right) / 2 - 320) < 40
        side = picture[:, :60].astype(int)
        assert np.abs(np.diff(side, axis=1)).mean() < 3, "out of focus"
        assert side.mean() > 5, "but not black"


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    before = cache_folder("")
    keep_in(tmp_path / "kept")
    yield tmp_path / "kept"
    keep_in(before)


SMALL = VideoFormat(width=96, height=96)


class TestEngine:
    def test_a_usable_face_passes(self) -> None:
        get_engine("portrait").check_face(Face("1", portrait=portraits.SMILING))

    @pytest.mark.parametrize(
        ("picture", "text"),
        [
            (None, "needs a picture"),
            (portraits.drawing_of_a_house(), "No face"),
            (portraits.beside(portraits.smiling(), portraits.smiling()), "2 faces"),
            (portraits.scaled(portraits.smiling(), 0.5), "too small"),
        ],
    )
    def test_an_unusable_one_is_refused(self, picture: Picture | None, text: str, tmp_path: Path) -> None:
        path = None if picture is None else portraits.save(picture, tmp_path / "picture.png")
        with pytest.raises(BadInput, match=text) as refusal:
            get_engine("portrait").check_face(Face("1", portrait=path))
        assert refusal.value.attr == "portrait"

    @pytest.mark.parametrize(
        "options",
        [{"eyes": [[0.4, 0.3]]}, {"chin": [0.5, 1.5]}, {"face": [0, 0, 1]}, {"motion": 2}, {"mood": "merry"}],
    )
    def test_options_that_do_not_fit_name_their_field(self, options: dict[str, object]) -> None:
        with pytest.raises(BadConfiguration) as refusal:
            get_engine("portrait").check_face(Face("1", portrait=portraits.SMILING, options=options))
        assert refusal.value.attr is not None
        assert refusal.value.attr.startswith(next(iter(options)))

    def test_marks_come_through_the_options(self, tmp_path: Path) -> None:
        two = portraits.save(portraits.beside(portraits.smiling(), portraits.smiling()), tmp_path / "two.png")
        get_engine("portrait").check_face(Face("1", portrait=two, options={"face": [0.18, 0.19, 0.16, 0.32]}))

    def test_found_marks_are_options_that_give_the_same_marks(self) -> None:
        engine, found = PortraitEngine(), PortraitArtist(portraits.SMILING, MarksByHand()).check()
        options = engine.parse_options(found.options())
        assert isinstance(options, PortraitOptions)
        again = find_face(portraits.smiling(), MarksByHand(options.face, options.eyes, options.mouth, options.chin))
        assert again.options() == found.options()

    async def test_a_prepared_face_is_not_looked_for_again(self, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        engine, face = get_engine("portrait"), Face("1", portrait=portraits.SMILING)
        shares: list[float] = []
        engine.prepare(face, SMALL, shares.append)
        assert shares[-1] == 1.0
        monkeypatch.setattr(artist_module, "find_face", lambda *_: pytest.fail("looked for the face again"))
        engine.prepare(face, SMALL)
        stream = await engine.open_stream(face, SMALL)
        await stream.aclose()

    async def test_it_speaks(self, kept: Path) -> None:
        """Sound in, the same sound and moving lips out."""
        engine = get_engine("portrait")
        stream = await engine.open_stream(Face("1", portrait=portraits.CLOSED), SMALL)
        times = np.arange(16_000) / 16_000
        tone = sum(np.sin(2 * np.pi * 140 * k * times) / k for k in range(1, 20))
        sound = (6000 * tone * (np.sin(2 * np.pi * 3 * times) > 0)).astype(np.int16)
        await stream.push_audio(AudioChunk(sound, 16_000))
        await stream.flush()
        heard, frames = 0, []
        async for item in stream:
            if isinstance(item, AudioChunk):
                heard += len(item.samples)
            elif isinstance(item, VideoFrame):
                frames.append(bytes(item.data))
            elif isinstance(item, SegmentEnd):
                break
        await stream.aclose()
        assert heard == len(sound)
        assert len(frames) >= 24
        assert len(set(frames)) > 5


@pytest.fixture(scope="module")
def kept_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = cache_folder("")
    keep_in(tmp_path_factory.mktemp("kept"))
    yield
    keep_in(before)


@pytest.mark.parametrize("portrait", [portraits.SMILING, portraits.CLOSED], ids=["teeth", "closed"])
@pytest.mark.parametrize(
    "voice", ["en-us", *(pytest.param(each, marks=pytest.mark.soak) for each in ("en-us+f3", "en-gb+m3"))]
)
async def test_the_mouth_that_is_seen_follows_the_voice(kept_for_all: None, portrait: Path, voice: str) -> None:
    """From sound to pixels: the dark between the lips against the loudness of the speech."""
    sound, video = say(TEXT, voice), VideoFormat(SIZE, SIZE)
    stream = await get_engine("portrait").open_stream(Face("1", portrait=portrait), video)
    await stream.push_audio(AudioChunk(sound, RATE))
    await stream.flush()
    dark = []
    async for item in stream:
        if isinstance(item, VideoFrame):
            luma = np.frombuffer(item.data, np.uint8)[: SIZE * SIZE].reshape(SIZE, SIZE)
            dark.append(float((luma[134:180, 98:154] < 90).sum()))  # around the mouth
        elif isinstance(item, SegmentEnd):
            break
    await stream.aclose()
    loudness = envelope(sound)
    correlation, lag = best_lag(np.array(dark[: len(loudness)]), loudness[: len(dark)])
    assert correlation >= 0.7
    assert abs(lag) / FPS <= 0.040
