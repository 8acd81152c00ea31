"""`manage.py fetch_models`: what it fetches, how it reports, what it says when the hub is away."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from django.core.management import call_command
from pytest_django import Settings

from molts.errors import Unavailable
from molts.management.commands import fetch_models
from molts.management.commands.fetch_models import Report, progress_bar
from projects.providers.faster_whisper import weights
from projects.providers.shared.hub import FetchProgress

WHISPER = Path(__file__).parents[1] / "fixtures" / "micro-whisper"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models asked for; the hub is stood in for."""
    asked: list[str] = []

    def download(name: str, progress: FetchProgress | None = None) -> Path:
        asked.append(name)
        if progress is not None:
            progress(50_000_000, 145_000_000)
        return WHISPER

    monkeypatch.setattr(weights, "download", download)
    return asked


def lines_of(*arguments: str) -> list[dict[str, object]]:
    out = io.StringIO()
    call_command("fetch_models", "--json", *arguments, stdout=out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_it_fetches_the_chosen_recogniser_and_reports(settings: Settings, fetched: list[str]) -> None:
    settings.MOLTS_WHISPER_MODEL = "small"

    lines = lines_of()

    assert fetched == ["small"]
    progress = next(line for line in lines if line["state"] == "progress")
    assert (progress["name"], progress["done"], progress["total"]) == ("recogniser (small)", 50_000_000, 145_000_000)
    assert lines[-1] == {"name": "recogniser (small)", "state": "done", "text": "fetched"}


def test_it_fetches_nothing_that_is_here(settings: Settings, fetched: list[str]) -> None:
    settings.MOLTS_WHISPER_MODEL = str(WHISPER)

    lines = lines_of()

    assert fetched == []
    assert lines[-1]["state"] == "done"


def test_it_never_fetches_the_voice_before_its_terms_are_accepted(settings: Settings, fetched: list[str]) -> None:
    settings.MOLTS_WHISPER_MODEL, settings.MOLTS_ACCEPT_VOICE_TERMS = str(WHISPER), False

    notes = [line for line in lines_of() if line["name"] == "natural voice"]

    assert [note["state"] for note in notes] == ["note"]
    assert "shows its terms" in str(notes[0]["text"])
    settings.MOLTS_ACCEPT_VOICE_TERMS = True
    assert set(fetch_models.missing_models()) == {"natural voice"}


def test_a_hub_out_of_reach_is_one_line_and_a_failing_status(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MOLTS_WHISPER_MODEL = "base"

    def refuse(name: str, progress: FetchProgress | None = None) -> Path:
        raise Unavailable("The hub is out of reach. Check the network.")

    monkeypatch.setattr(weights, "download", refuse)
    out = io.StringIO()

    with pytest.raises(SystemExit):
        call_command("fetch_models", "--json", stdout=out)

    last = json.loads(out.getvalue().splitlines()[-1])
    assert last == {
        "name": "recogniser (base)",
        "state": "failed",
        "text": "The hub is out of reach. Check the network.",
    }


def test_progress_is_told_at_most_once_a_second() -> None:
    lines: list[str] = []
    report = Report(lines.append, as_json=False)

    for done in range(1000):
        report.progress("recogniser (base)", done, 1000)

    assert lines == ["recogniser (base): [....................]   0 % of 0 MB"]


@pytest.mark.parametrize(
    ("done", "total", "bar"),
    [
        (0, 145_000_000, "[....................]   0 % of 145 MB"),
        (72_500_000, 145_000_000, "[##########..........]  50 % of 145 MB"),
        (145_000_000, 145_000_000, "[####################] 100 % of 145 MB"),
        (5, 0, "[....................]   0 % of 0 MB"),
    ],
)
def test_the_bar_shows_the_share(done: int, total: int, bar: str) -> None:
    assert progress_bar(done, total) == bar
