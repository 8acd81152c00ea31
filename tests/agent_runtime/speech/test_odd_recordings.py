"""Recordings that are unlike most: whose format changes, whose clock has holes, whose speech is in one odd channel."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import openai
import pytest
from numpy.typing import NDArray

from agent_runtime.speech.decode_audio import AudioTooLong, Hole, decode_audio
from agent_runtime.speech.pieces import cut_at_pauses
from tests.agent_runtime.speech.voices import RATE, SENTENCES, convert, say, silence, write_wav
from tests.agent_runtime.stack import ROOT

CASES = ROOT / "tests" / "fixtures" / "speech"
HELLO, TABLE = SENTENCES[0], SENTENCES[1]
THREE_HOURS = 3 * 3600.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd")


@pytest.fixture(scope="module")
def hello(folder: Path) -> Path:
    return write_wav(folder / "hello.wav", say(HELLO, folder))


@pytest.fixture(scope="module")
def table(folder: Path) -> Path:
    return write_wav(folder / "table.wav", say(TABLE, folder))


def segments(ask: openai.OpenAI, path: Path) -> list[tuple[str, float, float]]:
    answer = ask.audio.transcriptions.create(
        file=path, model="whisper-1", response_format="verbose_json", language="en", timeout=100
    )
    return [(segment.text.strip(), segment.start, segment.end) for segment in answer.segments or []]


def text_of(ask: openai.OpenAI, path: Path) -> str:
    return " ".join(text for text, _, _ in segments(ask, path))


async def decoded(path: Path, *, max_seconds: float = 60) -> list[NDArray[np.float32] | Hole]:
    return [chunk async for chunk in decode_audio(path, max_seconds=max_seconds)]


def holes(chunks: Sequence[NDArray[np.float32] | Hole]) -> list[float]:
    return [chunk.samples / RATE for chunk in chunks if isinstance(chunk, Hole)]


def sound(chunks: Sequence[NDArray[np.float32] | Hole]) -> NDArray[np.float32]:
    whole: NDArray[np.float32] = np.concatenate([chunk for chunk in chunks if not isinstance(chunk, Hole)])
    return whole


def loudness(samples: NDArray[np.floating[Any]]) -> float:
    return float(np.sqrt(np.mean(samples**2)))


# -- a format that changes ---------------------------------------------------------------------------------------------
STEREO_44, MONO_24, MONO_44, STEREO_48 = (["-ar", rate, "-ac", channels] for rate, channels in
                                          [("44100", "2"), ("24000", "1"), ("44100", "1"), ("48000", "2")])  # fmt: skip
BARE = ["-id3v2_version", "0", "-write_xing", "0"]
JOINED = {
    "adts aac, rate and channels": ("aac", STEREO_44, "aac", MONO_24),
    "adts aac, mono then stereo": ("aac", MONO_44, "aac", STEREO_44),
    "mp3, stereo then mono": ("mp3", [*STEREO_44, *BARE], "mp3", [*MONO_44, *BARE]),
    "mp3, with tags between": ("mp3", STEREO_44, "mp3", MONO_24),
    "chained ogg, one format": ("opus", ["-ac", "1"], "opus", ["-ac", "1"]),
    "chained ogg, opus with other channels": ("opus", ["-ac", "1"], "opus", ["-ac", "2"]),
    "chained ogg, vorbis at another rate": ("ogg", MONO_44, "ogg", STEREO_48),
    "chained ogg, another codec": ("ogg", MONO_44, "opus", ["-ac", "2"]),
    "flac behind flac": ("flac", MONO_24, "flac", STEREO_48),
    "webm behind webm": ("webm", ["-ac", "1"], "webm", ["-ac", "2"]),
}


OFTEN = ("adts aac, mono then stereo", "mp3, with tags between", "chained ogg, another codec", "webm behind webm")


@pytest.mark.parametrize(
    "joined", [each if each in OFTEN else pytest.param(each, marks=pytest.mark.soak) for each in JOINED]
)
def test_all_of_a_file_whose_format_changes_is_heard(
    ask: openai.OpenAI, hello: Path, table: Path, tmp_path: Path, joined: str
) -> None:
    kind, options, next_kind, next_options = JOINED[joined]
    parts = [
        convert(hello, tmp_path / f"first.{kind}", *options),
        convert(table, tmp_path / f"second.{next_kind}", *next_options),
    ]
    path = tmp_path / f"joined.{kind}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))

    heard = segments(ask, path)

    assert " ".join(text for text, _, _ in heard) == f"{HELLO} {TABLE}"
    assert 1.9 < heard[-1][1] < 2.6, "the second begins where the first ends"


def test_an_mp3_whose_rate_changes_is_heard_to_its_end(ask: openai.OpenAI) -> None:
    heard = text_of(ask, CASES / "mp3-rate-changes-44100-48000.mp3")

    assert heard == f"{HELLO} book a table for two tomorrow"


async def test_all_links_of_a_chain_count_against_the_limit(hello: Path, tmp_path: Path) -> None:
    link = convert(hello, tmp_path / "link.opus").read_bytes()
    (tmp_path / "chain.ogg").write_bytes(10 * link)

    assert len(sound(await decoded(tmp_path / "chain.ogg"))) / RATE == pytest.approx(21.8, abs=0.3)
    with pytest.raises(AudioTooLong):
        await decoded(tmp_path / "chain.ogg", max_seconds=15)


async def test_a_damaged_link_costs_only_itself(hello: Path, tmp_path: Path) -> None:
    link = convert(hello, tmp_path / "link.opus").read_bytes()
    (tmp_path / "chain.ogg").write_bytes(link + link[: len(link) // 2] + bytes(3000) + link)

    assert len(sound(await decoded(tmp_path / "chain.ogg"))) / RATE > 4.3


# -- the container's clock ---------------------------------------------------------------------------------------------
def shifted(source: Path, target: Path, *, after: float, by: float, kind: Sequence[str] = ()) -> Path:
    """A copy whose packets from `after` seconds on are `by` seconds later."""
    moved = f"setts=ts='if(gte(PTS*TB,{after}),PTS+{by}/TB,PTS)'"
    return convert(source, target, "-c:a", "copy", "-bsf:a", moved, *kind)


@pytest.fixture(scope="module")
def both(hello: Path, table: Path, folder: Path) -> Path:
    """Two sentences; the second begins at 4 s."""
    first = say(HELLO, folder)
    parts = [first, silence(4 - len(first) / RATE), say(TABLE, folder), silence(1)]
    return write_wav(folder / "both.wav", np.concatenate(parts))


def test_a_film_whose_sound_begins_at_three_seconds_has_its_words_there(ask: openai.OpenAI) -> None:
    ((text, start, end),) = segments(ask, CASES / "mp4-audio-starts-at-3s.mp4")
    cues = ask.audio.transcriptions.create(
        file=CASES / "mp4-audio-starts-at-3s.mp4", model="whisper-1", response_format="srt", language="en"
    )

    assert text == HELLO
    assert start == pytest.approx(3.0, abs=0.15)
    assert end == pytest.approx(4.8, abs=0.3)
    assert cues.startswith("1\n00:00:03,")


@pytest.mark.parametrize(
    "kind", ["m4a", "webm", *(pytest.param(each, marks=pytest.mark.soak) for each in ("mka", "ogg"))]
)
def test_sound_that_begins_late_has_its_words_there(ask: openai.OpenAI, hello: Path, tmp_path: Path, kind: str) -> None:
    source = convert(hello, tmp_path / f"source.{kind}")
    late = tmp_path / f"late.{kind}"
    command = ["ffmpeg", "-loglevel", "error", "-itsoffset", "5", "-i", str(source), "-c", "copy", str(late)]
    subprocess.run(command, check=True, timeout=30)

    ((text, start, _),) = segments(ask, late)

    assert text == HELLO
    assert start == pytest.approx(5.0, abs=0.2)


@pytest.mark.parametrize(
    ("kind", "by"),
    [
        ("webm", 5.0),
        ("m4a", 1.5),
        *(pytest.param(*each, marks=pytest.mark.soak) for each in (("webm", 1.0), ("mka", 30.0), ("m4a", 5.0))),
    ],
)
def test_a_hole_is_silence(ask: openai.OpenAI, both: Path, tmp_path: Path, kind: str, by: float) -> None:
    source = convert(both, tmp_path / f"whole.{kind}")
    holed = shifted(source, tmp_path / f"holed.{kind}", after=3.0, by=by)

    heard = segments(ask, holed)

    assert [text for text, _, _ in heard] == [HELLO, TABLE]
    assert heard[0][1] == pytest.approx(0.0, abs=0.2)
    assert heard[1][1] == pytest.approx(4.0 + by, abs=0.2)


@pytest.mark.parametrize("kind", ["webm", "m4a"])
async def test_a_jump_of_three_hours_is_neither_too_long_nor_made_of_silence(
    ask: openai.OpenAI, both: Path, tmp_path: Path, kind: str
) -> None:
    source = convert(both, tmp_path / f"whole.{kind}")
    holed = shifted(source, tmp_path / f"holed.{kind}", after=3.0, by=THREE_HOURS)

    chunks = await decoded(holed)  # of at most a minute
    heard = segments(ask, holed)  # of at most an hour

    assert holes(chunks) == [pytest.approx(THREE_HOURS, abs=0.1)]
    assert len(sound(chunks)) / RATE == pytest.approx(7.7, abs=0.3)
    assert [text for text, _, _ in heard] == [HELLO, TABLE]
    assert heard[1][1] == pytest.approx(THREE_HOURS + 4.0, abs=0.2)


async def test_a_clock_that_tells_the_date_is_not_believed(both: Path, tmp_path: Path) -> None:
    source = convert(both, tmp_path / "whole.webm")
    dated = shifted(source, tmp_path / "dated.webm", after=-1, by=1_790_000_000)

    chunks = await decoded(dated)

    assert holes(chunks) == []
    assert len(sound(chunks)) / RATE == pytest.approx(7.7, abs=0.3)


async def test_a_coarse_clock_makes_no_holes(both: Path, tmp_path: Path) -> None:
    source = convert(both, tmp_path / "whole.webm")
    jittery = convert(source, tmp_path / "jittery.webm", "-c:a", "copy", "-bsf:a", "setts=ts='PTS+40*mod(N,2)'")

    whole, shaken = sound(await decoded(source)), sound(await decoded(jittery))

    assert np.array_equal(whole, shaken)


async def test_nothing_of_a_hole_is_held_and_all_before_it_is_cut_out() -> None:
    tone = np.full(RATE, 0.5, dtype=np.float32)

    async def chunks() -> object:
        for chunk in (tone, Hole(100 * 3600 * RATE), tone, tone, Hole(RATE), tone):
            yield chunk

    pieces = [piece async for piece in cut_at_pauses(chunks(), find_speech=lambda window: [(0, len(window))])]  # type: ignore[arg-type]

    after = 1 + 100 * 3600.0
    assert [(piece.start, len(piece.samples) / RATE) for piece in pieces] == [(0, 1), (after, 2), (after + 3, 1)]


# -- channels ----------------------------------------------------------------------------------------------------------
def test_channels_of_opposite_phase_are_heard(ask: openai.OpenAI) -> None:
    assert text_of(ask, CASES / "stereo-opposite-phase.wav") == HELLO


def write_channels(path: Path, rows: Sequence[NDArray[np.int16]]) -> Path:
    """A WAV file with these channels; `path` may be of another kind."""
    length = max(map(len, rows))
    frames = np.stack([np.pad(row, (0, length - len(row))) for row in rows], axis=1)
    with av.open(str(path), "w") as container:
        codec = "flac" if path.suffix == ".flac" else "pcm_s16le"
        layout = {1: "mono", 2: "stereo", 4: "quad", 6: "5.1"}.get(len(rows), f"{len(rows)}C")
        stream: Any = container.add_stream(codec, rate=RATE, layout=layout)
        frame = av.AudioFrame.from_ndarray(frames.reshape(1, -1).astype(np.int16), format="s16", layout=layout)
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def noise(length: int, *, peak: int, seed: int = 0) -> NDArray[np.int16]:
    made = np.random.default_rng(seed).uniform(-peak, peak, length)
    return made.astype(np.int16)


@pytest.mark.parametrize(
    ("channels", "speaks"),
    [(2, 1), (6, 5), *(pytest.param(*each, marks=pytest.mark.soak) for each in ((6, 2), (6, 3), (7, 6), (16, 9)))],
)
async def test_speech_in_one_channel_of_many_is_as_loud_as_alone(
    ask: openai.OpenAI, folder: Path, tmp_path: Path, channels: int, speaks: int
) -> None:
    said = say(HELLO, folder)
    rows = [said if channel == speaks else noise(len(said), peak=30, seed=channel) for channel in range(channels)]
    path = write_channels(tmp_path / "many.wav", rows)

    alone = loudness(said.astype(np.float32) / 32768)

    assert loudness(sound(await decoded(path))) == pytest.approx(alone, rel=0.15)
    assert text_of(ask, path) == HELLO


async def test_pairs_of_opposite_phase_do_not_cancel_each_other(
    ask: openai.OpenAI, folder: Path, tmp_path: Path
) -> None:
    said = say(HELLO, folder)
    music = noise(len(said), peak=500)
    path = write_channels(tmp_path / "quad.wav", [said, -said, music, -music])

    assert text_of(ask, path) == HELLO


def test_who_speaks_in_turn_in_either_channel_is_heard(ask: openai.OpenAI, folder: Path, tmp_path: Path) -> None:
    first, second = say(HELLO, folder), say(TABLE, folder) // 8  # the far end of a call is often softer
    left = np.concatenate([first, silence(1), silence(len(second) / RATE)])
    right = np.concatenate([silence(len(first) / RATE + 1), second])
    path = write_channels(tmp_path / "call.wav", [left, right])

    assert text_of(ask, path) == f"{HELLO} {TABLE}"


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
async def test_equal_channels_of_every_kind_of_sample_are_their_mean(folder: Path, tmp_path: Path, codec: str) -> None:
    said = say(HELLO, folder)
    stereo = write_channels(tmp_path / "stereo.wav", [said, said])

    heard = sound(await decoded(convert(stereo, tmp_path / "kind.wav", "-c:a", codec)))

    assert np.abs(heard - said.astype(np.float32) / 32768).max() < (0.02 if codec == "pcm_u8" else 0.0002)
