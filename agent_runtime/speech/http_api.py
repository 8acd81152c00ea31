"""OpenAI's transcription API on top of a recogniser: `POST /v1/audio/transcriptions` and `GET /v1/models`.

A recording is written to disk as it comes, decoded in a child process and cut into pieces that wait for the model
behind the live conversations; what is in memory does not grow with the recording. A client that hangs up ends its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, Router

from agent_runtime.speech import formats
from agent_runtime.speech.decode_audio import decode_audio
from agent_runtime.speech.form_fields import TranscriptionRequest, read_request, require_text
from agent_runtime.speech.gate import speech_spans
from agent_runtime.speech.pieces import FindSpeech
from agent_runtime.speech.transcript import Recogniser, Transcription, public_name
from agent_runtime.speech.upload import receive_form
from agent_runtime.speech.whole_file import Recording, join
from molts.errors import Busy, MoltsError, NotAllowed, NotFound, Unavailable, WrongMethod

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

T = TypeVar("T")

ALIAS = "whisper-1"
"""What OpenAI calls its own Whisper: programs that name it get what is loaded here."""

SEND_SECONDS = 60.0  # a client that takes nothing for so long has gone
LINGER_SECONDS = 2.0  # how long a refused upload is read on, so that its sender gets to read the refusal
NO_PAGES = (
    "Web pages may not use the speech API: whoever opens a page can read a secret in it. Let the page send its sound "
    "to a server of yours, and that server ask here; docs/speech.md shows one."
)


class WrongSecret(NotAllowed):
    code = "invalid_api_key"
    http_status = 401


class UnknownModel(NotFound):
    code = "model_not_found"


@dataclass(frozen=True)
class UploadLimits:
    """What one request, and all together, may cost."""

    max_bytes: int = 512_000_000
    max_seconds: float = 2 * 3600.0
    at_once: int = 8
    upload_stall_seconds: float = 30.0
    upload_total_seconds: float = 1800.0

    @classmethod
    def from_settings(cls) -> UploadLimits:
        from django.conf import settings

        return cls(
            max_bytes=settings.MOLTS_SPEECH_MAX_UPLOAD_MB * 1_000_000,
            max_seconds=settings.MOLTS_SPEECH_MAX_MINUTES * 60.0,
            at_once=settings.MOLTS_SPEECH_UPLOADS_AT_ONCE,
        )


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
        limits: UploadLimits | None = None,
        find_speech: FindSpeech = speech_spans,
    ) -> None:
        self._recogniser = recogniser
        self._secret = secret
        self._aliases = [*map(public_name, aliases), ALIAS]
        self._limits = limits or UploadLimits()
        self._find_speech = find_speech
        self._running = 0
        self.upload_folder: Path | None = None
        """Where uploads are written; None: into the system's temporary folder."""
        self._router = Router(
            [
                Route("/v1/audio/transcriptions", self._transcribe, methods=["POST"]),
                Route("/v1/models", self._list_models, methods=["GET"]),
                Route("/v1/models/{name:path}", self._show_model, methods=["GET"]),
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(receive, send)
        # With an `app` the router raises what it does not find, instead of answering in a shape of its own.
        scope = {**scope, "app": self, "path": str(scope["path"]).rstrip("/") or "/"}
        try:
            self._check_caller(HTTPConnection(scope))
            await self._router(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            pass  # nobody is there to be told
        except asyncio.CancelledError:  # the server stops: this is the request's outermost frame, and its last words
            with contextlib.suppress(asyncio.CancelledError):
                await exchange.refuse(Unavailable("The speech server is stopping. Try again shortly."))
        except MoltsError as error:
            await exchange.refuse(error)
        except HTTPException as error:
            await exchange.refuse(routing_error(error, scope), error.headers)
        except Exception:
            logger.exception("a transcription request failed")
            await exchange.refuse(MoltsError("The speech server failed on this request; its log says more."))

    def _check_caller(self, caller: HTTPConnection) -> None:
        given = caller.headers.get("authorization", "")
        needs_secret = bool(self._secret) and caller.client is not None
        if "origin" in caller.headers and not (needs_secret and given):
            # Whoever reaches us may use us here, but not every page that a browser on this machine shows.
            raise NotAllowed(NO_PAGES)
        scheme, _, key = given.partition(" ")
        # Headers are bytes, and come as Latin-1.
        is_right = hmac.compare_digest(key.strip().encode("latin-1"), self._secret.encode())
        if needs_secret and not (scheme.lower() == "bearer" and is_right):
            raise WrongSecret("The key is missing or wrong. Send `Authorization: Bearer <MOLTS_SPEECH_SECRET>`.")

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [model_object(name) for name in self._model_names()]})

    async def _show_model(self, request: Request) -> Response:
        name = request.path_params["name"]
        self._check_model(name)
        return JSONResponse(model_object(name))

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

    async def _transcribe(self, request: Request) -> Response:
        async with contextlib.AsyncExitStack() as held:
            held.enter_context(self._place())
            form = await held.enter_async_context(
                receive_form(
                    request,
                    max_bytes=self._limits.max_bytes,
                    stall_seconds=self._limits.upload_stall_seconds,
                    total_seconds=self._limits.upload_total_seconds,
                    folder=self.upload_folder,
                )
            )
            self._check_model(require_text(form, "model"))
            asked = read_request(form)
            recording = Recording(self._recogniser, asked.wish, find_speech=self._find_speech)
            chunks = decode_audio(asked.file, max_seconds=self._limits.max_seconds)
            await held.enter_async_context(contextlib.aclosing(chunks))
            transcripts = recording.transcripts(chunks)
            await held.enter_async_context(contextlib.aclosing(transcripts))
            if asked.stream:
                # Nothing is sent before the first piece is there: so what is wrong with the file is told by the status.
                first = await unless_gone(request.receive, anext(transcripts, None))
                return EventStream(events(first, transcripts), held.pop_all())
            heard = await unless_gone(request.receive, collect(transcripts))
            whole = join(heard, duration=recording.duration, language=asked.wish.language or "")
            return answer(asked, whole)

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if self._running >= self._limits.at_once:
            raise Busy("The speech server has as many recordings as it takes at once. Try again shortly.")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


def model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "molts"}


