"""Forms as all kinds of clients write them: names in any encoding, headers in any case, empty and indexed fields."""

from __future__ import annotations

import base64
import tempfile
import tracemalloc
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent_runtime.speech.http_api import UploadLimits
from agent_runtime.speech.transcript import SAMPLE_RATE
from agent_runtime.speech.upload import PARTS_AT_MOST, TEXT_BYTES_AT_MOST
from tests.agent_runtime.speech.test_http_api import BOUNDARY, Client, StandIn, api, form
from tests.agent_runtime.speech.voices import write_wav

END = f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture
def wav(tmp_path: Path) -> bytes:
    return write_wav(tmp_path / "sound.wav", np.full(SAMPLE_RATE, 9000, dtype=np.int16)).read_bytes()


@pytest.fixture(autouse=True)
def uploads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def part(head: bytes, content: bytes) -> bytes:
    return b"--" + BOUNDARY.encode() + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


MODEL = part(b'Content-Disposition: form-data; name="model"', b"small")


def body(*parts: bytes) -> list[bytes]:
    return [MODEL, *parts, END.removeprefix(b"\r\n")]


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="file"; filename="Gespräch mit Zoë.wav"'.encode("cp1252"),
        'form-data; name="file"; filename="会議.wav"'.encode("shift_jis"),
        'form-data; name="file"; filename="запись.wav"'.encode("cp1251"),
        'form-data; name="file"; filename="مقابلة.wav"'.encode(),
        b'form-data; name="file"; filename="a.wav"; filename*=UTF-8\'\'Gespr%C3%A4ch.wav',
        b"form-data; name=\"file\"; filename*=UTF-8''Gespr%C3%A4ch.wav",
        b'form-data; name="file"; filename="C:\\Users\\zoe\\a \\"b\\".wav"',
        b'form-data; name="file"; filename="no ending"',
        b'form-data; name="file"; filename="' + b"x" * 3000 + b'.wav"',
        b'form-data; name="file"; filename=""',
        b'form-data; name="file"',
        b"Form-Data; Name=file; FileName=a.wav",
    ],
)
async def test_a_file_is_heard_whatever_its_name(wav: bytes, uploads: Path, disposition: bytes) -> None:
    recogniser = StandIn()
    sent = body(part(b"Content-Disposition: " + disposition + b"\r\nContent-Type: audio/wav", wav))

    status, answer = await Client(sent).ask(api(recogniser))

    assert (status, answer["text"]) == (200, "wort 1")
    assert recogniser.calls[0]["seconds"] == 1.0
    assert files_in(uploads) == []


@pytest.mark.parametrize(
    "content_type",
    [
        f"Multipart/Form-Data; boundary={BOUNDARY}",
        f"MULTIPART/FORM-DATA; BOUNDARY={BOUNDARY}",
        f'multipart/form-data;charset=utf-8; boundary="{BOUNDARY}"',
        f"multipart/form-data ; boundary={BOUNDARY}",
    ],
)
async def test_a_form_is_known_in_any_case(wav: bytes, content_type: str) -> None:
    assert (await Client(form(wav), headers={"content-type": content_type}).ask(api(StandIn())))[0] == 200


async def test_headers_of_its_parts_may_be_in_capitals(wav: bytes) -> None:
    sent = body(part(b'CONTENT-DISPOSITION: FORM-DATA; NAME="file"; FILENAME="A.WAV"', wav))

    assert (await Client(sent).ask(api(StandIn())))[0] == 200


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "audio/wav", ""])
async def test_what_is_no_form_is_told_what_is(wav: bytes, content_type: str) -> None:
    status, answer = await Client(form(wav), headers={"content-type": content_type}).ask(api(StandIn()))

    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
    assert "multipart/form-data" in answer["error"]["message"] or "boundary" in answer["error"]["message"]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
async def test_a_field_may_be_in_what_windows_writes(wav: bytes, encoding: str) -> None:
    recogniser = StandIn()
    prompt = part(b'Content-Disposition: form-data; name="prompt"', "Grüße aus Köln – Zoë".encode(encoding))

    status, _ = await Client(body(prompt, part(b'Content-Disposition: form-data; name="file"', wav))).ask(
        api(recogniser)
    )

    assert (status, recogniser.calls[0]["prompt"]) == (200, "Grüße aus Köln – Zoë")


