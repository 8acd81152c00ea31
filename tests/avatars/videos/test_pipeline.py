"""The pipeline as it is: a real local voice, a drawn character, and what decoders find in the file."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil
import pytest
from django.core.management import CommandError, call_command
from numpy.typing import NDArray

from avatars.engines.base import AudioChunk, EngineFailed, PixelFormat, VideoFrame
from avatars.engines.visemes import Samples
from avatars.models import Agent, Avatar
from avatars.snapshots import AgentSnapshot, AvatarSnapshot, Rung
from avatars.videos import pipeline
from avatars.videos.children import child_environment
from avatars.videos.ordering import plan_scene, plan_video
from avatars.videos.pipeline import RenderedVideo, SceneVoices, make_video
from avatars.videos.report import StageFailed, VideoReport
from avatars.videos.spec import Scene, ScriptPause, VideoSpec, frame_size
from avatars.videos.stages import StageName, speech
from avatars.videos.stages.compose import LOUDNESS, SAMPLE_RATE, Composition, level, measure_loudness
from molts.errors import BadInput, Unavailable
from projects.providers.base import KeyedRung
from projects.providers.shared.speaking import speak_piece
from tests.avatars.engines.speech import best_lag, envelope
from tests.avatars.videos.stand_ins import probe

SCRIPT = "Hello, my name is Ada. We open at nine, and we close at five. Is there anything else that I can do for you?"
AVATAR = AvatarSnapshot(name="Ada", engine="puppet", options={"character": "mira"})
ESPEAK = (Rung(provider="espeak"),)
slow = pytest.mark.slow


def spec_of(script: str = SCRIPT, **asked: Any) -> VideoSpec:
    scene = Scene(script=script, language="en", voices=ESPEAK, avatar=AVATAR)
    return plan_video(scenes=[scene], **asked)


def make(spec: VideoSpec, folder: Path, report: VideoReport | None = None) -> RenderedVideo:
    voices = [SceneVoices(tuple(KeyedRung(rung.provider) for rung in scene.voices)) for scene in spec.scenes]
    return make_video(spec=spec, voices=voices, folder=folder, report=report or VideoReport())


def decoded(file: Path) -> tuple[list[NDArray[np.uint8]], Samples]:
    """Pictures (grey) and sound (SAMPLE_RATE) as a player decodes them."""
    with av.open(str(file)) as container:
        pictures = [np.asarray(frame.to_ndarray(format="gray"), np.uint8) for frame in container.decode(video=0)]
    with av.open(str(file)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        parts = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    return pictures, np.concatenate([part.to_ndarray().reshape(-1) for part in parts])


# -- Real parts -------------------------------------------------------------------------------------------------------
@slow
@pytest.mark.timeout(300)
def test_a_drawn_character_says_a_script_and_its_mouth_follows_the_sound(tmp_path: Path) -> None:
    report = VideoReport()

    made = make(spec_of(), tmp_path, report)

    streams = probe(made.file.read_bytes(), tmp_path)
    video, audio = streams["video"], streams["audio"]
    assert (video["codec_name"], video["pix_fmt"], video["width"], video["height"]) == ("h264", "yuv420p", 512, 512)
    assert video["avg_frame_rate"] == "25/1"
    assert (audio["codec_name"], audio["sample_rate"]) == ("aac", "48000")
    spoken = sum(piece.seconds for piece in made.pieces)
    assert spoken > 4
    assert float(video["duration"]) == pytest.approx(spoken, abs=0.04)
    assert float(audio["duration"]) == pytest.approx(spoken, abs=0.04)
    head = made.file.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat"), "it plays while it is loaded"
    thumbnail = cv2.imread(str(made.thumbnail))
    assert thumbnail is not None
    assert thumbnail.shape == (512, 512, 3)
    assert report.progress == 0.95
    assert list(report.stages) == [StageName.SPEECH, StageName.LIPSYNC, StageName.COMPOSE]

    pictures, sound = decoded(made.file)
    assert measure_loudness(sound) == pytest.approx(LOUDNESS, abs=1.0)
    correlation, lag = mouth_and_sound(pictures, sound)
    assert correlation >= 0.7
    assert abs(lag) <= 1, "in frames of 40 ms"


def mouth_and_sound(pictures: list[NDArray[np.uint8]], sound: Samples) -> tuple[float, int]:
    """How well the dark between the lips, where this character has them, follows the sound; by how many frames late."""
    opened = np.array([np.count_nonzero(picture[255:305, 215:297] < 70) for picture in pictures], float)
    loud = envelope(sound, SAMPLE_RATE, 25)
    count = min(len(opened), len(loud))
    return best_lag(opened[:count], loud[:count])


@slow
@pytest.mark.django_db
@pytest.mark.timeout(300)
def test_the_command_makes_the_file(agent: Agent, tmp_path: Path) -> None:
    avatar = Avatar.objects.create(project=agent.project, name="Ada", engine="puppet", options={"character": "mira"})
    Agent.objects.filter(pk=agent.pk).update(avatar=avatar)
    script, out = tmp_path / "script.txt", tmp_path / "ada.mp4"
    script.write_text("Good morning.", encoding="utf-8")

    said = StringIO()
    call_command("make_video", agent="ada", script=str(script), out=str(out), stdout=said)

    assert f"{out}: " in said.getvalue()
    assert probe(out.read_bytes(), tmp_path)["video"]["height"] == 512
    with pytest.raises(CommandError, match=r"no agent 'otto'. There are: ada"):
        call_command("make_video", agent="otto", script=str(script), out=str(out))


@slow
def test_scenes_follow_on_each_other(engine: Callable[[str], None], tmp_path: Path) -> None:
    scene = Scene(script="One.<break time='500ms'/>Two.", language="en", voices=ESPEAK, avatar=AVATAR)
    made = make(plan_video(scenes=[scene, scene], aspect="16:9", fps=30), tmp_path)

    video = probe(made.file.read_bytes(), tmp_path)["video"]
    assert (video["width"], video["height"], video["avg_frame_rate"]) == (910, 512, "30/1")
    assert [piece.text for piece in made.pieces] == ["One.", "", "Two."] * 2
    assert made.pieces[3].reused, "the same words by the same voice are spoken once"
    assert float(video["duration"]) == pytest.approx(sum(piece.seconds for piece in made.pieces), abs=0.08)


# -- Done once --------------------------------------------------------------------------------------------------------
@slow
def test_what_is_done_is_not_done_again(
    engine: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(spec_of("Hello there. This is the second sentence of it."), tmp_path)
    said = list(first.pieces)
    monkeypatch.setattr(speech, "build_chain", None)  # whoever speaks fails
    (tmp_path / f"{first.key}.json").unlink()

    report = VideoReport()
    second = make(spec_of("Hello there. This is the second sentence of it."), tmp_path, report)
    assert report.stages[StageName.SPEECH].reused
    assert not report.stages[StageName.COMPOSE].reused, "it was not known to be whole"
    written = second.file.stat().st_mtime_ns

    report = VideoReport()
    third = make(spec_of("Hello there. This is the second sentence of it."), tmp_path, report)
    assert report.stages[StageName.COMPOSE].reused
    assert third.file.stat().st_mtime_ns == written
    assert [(piece.text, piece.provider) for piece in third.pieces] == [(piece.text, "espeak") for piece in said]


@slow
def test_another_voice_goes_on_where_one_fails(
    engine: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def breaking(voice: Any, text: str, *, seconds: float) -> tuple[bytes, int]:
        asked.append(f"{voice.model}: {text}")
        if voice.model == "de" and len(asked) > 1:
            raise Unavailable("It is tired.")
        return await speak_piece(voice, text, seconds=seconds)

    monkeypatch.setattr(speech, "speak_piece", breaking)
    scene = spec_of("This is the first sentence. This is the second sentence.").scenes[0]
    spec = plan_video(scenes=[scene])
    voices = SceneVoices((KeyedRung("espeak", {"voice": "de"}), KeyedRung("espeak", {"voice": "en"})))

    made = make_video(spec=spec, voices=[voices], folder=tmp_path, report=VideoReport())

    assert [piece.model for piece in made.pieces] == ["de", "en"]
    assert len(asked) == 3

    monkeypatch.setattr(speech, "speak_piece", lambda *_, **__: fail())
    with pytest.raises(StageFailed, match=r"No voice speaks. .*tired.*tired") as caught:
        make_video(spec=spec, voices=[voices], folder=tmp_path / "anew", report=VideoReport())
    assert (caught.value.stage, caught.value.retryable) == (StageName.SPEECH, True)


async def fail() -> tuple[bytes, int]:
    raise Unavailable("It is tired.")


# -- Bounds -----------------------------------------------------------------------------------------------------------
def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "avatars.videos.rendering" in child.cmdline()
    ]


@slow
def test_one_that_nobody_wants_is_ended_in_every_stage(engine: Callable[[str], None], tmp_path: Path) -> None:
    engine("Endless")
    report = VideoReport()
    waiting = threading.Timer(0.5, report.dropped.set)
    waiting.start()
    started = time.monotonic()

    with pytest.raises(StageFailed, match="Nobody wants it") as caught:
        make(spec_of(), tmp_path, report)

    assert caught.value.code == "cancelled"
    assert time.monotonic() - started < 60
    assert not children()


@slow
def test_a_process_that_is_killed_is_a_crash_that_may_be_tried_again(
    engine: Callable[[str], None], tmp_path: Path
) -> None:
    engine("Endless")

    def kill() -> None:
        while not (found := children()):
            time.sleep(0.01)
        found[0].kill()

    threading.Thread(target=kill).start()
    with pytest.raises(StageFailed, match="crashed") as caught:
        make(spec_of(), tmp_path)

    assert (caught.value.stage, caught.value.retryable) == (StageName.LIPSYNC, True)


@slow
def test_one_that_takes_too_much_is_ended(
    engine: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine("Endless")
    monkeypatch.setattr(pipeline, "MOST_MEMORY", 1 << 20)
    with pytest.raises(StageFailed, match="of memory") as caught:
        make(spec_of(), tmp_path)
    assert not caught.value.retryable

    monkeypatch.setattr(pipeline, "MOST_MEMORY", 8 << 30)
    monkeypatch.setattr(pipeline, "PREPARE_SECONDS", 0.1)
    monkeypatch.setattr(pipeline, "SLOWEST", 0.01)
    with pytest.raises(StageFailed, match="was not done within"):
        make(spec_of(), tmp_path)
    assert not children()


@slow
def test_a_face_that_cannot_be_used_is_told_with_its_field(engine: Callable[[str], None], tmp_path: Path) -> None:
    engine("Faceless")
    with pytest.raises(StageFailed, match="No face was found") as caught:
        make(spec_of(), tmp_path)
    assert (caught.value.stage, caught.value.attr, caught.value.retryable) == (StageName.LIPSYNC, "portrait", False)


@slow
def test_one_that_becomes_too_long_is_refused(engine: Callable[[str], None], tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="longer than 2 s") as caught:
        make(spec_of().model_copy(update={"max_seconds": 2.0}), tmp_path)
    assert (caught.value.stage, caught.value.attr, caught.value.retryable) == (StageName.SPEECH, "script", False)


def test_the_process_that_renders_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "hidden")
    monkeypatch.setenv("OPENAI_API_KEY", "hidden")
    assert "hidden" not in child_environment().values()


# -- Composition ------------------------------------------------------------------------------------------------------
def picture(width: int, height: int, value: int, pixels: PixelFormat, seconds: float = 0.04) -> VideoFrame:
    size = width * height * 3 // (1 if pixels is PixelFormat.RGB24 else 2)
    return VideoFrame(np.full(size, value, np.uint8), width, height, pixels, seconds)


@pytest.mark.parametrize("pixels", PixelFormat)
def test_frames_of_odd_paces_become_even_and_sound_stays_with_them(pixels: PixelFormat, tmp_path: Path) -> None:
    composition = Composition(tmp_path / "out.mp4", 96, 64, 25)
    for number in range(10):
        composition.add_frame(picture(96, 64, 20 * number, pixels, seconds=0.08))
    composition.add_audio(AudioChunk(np.full(SAMPLE_RATE // 5, 6000, np.int16), SAMPLE_RATE))
    for _ in range(5):
        composition.add_frame(picture(96, 64, 128, pixels))

    composed = composition.finish()

    assert (composed.frames, composed.duration) == (25, 1.0)
    pictures, sound = decoded(tmp_path / "out.mp4")
    assert len(pictures) == 25
    assert np.abs(sound[: int(0.75 * SAMPLE_RATE)]).max() < 200 < np.abs(sound[int(0.81 * SAMPLE_RATE) :]).max()
    assert [path.name for path in tmp_path.iterdir() if "silent" in path.name] == []


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    composition = Composition(tmp_path / "out.mp4", 96, 64, 25)
    with pytest.raises(EngineFailed, match="48x64"):
        composition.add_frame(picture(48, 64, 0, PixelFormat.I420))
    with pytest.raises(EngineFailed, match="16000 Hz"):
        composition.add_audio(AudioChunk(np.zeros(9, np.int16), 16_000))
    with pytest.raises(EngineFailed, match="no picture"):
        composition.finish()
    composition.abandon()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("amplitude", [300, 3_000, 30_000])
def test_speech_becomes_as_loud_as_it_should_be(amplitude: int) -> None:
    time = np.arange(3 * SAMPLE_RATE + 77) / SAMPLE_RATE
    sound = (amplitude * np.sin(2 * np.pi * 440 * time)).astype(np.int16)

    levelled = level(sound, measure_loudness(sound))

    assert len(levelled) == len(sound)
    assert measure_loudness(levelled) == pytest.approx(LOUDNESS, abs=0.5)
    lag = int(np.argmax(np.correlate(levelled[:4096].astype(float), sound[:4096].astype(float), "full"))) - 4095
    assert lag == 0


def test_silence_stays_silence() -> None:
    silence = np.zeros(SAMPLE_RATE, np.int16)
    assert measure_loudness(silence) is None
    assert not level(silence, None).any()
    assert measure_loudness(np.zeros(0, np.int16)) is None


# -- Specs ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("resolution", "aspect", "size"),
    [
        ("512p", "1:1", (512, 512)),
        ("720p", "16:9", (1280, 720)),
        ("1080p", "9:16", (1080, 1920)),
        ("1080p", "4:5", (1080, 1350)),
        ("512p", "16:9", (910, 512)),
    ],
)
def test_sizes_are_even(resolution: str, aspect: str, size: tuple[int, int]) -> None:
    assert frame_size(resolution, aspect) == size


def test_a_script_has_pauses() -> None:
    script = "One. <break time=\"1.5s\"/> Two.<BREAK time='250ms'>Three <b>4</b> <break time='99s' />"
    parts = list(Scene(script=script, language="en", voices=ESPEAK, avatar=AVATAR).parts())
    assert parts == [
        "One.",
        ScriptPause(seconds=1.5),
        "Two.",
        ScriptPause(seconds=0.25),
        "Three <b>4</b>",
        ScriptPause(seconds=10),
    ]


def test_a_spec_is_read_as_it_was_stored() -> None:
    spec = spec_of(resolution="720p", aspect="4:5")
    assert VideoSpec.model_validate(spec.as_json()) == spec


@pytest.mark.parametrize(
    ("avatar", "script", "attr"),
    [
        (None, "Hello.", "avatar"),
        (AVATAR.model_copy(update={"engine": "still"}), "Hello.", "avatar"),
        (AVATAR.model_copy(update={"engine": "tavus"}), "Hello.", "avatar"),
        (AVATAR, " <break time='1s'/> ", "script"),
        (AVATAR, "a" * 10_001, "script"),
    ],
)
def test_what_cannot_be_made_is_refused_when_it_is_ordered(
    avatar: AvatarSnapshot | None, script: str, attr: str
) -> None:
    with pytest.raises(BadInput) as caught:
        plan_scene(agent=AgentSnapshot(name="Ada", avatar=avatar), script=script)
    assert caught.value.attr == attr


def test_an_agent_speaks_with_its_own_chain() -> None:
    chain: dict[str, tuple[Rung, ...]] = {
        "tts": (Rung(provider="openai", options={"voice": "nova"}), Rung(provider="espeak"))
    }
    scene = plan_scene(agent=AgentSnapshot(name="Ada", avatar=AVATAR, pipeline=chain, language="de"), script="Hallo.")
    assert (scene.voices, scene.language) == (chain["tts"], "de")


def test_nothing_of_an_earlier_video_is_left(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path, ignore_errors=True)
    folder = speech.PieceFolder(tmp_path)
    assert folder.find("there is none", "Hello.") is None
