"""An unmodified OpenAI client against the speech server: what it understands, and what it is refused."""

from __future__ import annotations

import re
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import psutil
import pytest
from numpy.typing import NDArray

from tests.agent_runtime.speech.conftest import client
from tests.agent_runtime.speech.micro_server import SECRET
from tests.agent_runtime.speech.voices import RATE, SENTENCES, convert, long_mp3, say, silence, write_wav
from tests.agent_runtime.stack import wait_for

pytestmark = pytest.mark.slow
Server = tuple[subprocess.Popen[bytes], str]
MODEL = "micro-whisper"


def memory_of(process: psutil.Process) -> int:
    """Of the server and its decoders. A child that is just being made still shares all of its parent's: not counted."""
    total: int = process.memory_info().rss
    for child in process.children(recursive=True):
        with suppress(psutil.Error):
            if child.cmdline() != process.cmdline():
                total += child.memory_info().rss
    return total


@contextmanager
def peak_memory(pid: int) -> Iterator[Callable[[], float]]:
    """How many MB the server and its children grew at most inside the block."""
    process = psutil.Process(pid)
    before, peak, over = memory_of(process), [0], threading.Event()

    def watch() -> None:
        while not over.is_set():
            peak[0] = max(peak[0], memory_of(process))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield lambda: (peak[0] - before) / 1e6
    finally:
        over.set()
        watcher.join()


def test_it_lists_its_models(ask: openai.OpenAI) -> None:
    assert [model.id for model in ask.models.list()] == [MODEL, "whisper-1"]
    assert ask.models.retrieve("whisper-1").owned_by == "molts"
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        ask.models.retrieve("gpt-9")


@pytest.mark.parametrize("kind", ["wav", "mp3", "ogg", "opus", "flac", "m4a", "webm"])
def test_it_hears_every_kind_of_file(ask: openai.OpenAI, spoken: dict[str, Path], kind: str) -> None:
    answer = ask.audio.transcriptions.create(file=spoken[kind], model="whisper-1")

    assert answer.text == SENTENCES[0]
    assert answer.usage is not None
    assert answer.usage.type == "duration"


def test_verbose_json_has_segments_with_their_times(ask: openai.OpenAI, two_sentences: Path) -> None:
    answer = ask.audio.transcriptions.create(file=two_sentences, model=MODEL, response_format="verbose_json")

    assert answer.text == f"{SENTENCES[0]} {SENTENCES[1]}"
    assert answer.language == "english"
    assert answer.duration == pytest.approx(8, abs=2)
    assert answer.words is None
    assert answer.segments is not None
    first, second = answer.segments
    assert (first.id, second.id) == (0, 1)
    assert first.text.strip() == SENTENCES[0]
    assert 0.8 < first.start < 1.5
    assert second.start > first.end + 1.5
    assert first.tokens
    assert first.avg_logprob < 0


