"""The engines' own sides: options, portraits, health, and where Wav2Lip's face is pasted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from avatars.engines import get_engine
from avatars.engines.adapters.molts_engine_adapter import wav2lip as model
from avatars.engines.adapters.molts_engine_adapter.model import Face as HostFace
from avatars.engines.adapters.molts_engine_adapter.model import ModelError, Video
from avatars.engines.base import Face, VideoFormat
from avatars.engines.config import EngineConfig, configure, engine_config
from avatars.engines.faces.artist import PortraitArtist
from avatars.engines.faces.marks import MarksByHand, find_face
from avatars.engines.poses import REST
from avatars.engines.wav2lip import Wav2LipEngine
from molts.errors import BadConfiguration, BadInput
from tests.avatars.engines.portraits import SMILING

BOX = [0.25, 0.25, 0.75, 0.75]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path) -> Iterator[None]:
    before = engine_config()
    configure(EngineConfig(run_dir=tmp_path / "run"))
    yield
    configure(before)


def saved(folder: Path, picture: Any) -> Path:
    path = folder / "portrait.png"
    cv2.imwrite(str(path), picture)
    return path


# -- What the admin is told --------------------------------------------------------------------------------------------
def test_without_weights_it_says_how_to_get_them() -> None:
    health = Wav2LipEngine().health()
    assert not health.ready
    assert health.text == "has no weights"
    assert "MOLTS_WAV2LIP_MODEL" in health.fix


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    configure(EngineConfig(run_dir=tmp_path, wav2lip_model="/nowhere/wav2lip.onnx"))
    assert Wav2LipEngine().health().text == "there is no /nowhere/wav2lip.onnx"


@pytest.mark.parametrize("key", ["synctalk", "synctalk_2d", "ditto", "musetalk", "sadtalker"])
def test_an_engine_whose_host_is_not_there_says_how_to_start_it(key: str) -> None:
    health = get_engine(key).health()
    assert not health.ready
    assert f"python -m molts_engine_adapter {key} --listen unix:" in health.fix


def test_only_sadtalker_is_too_slow_for_conversations() -> None:
    hosted = ("wav2lip", "synctalk", "synctalk_2d", "ditto", "musetalk", "sadtalker")
    assert [key for key in hosted if not get_engine(key).live] == ["sadtalker"]


@pytest.mark.parametrize(
    ("key", "options", "attr"),
    [
        ("wav2lip", {"eyes": [[0.5, 0.5]]}, "eyes.1"),
        ("wav2lip", {"face": [0, 0, 2, 1]}, "face.2"),
        ("wav2lip", {"model": "/etc/passwd"}, "model"),
        ("synctalk", {"character": "../../etc"}, "character"),
        ("sadtalker", {"size": 300}, "size"),
        ("ditto", {"anything": 1}, "anything"),
    ],
)
def test_a_wrong_option_is_named(key: str, options: dict[str, Any], attr: str) -> None:
    with pytest.raises(BadConfiguration) as refusal:
        get_engine(key).parse_options(options)
    assert refusal.value.attr == attr


# -- Portraits ---------------------------------------------------------------------------------------------------------
def test_a_picture_without_a_face_gets_a_clear_answer(tmp_path: Path) -> None:
    path = saved(tmp_path, np.full((400, 400, 3), 90, np.uint8))
    with pytest.raises(BadInput, match="No face was found") as refusal:
        Wav2LipEngine().check_face(Face("1", portrait=path))
    assert refusal.value.attr == "portrait"


def test_a_huge_picture_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (50_000, 1_000)).save(path)
    with pytest.raises(BadInput, match="too many pixels"):
        Wav2LipEngine().check_face(Face("1", portrait=path))


@pytest.mark.parametrize("key", ["wav2lip", "ditto", "sadtalker"])
def test_an_engine_that_needs_a_portrait_says_so(key: str) -> None:
    assert get_engine(key).needs_portrait
    with pytest.raises(BadInput, match=r"picture|portrait"):
        get_engine(key).check_face(Face("1"))


@pytest.mark.parametrize(
    "video", [VideoFormat(), VideoFormat(1280, 720), pytest.param(VideoFormat(360, 640), marks=pytest.mark.soak)]
)
def test_the_face_is_framed_from_the_brows_to_the_chin(video: VideoFormat) -> None:
    data, (left, top, right, bottom) = Wav2LipEngine()._frame(Face("1", portrait=SMILING), video)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (video.height, video.width, 3)
    marks = find_face(np.asarray(picture[:, :, ::-1]))
    assert left < marks.left_eye[0] < marks.right_eye[0] < right
    assert top < marks.left_eye[1]
    assert marks.mouth_bottom[1] < marks.chin[1] < bottom + 0.02
    shape = (bottom - top) * video.height / ((right - left) * video.width)
    assert 1.0 < shape < 1.4, "higher than wide, as the faces that it was trained on"


# -- The paste ---------------------------------------------------------------------------------------------------------
def speaker(width: int = 128, height: int = 96) -> model.Wav2LipSession:
    noise = np.random.default_rng(1).integers(0, 255, (200, 300, 3), np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    return model.Wav2LipSession(HostFace(portrait=data, options={"box": BOX}), Video(width, height, 25), 96)


def test_the_model_sees_the_face_twice_first_with_its_lower_half_black() -> None:
    given = speaker().input
    assert given.shape == (6, 96, 96)
    assert given.dtype == np.float32
    assert (given[:3, 48:] == 0).all()
    assert (given[:3, :48] == given[3:, :48]).all()
    assert 0 < given[3:].max() <= 1


def test_only_the_lower_face_changes() -> None:
    subject = speaker()
    before = np.array(subject.idle[0])
    after = subject.paste(np.full((96, 96, 3), 255, np.uint8))
    luma_before, luma_after = model.planes(before)[0].astype(int), model.planes(after)[0].astype(int)
    changed = np.abs(luma_after - luma_before) > 3
    rows, columns = np.nonzero(changed)
    middle = 24 + 0.42 * 48  # the box is the middle half of 96 rows
    assert rows.min() >= middle - 1
    assert rows.max() < 72
    assert columns.min() >= 28
    assert columns.max() < 100
    assert luma_after[62, 60:70].min() > 220, "the middle of it is the new face"
    assert (np.array(subject.idle[0]) == before).all()


def test_a_face_outside_the_picture_is_refused() -> None:
    data = cv2.imencode(".png", np.zeros((100, 400, 3), np.uint8))[1].tobytes()
    with pytest.raises(ModelError, match="outside"):
        model.Wav2LipSession(HostFace(portrait=data, options={"box": [0, 0.1, 0.1, 0.9]}), Video(64, 64, 25), 96)
    with pytest.raises(ModelError, match="where the face is"):
        model.Wav2LipSession(HostFace(portrait=data), Video(64, 64, 25), 96)


def test_the_still_is_cut_as_the_video() -> None:
    still = get_engine("wav2lip").still(Face("1", portrait=SMILING), VideoFormat(128, 128))
    assert still is not None
    assert np.array_equal(still, PortraitArtist(SMILING, MarksByHand()).render(*REST, width=128, height=128))