@pytest.mark.parametrize("index", ["", "[]", "[0]", "[1]", "[12]"])
async def test_a_repeated_field_has_any_of_its_names(wav: bytes, index: str) -> None:
    recogniser = StandIn()
    fields = {"response_format": "verbose_json", f"timestamp_granularities{index}": "word", f"keywords{index}": "Molts"}

    status, answer = await Client(form(wav, **fields)).ask(api(recogniser))

    assert status == 200
    assert "words" in answer
    assert "segments" not in answer
    assert (recogniser.calls[0]["words"], recogniser.calls[0]["hotwords"]) == (True, "Molts")
    for field, value in (("timestamp_granularities", "letter"), ("include", "logprobs")):
        told, error = await Client(form(wav, **{f"{field}{index}": value})).ask(api(StandIn()))
        assert (told, error["error"]["param"]) == (400, field)


@pytest.mark.parametrize(
    "field",
    [
        *("include[]", "include", "include[0]", "timestamp_granularities[]", "keywords[]", "language", "prompt"),
        *("response_format", "stream", "temperature", "hotwords"),
    ],
)
@pytest.mark.parametrize("empty", ["", pytest.param("  ", marks=pytest.mark.soak)])
async def test_an_empty_field_counts_as_unset(wav: bytes, field: str, empty: str) -> None:
    recogniser = StandIn()

    status, answer = await Client(form(wav, **{field: empty})).ask(api(recogniser))

    assert (status, answer["text"]) == (200, "wort 1")
    assert (recogniser.calls[0]["hotwords"], recogniser.calls[0]["prompt"]) == ("", "")


async def test_base64_in_lines_is_decoded(wav: bytes) -> None:
    head = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Transfer-Encoding: base64'
    recogniser = StandIn()

    status, _ = await Client(body(part(head, base64.encodebytes(wav)))).ask(api(recogniser))

    assert (status, recogniser.calls[0]["seconds"]) == (200, 1.0)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([part(b'Content-Disposition: form-data; name="file"', b"x")] * 2, "one by one"),
        ([part(b'Content-Disposition: form-data; name="a"', b"x")] * (PARTS_AT_MOST + 1), "fields"),
        ([part(b'Content-Disposition: form-data; name="a"', bytes(TEXT_BYTES_AT_MOST // 2))] * 3, "send the audio as"),
        ([part(b"Content-Type: audio/wav", b"x")], "no name"),
        ([part(b'Content-Disposition: form-data; name="a"\r\nX: ' + b"y" * 100_000, b"x")], "cannot be read"),
    ],
)
async def test_a_form_beyond_its_bounds_is_told_which(uploads: Path, parts: list[bytes], says: str) -> None:
    status, answer = await Client(body(*parts)).ask(api(StandIn()))

    assert status == 400
    assert says in answer["error"]["message"]
    assert files_in(uploads) == []


async def test_a_form_that_ends_too_early_is_not_taken_for_whole(wav: bytes, uploads: Path) -> None:
    status, answer = await Client(form(wav)[:-1]).ask(api(StandIn()))

    assert (status, "ends too early" in answer["error"]["message"]) == (400, True)
    assert files_in(uploads) == []


class Uploader(Client):
    """Sends its first part, then 33 MB that are made when they are asked for, then the rest."""

    blocks = 500

    async def receive(self) -> MutableMapping[str, Any]:
        if len(self.parts) == 1 and self.blocks:
            self.blocks -= 1
            return {"type": "http.request", "body": bytes(65536), "more_body": True}
        return await super().receive()


@pytest.mark.parametrize("of", [b'name="file"; filename="a.wav"', b'name="other"; filename="b.bin"'])
async def test_what_is_uploaded_is_never_in_memory(of: bytes) -> None:
    begun = part(b"Content-Disposition: form-data; " + of, b"").removesuffix(b"\r\n")
    client = Uploader([MODEL + begun, END])
    tracemalloc.start()
    try:
        status, _ = await client.ask(api(StandIn(), limits=UploadLimits(max_bytes=40_000_000)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert status == 400, "it is zeros, or no file"
    assert client.blocks == 0, "all of it was taken"
    assert peak < 3_000_000
