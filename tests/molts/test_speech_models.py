"""`manage.py speech_models`: what it lists, how it fetches, what it says offline."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from projects.providers.faster_whisper import weights
from projects.providers.shared.hub import FetchProgress

WHISPER = Path(__file__).parents[1] / "fixtures" / "micro-whisper"


@pytest.fixture(autouse=True)
def data_folder(settings: Settings, tmp_path: Path) -> Path:
    settings.MOLTS_DATA_DIR, settings.MOLTS_WHISPER_MODEL, settings.MOLTS_OFFLINE = tmp_path, "", False
    return tmp_path


def fetched(data_folder: Path, name: str) -> None:
    folder = data_folder / "models" / "whisper" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(WHISPER)


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("speech_models", *arguments, stdout=out)
    return out.getvalue()


def test_it_lists_what_there_is_and_what_is_here(data_folder: Path) -> None:
    fetched(data_folder, "small")
    fetched(data_folder, "someone--their-whisper")

    lines = {line.split()[0]: line.split()[1:] for line in run().splitlines() if line}

    assert lines["base"] == ["145", "MB", "no", "in", "use,", "on", "the", "ladder"]
    assert lines["small"][:3] == ["484", "MB", "yes"]
    assert lines["someone/their-whisper"] == ["yes"]
    assert run("list") == run()


def test_it_lists_for_programs(settings: Settings) -> None:
    settings.MOLTS_WHISPER_MODEL = str(WHISPER)

    models: dict[str, Any] = {model["name"]: model for model in json.loads(run("list", "--json"))}

    assert models[str(WHISPER)] == {
        "name": str(WHISPER),
        "megabytes": None,
        "here": True,
        "chosen": True,
        "on_ladder": False,
    }
    assert models["tiny"]["on_ladder"]
    assert list(models)[:3] == ["tiny", "base", "small"]


def test_every_name_is_one_that_can_be_fetched() -> None:
    for model in json.loads(run("list", "--json")):
        assert weights.repository(model["name"])


def test_it_fetches_and_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(name: str, progress: FetchProgress | None = None) -> Path:
        asked.append(name)
        assert progress is not None
        progress(242_000_000, 484_000_000)
        return WHISPER

    monkeypatch.setattr(weights, "download", download)

    assert run("download", "small").splitlines() == [
        "small: [##########..........]  50 % of 484 MB",
        "small: fetched",
    ]
    assert asked == ["small"]


def test_it_fetches_nothing_that_is_here(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "download", lambda *_: pytest.fail("nothing was to be fetched"))
    fetched(data_folder, "tiny")

    assert "is here already" in run("download", "tiny")


def test_offline_it_says_so_in_one_line(settings: Settings) -> None:
    settings.MOLTS_OFFLINE = True
    out = io.StringIO()

    with pytest.raises(SystemExit) as end:
        call_command("speech_models", "download", "small", stdout=out)

    assert end.value.code == 1
    assert len(out.getvalue().splitlines()) == 1
    assert "MOLTS_OFFLINE forbids fetching it" in out.getvalue()


def test_a_fetch_that_is_broken_off_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, progress: FetchProgress | None = None) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "download", download)
    out = io.StringIO()

    with pytest.raises(SystemExit) as end:
        call_command("speech_models", "download", "small", stdout=out)

    assert end.value.code == 1
    assert out.getvalue() == "small: broken off. Start again to go on there.\n"


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(CommandError, match=r"neither a folder with a model nor a known name \(tiny\.en, tiny"):
        run("download", "enormous")
