"""The words of a stream: as good as those of a whole file, and shown while they are spoken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pytest_django import Settings

from agent_runtime.speech.measure import edit_distance
from agent_runtime.speech.places import ListeningPlaces
from tests.agent_runtime.speech.live_server import serving
from tests.agent_runtime.speech.speaker import Clip, make_clips, speaking
from tests.agent_runtime.stack import MICRO_WHISPER

CLIPS = 8


@pytest.fixture
def places(tmp_path: Path, settings: Settings) -> ListeningPlaces:
    settings.MOLTS_SPEECH_URL, settings.MOLTS_WHISPER_MODEL = f"unix://{tmp_path}/s.sock", str(MICRO_WHISPER)
    return ListeningPlaces(sockets=(tmp_path / "s.sock",))


async def test_words_come_while_they_are_spoken_and_finals_hardly_correct_them(
    places: ListeningPlaces, tmp_path: Path
) -> None:
    clips = make_clips(CLIPS, tmp_path)
    errors = early = 0

    async def converse(mine: list[Clip]) -> None:
        nonlocal errors, early
        async with speaking() as speaker:
            for clip in mine:
                before = len(speaker.partials)
                errors += edit_distance(clip.said.split(), (await speaker.say(clip)).split())
                shown = [text for at, text in speaker.partials[before:] if at < speaker.spoken_at]
                early += any(set(text.split()) & set(clip.said.split()) for text in shown)

    async with serving(places) as server:
        await asyncio.gather(*(converse(clips[first::4]) for first in range(4)))
        figures = server.figures
    words = sum(len(clip.said.split()) for clip in clips)
    assert errors <= 0.1 * words
    assert early >= CLIPS / 2  # how early is for a benchmark to say: other programs may hold the machine
    assert figures.agreed_words >= words / 4
    assert figures.revised_words <= 1
