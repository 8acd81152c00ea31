"""The transcription API without a network: who hangs up, stalls or comes too often, and a model that fails."""

from __future__ import annotations

import asyncio
import json
import resource
import tempfile
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings as django_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent_runtime.speech import whole_file
from agent_runtime.speech.http_api import SpeechAPI, UploadLimits
from agent_runtime.speech.transcript import SAMPLE_RATE, RecognisedSegment, Transcription
from molts.errors import Busy, Unavailable
from tests.agent_runtime.speech.voices import write_wav

BOUNDARY = "xyz"


class StandIn:
    """A recogniser that says what was asked of it. `mood` makes it misbehave."""

    def __init__(self, mood: str = "well") -> None:
        self.mood = mood
        self.calls: list[dict[str, Any]] = []
        self.started = asyncio.Event()
        self.cancelled = 0

    @property
    def models(self) -> tuple[str, ...]:
        return () if self.mood == "loading" else ("small", "tiny")

    async def transcribe(self, samples: NDArray[np.float32], **wish: Any) -> Transcription:
        self.calls.append({"seconds": len(samples) / SAMPLE_RATE, **wish})
        self.started.set()
        match self.mood:
            case "hang" | "hang_later" if self.mood == "hang" or len(self.calls) > 1:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
            case "busy":
                raise Busy("Too many conversations. Try again shortly.")
            case "busy_once" if len(self.calls) == 1:
                raise Busy("Too many conversations. Try again shortly.")
            case "gone":
                raise Unavailable("The model is gone.")
            case "gone_later" if len(self.calls) > 1:
                raise Unavailable("The model is gone.")
            case "broken":
                raise RuntimeError("secret detail")
        number = len(self.calls)
        return Transcription("de", 0.9, len(samples) / SAMPLE_RATE, (RecognisedSegment(0.0, 1.0, f" wort {number}"),))


