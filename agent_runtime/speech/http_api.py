"""OpenAI's transcription API on top of a recogniser: `POST /v1/audio/transcriptions` and `GET /v1/models`.

A plain ASGI application, mounted by the speech server. A recording is written to disk as it comes, decoded in a child
process and cut into pieces that wait for the model behind the live conversations; what is in memory does not grow with
the recording. A client that hangs up ends its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from agent_runtime.speech import formats
from agent_runtime.speech.decode_audio import decode_audio
from agent_runtime.speech.gate import speech_spans
from agent_runtime.speech.languages import language_code
from agent_runtime.speech.pieces import FindSpeech
from agent_runtime.speech.transcript import Recogniser, Transcript, public_name
from agent_runtime.speech.upload import ClientGoneError, Form, Receive, receive_form
from agent_runtime.speech.whole_file import Recording, Wish, join
from molts.errors import BadInput, Busy, MoltsError, NotAllowed, NotFound, Unavailable

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ResponseFormat = Literal["json", "verbose_json", "text", "srt", "vtt"]

ALIAS = "whisper-1"
"""What OpenAI calls its own Whisper: programs that name it get what is loaded here."""

RESPONSE_FORMATS = ("json", "verbose_json", "text", "srt", "vtt")
GRANULARITIES = ("segment", "word")
MAX_PROMPT = 2000
SEND_SECONDS = 60.0  # a client that takes nothing for so long has gone
LINGER_SECONDS = 2.0  # how long a refused upload is read on, so that its sender gets to read the refusal


class WrongSecret(NotAllowed):
    code = "invalid_api_key"
    http_status = 401


class UnknownModel(NotFound):
    code = "model_not_found"


class WrongMethod(BadInput):
    code = "method_not_allowed"
    http_status = 405


@dataclass(frozen=True)
class Limits:
    """What one request, and all together, may cost."""

    max_bytes: int = 512_000_000
    max_seconds: float = 2 * 3600.0
    at_once: int = 8
    upload_stall_seconds: float = 30.0
    upload_total_seconds: float = 1800.0

    @classmethod
    def from_settings(cls) -> Limits:
        from django.conf import settings

        return cls(
            max_bytes=settings.MOLTS_SPEECH_MAX_UPLOAD_MB * 1_000_000,
            max_seconds=settings.MOLTS_SPEECH_MAX_MINUTES * 60.0,
            at_once=settings.MOLTS_SPEECH_UPLOADS_AT_ONCE,
        )


@dataclass(frozen=True)
class TranscriptionRequest:
    """A checked form."""

    file: Path
    response_format: ResponseFormat
    stream: bool
    segments: bool
    wish: Wish


class SpeechAPI:
    """`secret`: what clients must send as `Authorization: Bearer ...`; "" when only this machine can reach us.

    On a unix socket nobody is asked for it: the rights of the socket say who may connect. `aliases` are further names
    for the model in use: the chosen model's, which stays valid while a smaller one stands in for it.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        *,
        secret: str = "",
        aliases: Sequence[str] = (),
        limits: Limits | None = None,
        find_speech: FindSpeech = speech_spans,
    ) -> None:
        self._recogniser = recogniser
        self._secret = secret
        self._aliases = [*map(public_name, aliases), ALIAS]
        self._limits = limits or Limits()
        self._find_speech = find_speech
        self._running = 0
        self.upload_folder: Path | None = None
        """Where uploads are written; None: into the system's temporary folder."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        try:
            await self._answer(exchange)
        except ClientGoneError:
            pass  # nobody is there to be told
        except asyncio.CancelledError:  # the server stops: this is the request's outermost frame, and its last words
            with contextlib.suppress(asyncio.CancelledError):
                await exchange.refuse(Unavailable("The speech server is stopping. Try again shortly."))
        except MoltsError as error:
            await exchange.refuse(error)
        except Exception:
            logger.exception("a transcription request failed")
            await exchange.refuse(MoltsError("The speech server failed on this request; its log says more."))

    async def _answer(self, exchange: Exchange) -> None:
        self._check_caller(exchange)
        if exchange.path == "/v1/audio/transcriptions":
            exchange.require("POST")
            await self._transcribe(exchange)
        elif exchange.path == "/v1/models":
            exchange.require("GET")
            data = [model_object(name) for name in self._model_names()]
            await exchange.send_json(200, {"object": "list", "data": data})
        elif exchange.path.startswith("/v1/models/"):
            exchange.require("GET")
            name = exchange.path.removeprefix("/v1/models/")
            self._check_model(name)
            await exchange.send_json(200, model_object(name))
        else:
            raise NotFound(f"There is nothing at {exchange.path}; see /v1/models and /v1/audio/transcriptions.")

    def _check_caller(self, exchange: Exchange) -> None:
        if self._secret and not exchange.is_local:
            scheme, _, given = exchange.headers.get("authorization", "").partition(" ")
            is_right = hmac.compare_digest(given.strip().encode("latin-1"), self._secret.encode())
            if scheme.lower() != "bearer" or not is_right:
                raise WrongSecret("The key is missing or wrong. Send `Authorization: Bearer <MOLTS_SPEECH_SECRET>`.")
        elif "origin" in exchange.headers:
            # Whoever reaches us may use us here, but not every page that a browser on this machine shows.
            raise NotAllowed("Web pages may not use a speech server that has no secret. Set MOLTS_SPEECH_SECRET.")

    def _model_names(self) -> list[str]:
        """What can be asked for now: the model in use, by all its names."""
        in_use = self._recogniser.models[:1]
        return list(dict.fromkeys([public_name(in_use[0]), *self._aliases])) if in_use else []

    def _check_model(self, name: str) -> None:
        if not self._recogniser.models:
            raise Unavailable("No speech model is loaded yet. Try again shortly.")
        if name not in self._model_names():
            known = ", ".join(self._model_names())
            raise UnknownModel(f"The model `{name[:100]}` is not here. This server has: {known}.", attr="model")

    async def _transcribe(self, exchange: Exchange) -> None:
        with self._place():
            async with receive_form(
                exchange.headers,
                exchange.receive,
                max_bytes=self._limits.max_bytes,
                stall_seconds=self._limits.upload_stall_seconds,
                total_seconds=self._limits.upload_total_seconds,
                folder=self.upload_folder,
            ) as form:
                self._check_model(require_text(form, "model"))
                request = read_request(form)
                await exchange.unless_gone(self._send_transcript(exchange, request))

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._running >= self._limits.at_once:
            raise Busy("The speech server has as many recordings as it takes at once. Try again shortly.")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def _send_transcript(self, exchange: Exchange, request: TranscriptionRequest) -> None:
        recording = Recording(self._recogniser, request.wish, find_speech=self._find_speech)
        chunks = decode_audio(request.file, max_seconds=self._limits.max_seconds)
        async with contextlib.aclosing(chunks), contextlib.aclosing(recording.transcripts(chunks)) as transcripts:
            if request.stream:
                await send_events(exchange, transcripts)
                return
            heard = [transcript async for transcript in transcripts]
        whole = join(heard, duration=recording.duration, language=request.wish.language or "")
        await send_whole(exchange, request, whole)


def model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "molts"}


def require_text(form: Form, name: str) -> str:
    if value := form.text(name):
        return value
    raise BadInput(f"The field `{name}` is missing.", code="missing_required_parameter", attr=name)


def read_request(form: Form) -> TranscriptionRequest:
    """Check every field; the first that is wrong is named."""
    if form.file is None:
        raise BadInput("The field `file` is missing: send the audio in it, as a file.", attr="file")
    if form.file_bytes == 0:
        raise BadInput("The file is empty.", code="invalid_audio", attr="file")
    response_format = read_choice(form, "response_format", RESPONSE_FORMATS, default="json")
    granularities = read_granularities(form, response_format)
    stream = read_flag(form, "stream")
    if stream and response_format not in ("json", "text"):
        raise BadInput("With `stream` the response_format is json or text.", attr="response_format")
    if form.list("include"):
        raise BadInput("`include` is not supported: log probabilities are in verbose_json.", attr="include")
    return TranscriptionRequest(
        file=form.file,
        response_format=cast(ResponseFormat, response_format),
        stream=stream,
        segments="segment" in granularities,
        wish=Wish(
            language=read_language(form),
            prompt=read_limited(form, "prompt"),
            hotwords=", ".join([*filter(None, [read_limited(form, "hotwords")]), *form.list("keywords")])[:MAX_PROMPT],
            words="word" in granularities,
            temperature=read_temperature(form),
        ),
    )


def read_choice(form: Form, name: str, choices: tuple[str, ...], *, default: str) -> str:
    value = form.text(name, default)
    if value not in choices:
        raise BadInput(f"{name} is one of {', '.join(choices)}, not `{value[:50]}`.", attr=name)
    return value


def read_flag(form: Form, name: str) -> bool:
    value = read_choice(form, name, ("true", "false", "True", "False", "1", "0"), default="false")
    return value in ("true", "True", "1")


def read_granularities(form: Form, response_format: str) -> set[str]:
    granularities = set(form.list("timestamp_granularities"))
    if unknown := granularities - set(GRANULARITIES):
        raise BadInput(
            f"timestamp_granularities are {' and '.join(GRANULARITIES)}, not `{min(unknown)[:50]}`.",
            attr="timestamp_granularities",
        )
    if granularities and response_format != "verbose_json":
        raise BadInput("timestamp_granularities need response_format=verbose_json.", attr="timestamp_granularities")
    return granularities or {"segment"}


def read_language(form: Form) -> str | None:
    given = form.text("language")
    if not given or given == "auto":
        return None
    if code := language_code(given):
        return code
    raise BadInput(f"Whisper does not know the language `{given[:50]}`; send a code such as en.", attr="language")


def read_limited(form: Form, name: str) -> str:
    value = form.text(name)
    if len(value) > MAX_PROMPT:
        raise BadInput(f"{name} has more than {MAX_PROMPT} characters.", attr=name)
    return value


def read_temperature(form: Form) -> float:
    try:
        value = float(form.text("temperature", "0"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise BadInput("temperature is a number from 0 to 1.", attr="temperature")
    return value


async def send_whole(exchange: Exchange, request: TranscriptionRequest, transcript: Transcript) -> None:
    match request.response_format:
        case "json":
            await exchange.send_json(200, formats.as_json(transcript))
        case "verbose_json":
            answer = formats.as_verbose_json(transcript, segments=request.segments, words=request.wish.words)
            await exchange.send_json(200, answer)
        case "text":
            await exchange.send_text(formats.as_text(transcript), "text/plain")
        case "srt":
            await exchange.send_text(formats.as_srt(transcript), "application/x-subrip")
        case "vtt":
            await exchange.send_text(formats.as_vtt(transcript), "text/vtt")


async def send_events(exchange: Exchange, transcripts: AsyncIterator[Transcript]) -> None:
    """A delta for each segment as it is recognised, then the whole text.

    Nothing is sent before the first piece is there, so that what is wrong with the file is still told by the status.
    """
    text = ""
    first = await anext(transcripts, None)
    await exchange.start(200, "text/event-stream", {"cache-control": "no-store"})
    try:
        async for transcript in chain(first, transcripts):
            for piece in formats.text_pieces(transcript.segments, transcript.language):
                delta = piece if text else piece.lstrip()
                text += delta
                await exchange.send_part(formats.delta_event(delta))
        await exchange.send_part(formats.done_event(text))
    except MoltsError as error:  # too late for a status: clients read an error from the stream
        await exchange.send_part(formats.event(error_answer(error)))
    await exchange.finish()


async def chain(first: Transcript | None, rest: AsyncIterator[Transcript]) -> AsyncGenerator[Transcript, None]:
    if first is not None:
        yield first
    async for transcript in rest:
        yield transcript


def error_answer(error: MoltsError) -> dict[str, Any]:
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(error.http_status, "invalid_request_error" if error.http_status < 500 else "server_error")
    return formats.error_body(error.detail, kind=kind, code=error.code, param=error.attr)


class Exchange:
    """One HTTP request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method = str(scope["method"])
        self.path = str(scope["path"]).rstrip("/") or "/"
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self.is_local = scope.get("client") is None
        self._scope_receive = receive
        self._send = send
        self._body_ended = False
        self._started = False

    def require(self, method: str) -> None:
        if self.method != method:
            raise WrongMethod(f"{self.path} takes {method}, not {self.method}.")

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._scope_receive()
        self._body_ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def unless_gone(self, work: Awaitable[None]) -> None:
        """Do the work; when the client hangs up meanwhile, end it and raise ClientGoneError."""
        working = asyncio.ensure_future(work)
        watching = asyncio.create_task(self._until_gone())
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientGoneError
            working.result()
        finally:
            for task in (working, watching):
                task.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)

    async def _until_gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def refuse(self, error: MoltsError) -> None:
        """Answer with the error, unless an answer is on its way already."""
        if self._started:
            return
        headers = {"retry-after": "1"} if error.http_status == 429 else {}
        if not self._body_ended:
            headers["connection"] = "close"
        with contextlib.suppress(ClientGoneError):
            await self.start(
                error.http_status, "application/json", headers, body := json.dumps(error_answer(error)).encode()
            )
            await self.send_part(body)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while not self._body_ended:
                        await self.receive()
            await self.finish()

    async def send_json(self, status: int, data: dict[str, Any]) -> None:
        await self._send_body(status, "application/json", json.dumps(data, ensure_ascii=False).encode())

    async def send_text(self, text: str, content_type: str) -> None:
        await self._send_body(200, f"{content_type}; charset=utf-8", text.encode())

    async def _send_body(self, status: int, content_type: str, body: bytes) -> None:
        await self.start(status, content_type, {}, body)
        await self.send_part(body)
        await self.finish()

    async def start(self, status: int, content_type: str, headers: dict[str, str], body: bytes | None = None) -> None:
        """Send the head; with the length of `body`, when the whole is known."""
        self._started = True
        headers = {"content-type": content_type, **headers}
        if body is not None:
            headers["content-length"] = str(len(body))
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send_in_time({"type": "http.response.start", "status": status, "headers": pairs})

    async def send_part(self, part: bytes) -> None:
        await self._send_in_time({"type": "http.response.body", "body": part, "more_body": True})

    async def finish(self) -> None:
        await self._send_in_time({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_in_time(self, message: MutableMapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(message)
        except OSError as error:  # hung up, or takes nothing (TimeoutError is one)
            raise ClientGoneError from error