def test_verbose_json_has_words_when_asked(ask: openai.OpenAI, two_sentences: Path) -> None:
    answer = ask.audio.transcriptions.create(
        file=two_sentences, model=MODEL, response_format="verbose_json", timestamp_granularities=["word"], language="en"
    )

    assert answer.segments is None
    assert answer.words is not None
    assert [word.word for word in answer.words] == f"{SENTENCES[0]} {SENTENCES[1]}".split()
    starts = [word.start for word in answer.words]
    assert starts == sorted(starts)
    assert answer.words[-1].end <= answer.duration
    both = ask.audio.transcriptions.create(
        file=two_sentences,
        model=MODEL,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert both.words
    assert both.segments


def test_text_srt_and_vtt(ask: openai.OpenAI, two_sentences: Path) -> None:
    text, srt, vtt = (
        ask.audio.transcriptions.create(file=two_sentences, model=MODEL, response_format=kind)
        for kind in ("text", "srt", "vtt")
    )

    assert text == f"{SENTENCES[0]} {SENTENCES[1]}\n"
    blocks = srt.strip().split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == ["1", "2"]
    assert all(re.fullmatch(r"[\d:]{8},\d{3} --> [\d:]{8},\d{3}", block.split("\n")[1]) for block in blocks)
    assert vtt.startswith("WEBVTT\n\n00:00:0")
    assert vtt.count(" --> ") == 2


def test_a_stream_tells_each_segment_and_then_all(ask: openai.OpenAI, two_sentences: Path) -> None:
    events = list(ask.audio.transcriptions.create(file=two_sentences, model=MODEL, stream=True))

    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == events[-1].text
    assert events[-1].text == f"{SENTENCES[0]} {SENTENCES[1]}"


def test_silence_gives_no_words(ask: openai.OpenAI, tmp_path: Path) -> None:
    quiet = write_wav(tmp_path / "quiet.wav", silence(5))

    answer = ask.audio.transcriptions.create(file=quiet, model=MODEL, response_format="verbose_json")
    events = list(ask.audio.transcriptions.create(file=quiet, model=MODEL, stream=True))

    assert (answer.text, answer.segments, answer.duration) == ("", [], 5)
    assert [event.type for event in events] == ["transcript.text.done"]


@pytest.mark.soak
def test_ten_minutes_are_heard_in_the_memory_of_two(ask: openai.OpenAI, speech_server: Server, tmp_path: Path) -> None:
    said = [say(sentence, tmp_path) for sentence in SENTENCES]
    parts, texts, length = list[NDArray[np.int16]](), list[str](), 0
    while length < 600 * RATE:
        index = len(texts) % len(SENTENCES)
        parts += [said[index], silence(1.5)]
        texts.append(SENTENCES[index])
        length += len(said[index]) + int(1.5 * RATE)
    whole = write_wav(tmp_path / "whole.wav", np.concatenate(parts))
    recording = convert(whole, tmp_path / "ten.wav", "-ar", "48000", "-ac", "2")
    start = convert(whole, tmp_path / "two.wav", "-ar", "48000", "-ac", "2", "-t", "120")
    assert recording.stat().st_size > 110e6

    with peak_memory(speech_server[0].pid) as grown_by_two:
        ask.audio.transcriptions.create(file=start, model=MODEL)
    with peak_memory(speech_server[0].pid) as grown_by_ten:
        began = time.monotonic()
        answer = ask.audio.transcriptions.create(
            file=recording, model=MODEL, response_format="verbose_json", language="en"
        )
        took = time.monotonic() - began

    print(f"10 minutes: {took:.1f} s; memory +{grown_by_two():.0f} MB for two, +{grown_by_ten():.0f} MB more for ten")
    assert answer.duration == pytest.approx(length / RATE, abs=0.1)
    assert answer.segments is not None
    heard, expected = answer.text.split(), " ".join(texts).split()
    assert abs(len(heard) - len(expected)) < 0.02 * len(expected)
    assert sum(segment.text.strip() in SENTENCES for segment in answer.segments) > 0.9 * len(texts)
    # The decoder's process is measured too: 40 MB that are not there before and after.
    assert grown_by_ten() < 90


def test_ten_hours_are_refused_in_little_memory(ask: openai.OpenAI, speech_server: Server, tmp_path: Path) -> None:
    recording = long_mp3(tmp_path, hours=10)

    with peak_memory(speech_server[0].pid) as grown, pytest.raises(openai.BadRequestError) as refusal:
        ask.audio.transcriptions.create(file=recording, model=MODEL)

    print(f"10 hours: memory +{grown():.0f} MB")
    assert refusal.value.code == "audio_too_long"
    assert "longer than 60 minutes" in refusal.value.message
    assert grown() < 100


def test_a_client_that_hangs_up_leaves_no_work_behind(
    ask: openai.OpenAI, speech_server: Server, uploads: Path, tmp_path: Path
) -> None:
    said = np.concatenate([say(SENTENCES[0], tmp_path), silence(1)])
    recording = write_wav(tmp_path / "long.wav", np.tile(said, int(3000 * RATE / len(said))))

    with pytest.raises(openai.APITimeoutError):
        ask.with_options(timeout=2).audio.transcriptions.create(file=recording, model=MODEL)

    process = psutil.Process(speech_server[0].pid)
    wait_for("the decoder's end", lambda: not process.children(), seconds=20)
    wait_for("an empty queue", lambda: state_of(speech_server)["waiting"] == 0, seconds=20)
    time.sleep(1)  # what was in the model's hands then is done
    decodes = state_of(speech_server)["decodes"]["file"]
    time.sleep(1)
    assert state_of(speech_server)["decodes"]["file"] == decodes > 0
    assert list(uploads.rglob("*.upload*")) == []


def state_of(server: Server) -> Any:
    headers = {"Authorization": f"Bearer {SECRET}"}
    return httpx2.get(server[1].removesuffix("/v1") + "/healthz", headers=headers, timeout=5).json()


def test_a_header_that_promises_ten_hours_is_not_believed(ask: openai.OpenAI, tmp_path: Path) -> None:
    said = write_wav(tmp_path / "said.wav", say(SENTENCES[0], tmp_path)).read_bytes()
    promised = bytearray(said)
    promised[40:44] = struct.pack("<I", 36_000 * RATE * 2)
    promised[4:8] = struct.pack("<I", 36_000 * RATE * 2 + 36)
    (tmp_path / "promise.wav").write_bytes(promised)

    assert ask.audio.transcriptions.create(file=tmp_path / "promise.wav", model=MODEL).text == SENTENCES[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("story.wav", b"Once upon a time there was a text file.\n" * 100, "not sound that can be read"),
        ("empty.wav", b"", "empty"),
        ("cut.wav", b"RIFF\x24\x00\x00\x00WAVEfmt ", "not sound that can be read"),
        ("page.mp3", b"<!doctype html><html><body>404</body></html>", "not sound that can be read"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "not sound that can be read"),
        ("list.wav", b"ffconcat version 1.0\nfile /etc/passwd\n", "not sound that can be read"),
        ("noise.ogg", b"OggS" + bytes(range(256)) * 40, "not sound that can be read"),
    ],
)
def test_what_is_no_sound_is_refused(
    ask: openai.OpenAI, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)

    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refusal:
            ask.audio.transcriptions.create(file=tmp_path / name, model=MODEL, stream=stream)
        assert message in refusal.value.message
        assert (refusal.value.code, refusal.value.param) == ("invalid_audio", "file")
        assert refusal.value.type == "invalid_request_error"