@dataclass
class Client:
    """One request, sent the way uvicorn hands it on."""

    parts: list[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/v1/audio/transcriptions"
    method: str = "POST"
    stalls: bool = False
    address: tuple[str, int] | None = ("127.0.0.1", 40000)  # None: came through a unix socket
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[MutableMapping[str, Any]] = field(default_factory=list)

    async def receive(self) -> MutableMapping[str, Any]:
        if self.parts:
            part = self.parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self.parts) or self.stalls}
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)

    async def ask(self, app: SpeechAPI) -> tuple[int, Any]:
        headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", **self.headers}
        scope = {
            "type": "http",
            "method": self.method,
            "path": self.path,
            "client": self.address,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        await app(scope, self.receive, self.send)
        if not self.sent:
            return 0, None
        body = b"".join(message.get("body", b"") for message in self.sent)
        assert self.sent[-1].get("more_body", False) is False
        return self.sent[0]["status"], json.loads(body) if body.startswith(b"{") else body.decode()


def form(file: bytes, **fields: str) -> list[bytes]:
    """The parts of a body: the form's fields, and the file in blocks of 64 KB."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in {"model": "small", **fields}.items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'.encode()
    blocks = [file[at : at + 65536] for at in range(0, len(file), 65536)]
    return [*parts, head, *blocks, f"\r\n--{BOUNDARY}--\r\n".encode()]


def loud(samples: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Speech is what is not silent; each of the tones of `wav` is one span."""
    marks = np.flatnonzero(np.diff(np.concatenate([[0], np.abs(samples) > 0.01, [0]]).astype(np.int8))).reshape(-1, 2)
    return [(int(start), int(end)) for start, end in marks]


@pytest.fixture
def wav(tmp_path: Path) -> bytes:
    """Six sounds with a second of silence between them."""
    sound, gap = np.full(SAMPLE_RATE, 9000, dtype=np.int16), np.zeros(SAMPLE_RATE, dtype=np.int16)
    return write_wav(tmp_path / "sounds.wav", np.concatenate([sound, gap] * 6)).read_bytes()


@pytest.fixture(autouse=True)
async def _nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[None]:
    """Uploads land in a folder of the test, and every request takes its own away."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(uploads))
    yield
    for _ in range(50):
        if not list(uploads.iterdir()):
            break
        await asyncio.sleep(0.02)
    assert list(uploads.iterdir()) == []


def api(recogniser: StandIn, **options: Any) -> SpeechAPI:
    return SpeechAPI(recogniser, find_speech=loud, **options)


async def test_pieces_come_back_in_order_in_the_language_of_the_first(wav: bytes) -> None:
    recogniser = StandIn()

    status, answer = await Client(form(wav, response_format="verbose_json", prompt="Molts")).ask(api(recogniser))

    assert status == 200
    assert answer["text"] == "wort 1 wort 2 wort 3 wort 4 wort 5 wort 6"
    assert [segment["start"] for segment in answer["segments"]] == [0, 2, 4, 6, 8, 10]
    assert (answer["language"], answer["duration"]) == ("german", 12.0)
    assert [call["language"] for call in recogniser.calls] == [None, *["de"] * 5]
    assert {call["prompt"] for call in recogniser.calls} == {"Molts"}


async def test_a_client_that_hangs_up_ends_its_work(wav: bytes) -> None:
    recogniser = StandIn("hang")
    client = Client(form(wav, language="de"))
    asking = asyncio.create_task(client.ask(api(recogniser)))
    await asyncio.wait_for(recogniser.started.wait(), 10)

    client.hung_up.set()

    assert await asyncio.wait_for(asking, 5) == (0, None)
    assert recogniser.cancelled == len(recogniser.calls) > 0


@pytest.mark.parametrize("stream", ["false", "true"])
async def test_who_hangs_up_between_two_pieces_ends_the_decoding(wav: bytes, stream: str) -> None:
    recogniser = StandIn("hang_later")
    client = Client(form(wav, stream=stream))
    asking = asyncio.create_task(client.ask(api(recogniser)))
    async with asyncio.timeout(10):
        while len(recogniser.calls) < 2:  # noqa: ASYNC110 - of another task
            await asyncio.sleep(0.01)

    client.hung_up.set()

    async with asyncio.timeout(5):
        await asyncio.gather(asking, return_exceptions=True)
    assert bool(client.sent) == (stream == "true"), "a stream had begun, another answer had not"
    given_up = len(recogniser.calls) - 1
    assert recogniser.cancelled == given_up < 5, "those that waited for the model; the sixth piece was never asked for"


async def test_a_client_may_hang_up_at_any_moment(wav: bytes, tmp_path: Path) -> None:
    sound = np.tile(np.repeat(np.array([9000, 0], dtype=np.int16), SAMPLE_RATE), 300)
    long = write_wav(tmp_path / "long.wav", sound).read_bytes()
    for step in range(20):
        client = Client(form(long, language="de"))
        asking = asyncio.create_task(client.ask(api(StandIn("hang"))))
        await asyncio.sleep(step * 0.017)

        client.hung_up.set()

        assert await asyncio.wait_for(asking, 5) == (0, None)


async def test_a_client_that_hangs_up_in_its_upload_is_forgotten(wav: bytes) -> None:
    recogniser = StandIn()
    client = Client(form(wav)[:-2], stalls=True)
    client.hung_up.set()

    assert await client.ask(api(recogniser)) == (0, None)
    assert recogniser.calls == []


async def test_an_upload_that_stands_still_is_given_up(wav: bytes) -> None:
    client = Client(form(wav)[:-2], stalls=True)

    status, answer = await client.ask(api(StandIn(), limits=UploadLimits(upload_stall_seconds=0.1)))

    assert (status, answer["error"]["code"]) == (408, "upload_timeout")


async def test_an_upload_has_an_end_even_when_it_trickles(wav: bytes) -> None:
    client = Client(form(wav)[:-2], stalls=True)

    status, answer = await client.ask(api(StandIn(), limits=UploadLimits(upload_total_seconds=0.2)))

    assert (status, answer["error"]["code"]) == (408, "upload_timeout")


async def test_an_upload_that_finds_no_room_is_told(wav: bytes) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))  # as a full disk: writing more fails
    try:
        status, answer = await Client(form(wav)).ask(api(StandIn()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert (status, answer["error"]["code"]) == (503, "unavailable")
    assert "There is no room for the upload" in answer["error"]["message"]
    assert (await Client(form(wav)).ask(api(StandIn())))[0] == 200


async def test_it_takes_so_many_recordings_and_no_more(wav: bytes) -> None:
    recogniser = StandIn("hang")
    app = api(recogniser, limits=UploadLimits(at_once=1))
    first = Client(form(wav, language="de"))
    asking = asyncio.create_task(first.ask(app))
    await asyncio.wait_for(recogniser.started.wait(), 10)

    second = Client(form(wav))
    status, answer = await second.ask(app)

    assert (status, answer["error"]["type"]) == (429, "rate_limit_error")
    assert (b"retry-after", b"1") in second.sent[0]["headers"]
    first.hung_up.set()
    await asking
    recogniser.mood = "well"
    assert (await Client(form(wav)).ask(app))[0] == 200


async def test_a_full_model_is_asked_again_before_it_counts(wav: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await Client(form(wav)).ask(api(StandIn("busy_once"))))[0] == 200

    monkeypatch.setattr(whole_file, "BUSY_SECONDS", 0.3)
    status, answer = await Client(form(wav)).ask(api(StandIn("busy")))

    assert (status, answer["error"]["code"]) == (429, "busy")


@pytest.mark.parametrize(
    ("mood", "status", "code"),
    [("gone", 503, "unavailable"), ("loading", 503, "unavailable"), ("broken", 500, "error")],
)
async def test_a_failing_model_is_told_without_details(wav: bytes, mood: str, status: int, code: str) -> None:
    told, answer = await Client(form(wav)).ask(api(StandIn(mood)))

    assert (told, answer["error"]["code"], answer["error"]["type"]) == (status, code, "server_error")
    assert "secret detail" not in json.dumps(answer)


async def test_a_failure_in_mid_stream_is_told_in_the_stream(wav: bytes) -> None:
    status, body = await Client(form(wav, stream="true")).ask(api(StandIn("gone_later")))

    events = [json.loads(line.removeprefix("data: ")) for line in body.strip().split("\n\n")]
    assert status == 200
    assert events[0] == {"type": "transcript.text.delta", "delta": "wort 1"}
    assert events[-1]["error"]["message"] == "The model is gone."


async def test_a_model_that_never_answers_is_given_up(wav: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_file, "PIECE_SECONDS", 0.2)

    status, answer = await Client(form(wav)).ask(api(StandIn("hang")))

    assert (status, answer["error"]["code"]) == (503, "unavailable")


async def test_a_server_that_stops_says_so(wav: bytes) -> None:
    recogniser = StandIn("hang")
    asking = asyncio.create_task(Client(form(wav, language="de")).ask(api(recogniser)))
    await asyncio.wait_for(recogniser.started.wait(), 10)

    asking.cancel()
    status, answer = await asyncio.wait_for(asking, 5)

    assert (status, answer["error"]["code"]) == (503, "unavailable")
    assert "stopping" in answer["error"]["message"]
    assert recogniser.cancelled == len(recogniser.calls)


async def test_a_body_that_grows_past_its_limit_is_refused(wav: bytes) -> None:
    client = Client(form(wav))

    status, answer = await client.ask(api(StandIn(), limits=UploadLimits(max_bytes=100_000)))

    assert (status, answer["error"]["code"]) == (413, "file_too_large")


async def test_pages_of_other_sites_are_refused_when_there_is_no_secret(wav: bytes) -> None:
    headers = {"origin": "https://evil.example"}

    assert (await Client(form(wav), headers=headers).ask(api(StandIn())))[0] == 403
    allowed = {**headers, "authorization": "Bearer geheim-ü"}
    # Headers are bytes: whatever a client sends beyond ASCII must not bring the comparison down.
    assert (await Client(form(wav), headers=allowed).ask(api(StandIn(), secret="geheim-ü")))[0] in (200, 401)
    assert (await Client(form(wav)).ask(api(StandIn(), secret="geheim")))[0] == 401


@pytest.mark.parametrize(
    ("secret", "headers"),
    [
        ("", {}),
        ("", {"authorization": "Bearer anything"}),
        ("geheim", {}),
        ("geheim", {"access-control-request-method": "POST"}),
    ],
)
async def test_a_page_is_told_to_go_through_a_server(wav: bytes, secret: str, headers: dict[str, str]) -> None:
    """A secret does not belong into a page, so nobody is told to set one for it."""
    method = "OPTIONS" if "access-control-request-method" in headers else "POST"
    client = Client(form(wav), headers={"origin": "https://shop.example", **headers}, method=method)

    status, answer = await client.ask(api(StandIn(), secret=secret))

    assert (status, answer["error"]["code"]) == (403, "permission_denied")
    assert "a server of yours" in answer["error"]["message"]
    assert "MOLTS_SPEECH_SECRET" not in answer["error"]["message"]


async def test_the_socket_of_this_machine_needs_no_secret(wav: bytes) -> None:
    app = api(StandIn(), secret="geheim")

    assert (await Client(form(wav), address=None).ask(app))[0] == 200
    assert (await Client(form(wav), address=None, headers={"origin": "https://evil.example"}).ask(app))[0] == 403


async def test_a_folder_is_called_by_its_name(wav: bytes) -> None:
    class Folder(StandIn):
        @property
        def models(self) -> tuple[str, ...]:
            return ("/srv/models/our-whisper", "org/small")

    client = Client([b""], path="/v1/models", method="GET")

    status, answer = await client.ask(api(Folder()))

    assert status == 200
    assert [model["id"] for model in answer["data"]] == ["our-whisper", "whisper-1"]
    assert (await Client(form(wav, model="our-whisper")).ask(api(Folder())))[0] == 200


async def test_nothing_is_listed_before_a_model_is_there() -> None:
    client = Client([b""], path="/v1/models", method="GET")

    assert await client.ask(api(StandIn("loading"), aliases=("medium",))) == (200, {"object": "list", "data": []})


async def test_the_chosen_model_may_be_asked_for_while_another_stands_in(wav: bytes) -> None:
    app = api(StandIn(), aliases=("medium",))

    statuses = [(await Client(form(wav, model=name)).ask(app))[0] for name in ("small", "medium", "whisper-1", "tiny")]

    assert statuses == [200, 200, 200, 404], "tiny is in memory, but not what would be asked"


@pytest.mark.parametrize(
    "body", [b"", b"--xyz\r\n", b"--xyz--", b"nonsense", b"--xyz\r\nContent-Disposition: form-data\r\n\r\n"]
)
async def test_a_broken_form_is_the_callers_mistake(body: bytes) -> None:
    status, answer = await Client([body]).ask(api(StandIn()))

    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "disposition",
    [
        "form-data; name=\"file\"; filename*=bogus''a.wav",
        "form-data; name*=utf-8''%ff%fe; filename=\"a.wav\"",
        'form-data; name="file"; filename="../../etc/passwd\x00.wav"',
        'form-data; name="file"; filename=""',
        "form-data; " + "a=b; " * 500,
    ],
)
async def test_a_strange_part_is_never_our_failure(wav: bytes, disposition: str) -> None:
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
    model = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\nsmall\r\n'.encode()

    status, answer = await Client([model, head, wav, f"\r\n--{BOUNDARY}--\r\n".encode()]).ask(api(StandIn()))

    assert status in (200, 400), answer


MORSELS = [
    *(b"--xyz", b"\r\n", b"--", b"Content-Disposition: form-data", b'; name="file"', b'; filename="a.wav"'),
    *(b"Content-Transfer-Encoding: base64", b"\xff\x00", b"x"),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(MORSELS), max_size=14))
async def test_no_body_is_ever_our_failure(words: list[bytes]) -> None:
    status, answer = await Client([b"".join(words)]).ask(api(StandIn()))

    assert status == 400, answer


async def test_too_many_fields_are_the_callers_mistake(wav: bytes) -> None:
    fields = {f"field{number}": "x" for number in range(django_settings.DATA_UPLOAD_MAX_NUMBER_FIELDS + 1)}

    status, _ = await Client(form(wav, **fields)).ask(api(StandIn()))

    assert status == 400
