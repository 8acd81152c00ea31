"""What `measure_stt` counts, and what it prints for people and for programs."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from numpy.typing import NDArray
from pytest_django import Settings

from agent_runtime.speech.measure import (
    DEFAULT,
    FULL,
    SpokenSample,
    WindowResult,
    Windows,
    as_table,
    edit_distance,
    find_recordings,
    hear,
    words_of,
)
from agent_runtime.speech.transcript import SAMPLE_RATE, RecognisedSegment, Transcription
from molts.errors import BadInput
from tests.agent_runtime.speech.micro_server import MICRO_WHISPER
from tests.agent_runtime.speech.voices import SENTENCES, convert, say, silence, write_wav


@pytest.mark.parametrize(
    ("expected", "heard", "errors"),
    [
        ("", "", 0),
        ("a b c", "a b c", 0),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("a b c d", "a x c d", 1),
        ("a b c d", "a c d", 1),
        ("a b c d", "a b b c d e", 2),
        ("a b c", "c b a", 2),
    ],
)
def test_errors_are_changed_missing_and_added_words(expected: str, heard: str, errors: int) -> None:
    assert edit_distance(expected.split(), heard.split()) == errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, what's the Time?", ["hello", "what's", "the", "time"]),
        ("‘Don’t’ - he said: 42!", ["don't", "he", "said", "42"]),
        ("Straße CAFÉ", ["strasse", "café"]),
        ("今日は", ["今", "日", "は"]),
        ("नमस्ते", ["नमस्ते"]),
        (" .. — ", []),
    ],
)
def test_words_are_compared_as_they_sound(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_partials_cost_what_they_would_when_live() -> None:
    asked: list[tuple[float, float]] = []

    def decode(samples: NDArray[np.float32], floor: float) -> Transcription:
        asked.append((round(len(samples) / SAMPLE_RATE, 2), floor))
        time.sleep(0.3 if floor == FULL else 0.001)
        return Transcription("en", 1.0, 1.0, (RecognisedSegment(0, 1, " one three"),))

    sound = np.ones(int(2.1 * SAMPLE_RATE), dtype=np.float32)
    quick, slow = WindowResult(Windows(5, 15)), WindowResult(Windows(FULL, 15))
    for result in (quick, slow):
        hear(result, SpokenSample(Path("a.wav"), "One two three."), [sound], 10.0, decode, 0.3)

    assert asked[:6] == [(0.8, 5), (1.1, 5), (1.4, 5), (1.7, 5), (2.0, 5), (2.1, 15)]
    assert [at for at, _ in asked[6:]] == [0.8, pytest.approx(1.4, abs=0.1), pytest.approx(2.0, abs=0.1), 2.1]
    assert (quick.words, quick.errors) == (3, 1)
    assert quick.word_error_rate == pytest.approx(1 / 3)
    assert slow.live_factor > 0.09 > quick.live_factor
    assert quick.file_factor == pytest.approx(quick.lag(50) / 10)


def test_the_table_marks_the_default() -> None:
    result = WindowResult(DEFAULT, words=200, errors=3, sound_seconds=100, final_seconds=[0.1] * 19 + [0.5])

    lines = as_table([WindowResult(Windows(FULL, FULL)), result]).splitlines()

    assert [line.split("  ")[0] for line in lines[2:]] == [
        "partials full, finals full",
        "partials from 10 s, finals from 15 s *",
    ]
    assert lines[3].split()[-6:] == ["0.024", "s", "100", "ms", "120", "ms"]
    assert "1.5%" in lines[3]
    assert len({len(line) for line in lines}) == 1


def test_it_says_what_a_folder_lacks(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a folder"):
        find_recordings(tmp_path / "none")
    (tmp_path / "a.wav").touch()
    with pytest.raises(BadInput, match=r"1 sound files, none with its text"):
        find_recordings(tmp_path)
    (tmp_path / "a.txt").write_text(" ... ")
    with pytest.raises(BadInput, match="holds no words"):
        find_recordings(tmp_path)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Three sentences, one of them as MP3, one with a pause inside."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for index in range(3):
        said = say(SENTENCES[index], tmp_path)
        if index == 2:
            said = np.concatenate([said, silence(1.5), said])
        write_wav(folder / f"{index}.wav", said)
        (folder / f"{index}.txt").write_text(f"{SENTENCES[index]}. " * (2 if index == 2 else 1))
    convert(folder / "1.wav", folder / "1.mp3")
    (folder / "1.wav").unlink()
    return folder


@pytest.mark.slow
def test_the_command_puts_the_settings_side_by_side(settings: Settings, recordings: Path) -> None:
    settings.MOLTS_WHISPER_MODEL, settings.MOLTS_WHISPER_DEVICE = str(MICRO_WHISPER), "cpu"
    out = io.StringIO()

    call_command("measure_stt", str(recordings), "--language", "en", stdout=out)

    report = out.getvalue()
    assert report.startswith("micro-whisper (cpu, int8")
    assert "3 recordings" in report
    assert "partials from 10 s, finals from 15 s *" in report
    out = io.StringIO()
    call_command("measure_stt", str(recordings), "--json", "--limit", "2", stdout=out)
    full, default, *_ = json.loads(out.getvalue())["results"]
    assert default["is_default"]
    assert default["words"] == sum(len(SENTENCES[index].split()) for index in range(2))
    assert default["word_error_rate"] <= full["word_error_rate"] + 0.005
    assert default["partials"] > default["utterances"] == 2


def test_the_command_says_what_is_wrong(settings: Settings, recordings: Path, tmp_path: Path) -> None:
    settings.MOLTS_WHISPER_MODEL = str(MICRO_WHISPER)
    with pytest.raises(CommandError, match="is not a folder"):
        call_command("measure_stt", str(tmp_path / "none"))
    with pytest.raises(CommandError, match="language 'klingon'"):
        call_command("measure_stt", str(recordings), "--language", "klingon")
    with pytest.raises(CommandError, match="is not on this machine"):
        call_command("measure_stt", str(recordings), "--model", "no-such-model")
    (recordings / "0.wav").write_text("no sound")
    with pytest.raises(CommandError, match=r"0\.wav: .*not sound"):
        call_command("measure_stt", str(recordings))
