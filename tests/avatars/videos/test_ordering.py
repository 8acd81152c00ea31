"""What can be ordered: pauses as they are meant, lengths that can be made, words that say what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from avatars.snapshots import AgentSnapshot, AvatarSnapshot, Rung
from avatars.videos.ordering import plan_scene, plan_video
from avatars.videos.spec import Scene, ScriptPause
from avatars.videos.stages.speech import PieceFolder, speak_scene
from molts.errors import BadInput
from projects.providers.base import KeyedRung

MIRA = AvatarSnapshot(name="Mira", engine="puppet", options={"character": "mira"})


def scene_of(script: str) -> Scene:
    return Scene(script=script, language="en", voices=(Rung(provider="espeak"),), avatar=MIRA)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ('<break time="1.5s"/>', 1.5),
        ("<break time='200ms' />", 0.2),
        ('<BREAK TIME=".5s">', 0.5),
        ('<break time="99s"/>', 10),
    ],
)
def test_a_pause_is_a_pause(written: str, seconds: float) -> None:
    assert list(scene_of(f"One. {written} Two.").parts()) == ["One.", ScriptPause(seconds=seconds), "Two."]


@pytest.mark.parametrize(
    "written", ["<break/>", "<break time=1s/>", '<break time="1,5s"/>', "<break time=\u201c1s\u201d/>", "</break>"]
)
def test_what_was_meant_as_a_pause_is_not_spoken(written: str) -> None:
    agent = AgentSnapshot.model_construct(avatar=MIRA, voice=None, language="en")
    with pytest.raises(BadInput, match="Write a pause as"):
        plan_scene(agent=agent, script=f"One. {written} Two.")


@pytest.mark.parametrize("nothing", ["0s", "0ms", "0.00001s"])
def test_a_pause_of_nothing_ends_no_scene(nothing: str, tmp_path: Path) -> None:
    scene = scene_of(f'<break time="1s"/> <break time="{nothing}"/> <break time="2s"/>')

    async def pieces() -> list[float]:
        folder = PieceFolder(tmp_path)
        return [piece.seconds async for piece in speak_scene(scene, (KeyedRung("espeak"),), folder)]

    assert asyncio.run(pieces()) == [1.0, 2.0]


def test_what_would_be_too_long_is_refused_before_anybody_speaks() -> None:
    pauses = scene_of("Hello. " + '<break time="10s"/>' * 61)
    with pytest.raises(BadInput, match="longer than 600 s") as refused:
        plan_video(scenes=[pauses])
    assert refused.value.attr == "script"
    long = scene_of("word " * 2_000)
    with pytest.raises(BadInput) as refused:
        plan_video(scenes=[long, long])
    assert refused.value.attr == "scenes"
    plan_video(scenes=[long])