def test_a_film_without_sound_is_refused(ask: openai.OpenAI, tmp_path: Path) -> None:
    film = tmp_path / "silent.mp4"
    command = [
        "ffmpeg",
        "-loglevel",
        "error",
        "-f",
        "lavfi",
        "-i",
        "color=size=64x64:rate=5:duration=1",
        "-c:v",
        "mpeg4",
        "-an",
    ]
    subprocess.run([*command, str(film)], check=True, timeout=30)

    with pytest.raises(openai.BadRequestError, match="no sound track"):
        ask.audio.transcriptions.create(file=film, model=MODEL)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"language": "klingon"}, "language"),
        ({"temperature": 7}, "temperature"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities"),
        ({"response_format": "srt", "stream": True}, "response_format"),
        ({"include": ["logprobs"]}, "include"),
        ({"prompt": "x" * 3000}, "prompt"),
    ],
)
def test_a_wrong_field_is_named(
    ask: openai.OpenAI, spoken: dict[str, Path], fields: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        ask.audio.transcriptions.create(file=spoken["wav"], model=MODEL, **fields)  # type: ignore[call-overload]

    assert refusal.value.param == param
    assert param in refusal.value.message


def test_a_wrong_model_is_not_found(ask: openai.OpenAI, spoken: dict[str, Path]) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        ask.audio.transcriptions.create(file=spoken["wav"], model="gpt-9-hear")

    assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")
    assert "micro-whisper, whisper-1" in refusal.value.message


def test_a_wrong_secret_is_refused(speech_server: Server, spoken: dict[str, Path]) -> None:
    with client(speech_server[1], key="guess") as stranger:
        with pytest.raises(openai.AuthenticationError) as refusal:
            stranger.audio.transcriptions.create(file=spoken["wav"], model=MODEL)
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()

    assert refusal.value.code == "invalid_api_key"
    assert "guess" not in refusal.value.message


def test_a_file_that_is_too_large_is_refused(ask: openai.OpenAI, speech_server: Server, tmp_path: Path) -> None:
    large = tmp_path / "large.wav"
    with large.open("wb") as file:
        file.truncate(300_000_000)

    with peak_memory(speech_server[0].pid) as grown, pytest.raises(openai.APIStatusError) as refusal:
        ask.audio.transcriptions.create(file=large, model=MODEL)

    assert refusal.value.status_code == 413
    assert refusal.value.code == "file_too_large"
    assert "200 MB" in refusal.value.message
    assert grown() < 30


def test_prompt_and_hotwords_are_taken(ask: openai.OpenAI, spoken: dict[str, Path]) -> None:
    answer = ask.audio.transcriptions.create(
        file=spoken["wav"], model=MODEL, language="en-GB", prompt="hello", extra_body={"hotwords": "time"}
    )

    assert "time" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/audio/translations", 404, "not_found"),
        ("GET", "/audio/transcriptions", 405, "method_not_allowed"),
        ("POST", "/audio/transcriptions", 400, "invalid"),
    ],
)
def test_a_wrong_path_method_or_body_is_told_in_openai_form(
    speech_server: Server, method: str, path: str, status: int, code: str
) -> None:
    headers = {"Authorization": f"Bearer {SECRET}"}
    answer = httpx2.request(method, speech_server[1] + path, headers=headers, timeout=10)

    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


def test_nothing_is_left_behind(
    ask: openai.OpenAI, speech_server: Server, spoken: dict[str, Path], uploads: Path
) -> None:
    ask.audio.transcriptions.create(file=spoken["wav"], model=MODEL)

    process = psutil.Process(speech_server[0].pid)
    wait_for("the decoder's end", lambda: not process.children(), seconds=20)
    assert list(uploads.rglob("*.upload*")) == []
    assert [file.path for file in process.open_files() if ".upload" in file.path] == []