def answer(asked: TranscriptionRequest, transcript: Transcription) -> Response:
    match asked.response_format:
        case "json":
            return JSONResponse(formats.as_json(transcript))
        case "verbose_json":
            segments, words = asked.segments, asked.wish.words
            return JSONResponse(formats.as_verbose_json(transcript, segments=segments, words=words))
        case "text":
            return PlainTextResponse(formats.as_text(transcript))
        case "srt":
            return Response(formats.as_srt(transcript), media_type="application/x-subrip; charset=utf-8")
        case "vtt":
            return Response(formats.as_vtt(transcript), media_type="text/vtt")


async def collect(transcripts: AsyncIterator[Transcription]) -> list[Transcription]:
    return [transcript async for transcript in transcripts]


async def events(first: Transcription | None, rest: AsyncIterator[Transcription]) -> AsyncGenerator[bytes, None]:
    """A delta for each segment as it is recognised, then the whole text."""
    text = ""
    try:
        async for transcript in chain(first, rest):
            for piece in formats.text_pieces(transcript.segments, transcript.language):
                delta = piece if text else piece.lstrip()
                text += delta
                yield formats.delta_event(delta)
        yield formats.done_event(text)
    except MoltsError as error:  # too late for a status: clients read an error from the stream
        yield formats.event(error_answer(error))


async def chain(first: Transcription | None, rest: AsyncIterator[Transcription]) -> AsyncGenerator[Transcription, None]:
    if first is not None:
        yield first
    async for transcript in rest:
        yield transcript


class EventStream(StreamingResponse):
    """Server-sent events. Closes `held`, what they are made from, once they are sent or nobody listens any more."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncGenerator[bytes, None], held: contextlib.AsyncExitStack) -> None:
        super().__init__(content, headers={"cache-control": "no-store"})
        self._content = content
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held, contextlib.aclosing(self._content):
            await unless_gone(receive, self.stream_response(send))


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """Do the work; when the client hangs up meanwhile, end it and raise ClientDisconnect."""
    working = asyncio.ensure_future(work)
    watching = asyncio.create_task(_until_gone(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def routing_error(error: HTTPException, scope: Scope) -> MoltsError:
    """What the router found wrong, in our words."""
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return WrongMethod(f"{scope['path']} takes {allowed}, not {scope['method']}.")
    return NotFound(f"There is nothing at {scope['path']}; see /v1/models and /v1/audio/transcriptions.")


def error_answer(error: MoltsError) -> dict[str, Any]:
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    kind = kinds.get(error.http_status, "invalid_request_error" if error.http_status < 500 else "server_error")
    return formats.error_body(error.detail, kind=kind, code=error.code, param=error.attr)


class Exchange:
    """The messages of one request: each answer has a deadline, and it is known how far both sides have come."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._body_ended = False
        self._started = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._body_ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        self._started = True
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(message)
        except OSError as error:  # hung up, or takes nothing (TimeoutError is one)
            raise ClientDisconnect from error

    async def refuse(self, error: MoltsError, more_headers: Mapping[str, str] | None = None) -> None:
        """Answer with the error, unless an answer is on its way already."""
        if self._started:
            return
        headers = dict(more_headers or {})
        if error.http_status == 429:
            headers["retry-after"] = "1"
        if not self._body_ended:
            headers["connection"] = "close"
        # In ASCII: it may echo what cannot be written in UTF-8.
        body = json.dumps(error_answer(error)).encode()
        told = Response(body, error.http_status, headers, media_type="application/json")
        with contextlib.suppress(ClientDisconnect):
            await self.send({"type": "http.response.start", "status": told.status_code, "headers": told.raw_headers})
            await self.send({"type": "http.response.body", "body": told.body, "more_body": True})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while not self._body_ended:
                        await self.receive()
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
