"""The engine of drawn characters, from its options to a stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatars.characters import CHARACTERS
from avatars.engines import atlas as atlas_module
from avatars.engines import get_engine
from avatars.engines import puppet as puppet_module
from avatars.engines.base import Face, VideoFormat, VideoFrame
from avatars.engines.pose_plan import Grid
from avatars.engines.puppet import PuppetEngine
from molts.errors import BadConfiguration
from tests.avatars.engines.artist import RoundFace

VIDEO = VideoFormat(96, 96)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("avatars.engines.cache._folder", tmp_path)
    monkeypatch.setattr(atlas_module, "GRIDS", (Grid(3, 3),))
    monkeypatch.setattr(puppet_module, "get_artist", lambda key: RoundFace(key=f"round {key}"))
    return tmp_path


async def test_a_face_is_prepared_once_and_then_opens(folder: Path) -> None:
    engine, face, shares = get_engine("puppet"), Face("v1"), list[float]()
    engine.prepare(face, VIDEO, shares.append)
    assert shares[-1] == 1.0
    assert len(list((folder / "poses").glob("*.poses"))) == 1
    engine.prepare(face, VIDEO, shares.clear)  # type: ignore[arg-type]
    assert shares, "it was there already"
    stream = await engine.open_stream(face, VIDEO)
    assert isinstance(await anext(aiter(stream)), VideoFrame)
    await stream.aclose()


async def test_a_face_that_was_not_prepared_opens_too(folder: Path) -> None:
    stream = await PuppetEngine().open_stream(Face("v1", options={"character": "otto", "motion": 0.5}), VIDEO)
    assert isinstance(await anext(aiter(stream)), VideoFrame)
    await stream.aclose()


def test_the_form_offers_every_character() -> None:
    schema = PuppetEngine.options.model_json_schema()["properties"]["character"]
    assert schema["enum"] == list(CHARACTERS)
    assert schema["default"] in CHARACTERS


@pytest.mark.parametrize(
    ("options", "attr"),
    [({"character": "nobody"}, "character"), ({"motion": 2}, "motion"), ({"motoin": 1}, "motoin")],
)
def test_wrong_options_are_named(options: dict[str, object], attr: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        PuppetEngine().parse_options(options)
    assert refused.value.attr == attr
    assert "Drawn character" in refused.value.detail


def test_engines_say_when_they_were_told_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avatars.engines.cache._folder", None)
    with pytest.raises(BadConfiguration, match="keep_in"):
        PuppetEngine().prepare(Face("v1"), VIDEO)


def test_it_is_ready_on_any_machine() -> None:
    assert PuppetEngine().health().ready
    assert PuppetEngine.live
    assert not PuppetEngine.needs_portrait
