"""The speech server: an ASGI application for streams and files, on a socket of this machine and on the network."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from agent_runtime.speech.connections import HEAD_BYTES, BoundedHTTP
from agent_runtime.speech.engine import Engine, LoadedWhisper
from agent_runtime.speech.http_api import SpeechAPI, UploadLimits
from agent_runtime.speech.ladder import Ladder, LadderPolicy, LadderSettings, Processor, read_gpu
from agent_runtime.speech.places import ListeningPlaces, open_sockets
from agent_runtime.speech.scheduler import Scheduler
from agent_runtime.speech.scratch import scratch_folder
from agent_runtime.speech.stream import DecodingPace, RecognitionStream, StreamFigures
from agent_runtime.speech.transcript import public_name
from agent_runtime.speech.whole_file import AT_ONCE
from molts.errors import BadConfiguration, MoltsError
from molts.percentiles import percentile
from projects.providers.faster_whisper.protocol import (
    MAX_SOUND_BYTES,
    STREAM_PATH,
    VERSION,
    Cancel,
    End,
    Message,
    Open,
    Pause,
    Ready,
    Refused,
    SpeechProtocolError,
    UtteranceStart,
    pack,
    read_client,
)
from projects.providers.faster_whisper.weights import at_hand, model_path

logger = logging.getLogger(__name__)

OPEN_SECONDS = 10.0
STREAMS_AT_MOST = 2000
OTHER_MODELS_AT_MOST = 2
LOOK_FOR_MODEL_SECONDS = 2.0
TRY_MODEL_AGAIN_SECONDS = 60.0  # when none could be loaded: a GPU may be full for a while
STOP_SECONDS = 3
WAITING_MESSAGES = 1000
REFUSED, BAD = 4003, 4400


@dataclass
class SpeechServer:
    """Holds the models, the queue in front of them and the streams of all conversations."""

    engine: Engine
    model: str
    pace: DecodingPace
    secret: str = ""
    ladder_settings: LadderSettings = field(default_factory=LadderSettings)
    limits: UploadLimits = field(default_factory=UploadLimits)
    figures: StreamFigures = field(default_factory=StreamFigures)

    def __post_init__(self) -> None:
        # A recording that was taken in is not refused later: there is room for all pieces that may wait at once.
        room = self.limits.at_once * AT_ONCE
        self.scheduler = Scheduler(self.engine, rescue=self._rescue, files_at_most=room)
        self.files = SpeechAPI(self.scheduler, secret=self.secret, aliases=(self.model,), limits=self.limits)
        self.app = Router(
            [Route("/healthz", self._health_door), WebSocketRoute("/{path:path}", self._stream_door)],
            redirect_slashes=False,
            default=self.files,
        )
        self.ladder: Ladder | None = None
        self.streams = 0
        self._web: _Server | None = None
        self._loading_other = asyncio.Lock()
        self._started = time.monotonic()

    # -- running -------------------------------------------------------------------------------------------------------
    async def run(self, places: ListeningPlaces) -> None:
        """Until SIGINT or SIGTERM. Raises BadConfiguration when it cannot listen there, OSError when it may not,
        DeviceFailedError when only a new process helps."""
        if places.beyond_this_machine and not self.secret:
            raise BadConfiguration(
                "Set MOLTS_SPEECH_SECRET (or MOLTS_SPEECH_SECRET_FILE) to let other machines use this speech server."
            )
        config = uvicorn.Config(
            self.app,
            interface="asgi3",
            http=BoundedHTTP,
            h11_max_incomplete_event_size=HEAD_BYTES,
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws_max_size=MAX_SOUND_BYTES,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        sockets = open_sockets(places)
        serving = asyncio.create_task(self.scheduler.run(), name="speech-scheduler")
        loading = asyncio.create_task(self._keep_model(), name="speech-model")
        for task in (serving, loading):
            task.add_done_callback(self._stop_if_failed)
        self._web = _Server(config)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        try:
            with scratch_folder() as self.files.upload_folder:
                await self._web.serve(sockets=sockets)
            for task in (serving, loading):
                if task.done():
                    task.result()
        finally:
            for task in (serving, loading):
                task.cancel()
            await asyncio.gather(serving, loading, return_exceptions=True)
            self.engine.close()
            for path in places.sockets:
                path.unlink(missing_ok=True)

    @property
    def listening(self) -> bool:
        return self._web is not None and self._web.started

    def stop(self) -> None:
        """End `run`; when asked again, without waiting for anybody."""
        if self._web is not None:
            self._web.stop()

    def _stop_if_failed(self, task: asyncio.Task[None]) -> None:
        """A server that hears nobody is better started again."""
        if not task.cancelled() and task.exception() is not None:
            self.stop()

    async def _keep_model(self) -> None:
        """Load the model, or a smaller one while it is still being fetched; then change its size with the load."""
        policy = LadderPolicy(self.ladder_settings, home=self.model, has=lambda name: model_path(name) is not None)
        if self.model not in policy.here:
            logger.warning("speech model %s is not here yet", self.model)
        while not policy.here:  # noqa: ASYNC110 - another process fetches it
            await asyncio.sleep(LOOK_FOR_MODEL_SECONDS)
        while (model := await self._first_model(policy)) is None:  # noqa: ASYNC110 - others may give memory back
            await asyncio.sleep(TRY_MODEL_AGAIN_SECONDS)
        reason = "" if policy.current == policy.home else self._why_another(policy)
        read_load = Processor() if model.device == "cpu" else read_gpu
        self.ladder = Ladder(self.engine, policy, read_load=read_load, reason=reason)
        if policy.can_move:
            await self.ladder.run()

    def _why_another(self, policy: LadderPolicy) -> str:
        what = "could not be loaded" if policy.home in policy.here else "is not here yet"
        return f"{public_name(policy.home)} {what}"

    async def _first_model(self, policy: LadderPolicy) -> LoadedWhisper | None:
        """The chosen model, or the largest smaller one that is here and fits into memory."""
        for name in policy.here:
            try:
                model = await self.engine.load(name)
            except MoltsError as error:
                logger.error("speech model cannot be used: %s", error.detail)
                policy.failed(time.monotonic(), name)
                continue
            self.engine.use(model.name)
            policy.current = model.name
            logger.info("speech model %s in use on %s (%s)", public_name(name), model.device, model.compute_type)
            return model
        return None

    async def _rescue(self) -> bool:
        """Out of memory: go one size down. False when there is nothing smaller."""
        return self.ladder is not None and await self.ladder.fall("out of memory")

    # -- doors ---------------------------------------------------------------------------------------------------------
    async def _health_door(self, request: Request) -> Response:
        return JSONResponse(self.state() if self._may_enter(request) else {"ready": self.engine.active is not None})

    def state(self) -> dict[str, Any]:
        """What `doctor` and metrics want to know. Nothing of what was said."""
        active, figures = self.engine.active, self.figures
        p50, p95 = percentile(figures.final_lags, 50), percentile(figures.final_lags, 95)
        heard = figures.speech_seconds + figures.silence_seconds
        return {
            "ready": active is not None,
            "model": public_name(active.name) if active else "",
            "wanted": public_name(self.model),
            "device": active.device if active else "",
            "compute_type": active.compute_type if active else "",
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "streams": self.streams,
            "waiting": self.scheduler.waiting,
            "utterances": figures.utterances,
            "speech_seconds": round(figures.speech_seconds, 2),
            "silence_seconds": round(figures.silence_seconds, 2),
            "silence_share": round(figures.silence_seconds / heard, 3) if heard else None,
            "partials": figures.partials,
            "agreed_words": figures.agreed_words,
            "revised_words": figures.revised_words,
            "final_lag_p50_ms": None if p50 is None else round(p50 * 1000),
            "final_lag_p95_ms": None if p95 is None else round(p95 * 1000),
            "busy_seconds": round(self.engine.busy_seconds, 2),
            "ladder": self.ladder.state() if self.ladder else None,
            "decodes": dict(self.scheduler.figures.decodes),
            "calls": self.scheduler.figures.calls,
            "refused": self.scheduler.figures.refused,
            "dropped": self.scheduler.figures.dropped,
        }

    async def _stream_door(self, socket: WebSocket) -> None:
        at_door = socket.scope["path"] == STREAM_PATH and self._may_enter(socket)
        if not at_door or self.streams >= STREAMS_AT_MOST:
            await socket.receive()  # the connect
            await socket.close(REFUSED)
            return
        await socket.accept()
        self.streams += 1
        try:
            await self._converse(socket)
        except (WebSocketDisconnect, RuntimeError) as error:  # the client went in the middle of a word
            logger.debug("stream ended: %s", error)
        finally:
            self.streams -= 1

    def _may_enter(self, caller: HTTPConnection) -> bool:
        if "origin" in caller.headers:  # a page in somebody's browser
            return False
        if caller.client is None or not self.secret:  # the socket's own rights decide
            return True
        given = caller.headers.get("authorization", "").encode("latin-1")
        return hmac.compare_digest(given, f"Bearer {self.secret}".encode())

    async def _converse(self, socket: WebSocket) -> None:
        opening = await _read_opening(socket)
        if opening is None:
            return
        if isinstance(opening, Open):
            opening = opening.model_copy(update={"model": self._name_of(opening.model)})
            opening = await self._model_for(opening) or opening
        if isinstance(opening, Refused):
            await socket.send_text(pack(opening))
            await socket.close(BAD)
            return
        with self.engine.hold(opening.model):
            model = self.engine.get(opening.model)
            await socket.send_text(pack(Ready(model=public_name(model.name) if model else "")))
            await self._hear(opening, socket)

    async def _hear(self, opening: Open, socket: WebSocket) -> None:
        outgoing: asyncio.Queue[Message] = asyncio.Queue(WAITING_MESSAGES)
        stream = RecognitionStream(
            opening=opening,
            scheduler=self.scheduler,
            pace=self.pace,
            figures=self.figures,
            send=lambda message: _put(outgoing, message),
        )
        writer = asyncio.create_task(_write(outgoing, socket))
        try:
            await _listen(stream, socket)
        except SpeechProtocolError as error:
            await socket.close(BAD, str(error)[:100])
        finally:
            stream.close()
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await writer

    def _name_of(self, asked: str) -> str:
        """The model that serves who asks for this one; "": whichever size of the chosen one is in use."""
        if asked in ("", self.model):
            return ""
        name = at_hand(asked)
        return "" if name == self.model else name

    async def _model_for(self, opening: Open) -> Refused | None:
        """Have the model that is asked for; a Refused when that cannot be."""
        name = opening.model
        if not name:
            loaded = self.engine.active is not None
            return None if loaded else Refused(code="no_model", detail=f"the model {self.model} is not loaded yet")
        async with self._loading_other:
            if self.engine.get(name) is not None:
                return None
            if not self._has_room_for_another():
                held = ", ".join(map(public_name, self._others))
                return Refused(code="no_model", detail=f"as many models as may be are in use: {held}")
            try:
                await self.engine.load(name)
            except MoltsError as error:
                return Refused(code="no_model", detail=error.detail)
        return None

    @property
    def _others(self) -> list[str]:
        """Models in memory beside the one that serves who names none."""
        return [name for name in self.engine.loaded if self.engine.get(name) is not self.engine.active]

    def _has_room_for_another(self) -> bool:
        """Whether one more model may be loaded; those that no conversation uses any more make room."""
        for name in self._others:
            if len(self._others) >= OTHER_MODELS_AT_MOST:
                self.engine.drop(name)
        return len(self._others) < OTHER_MODELS_AT_MOST


class _Server(uvicorn.Server):
    """uvicorn would end the process by the signal that it was asked to stop with, before anything is put away."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


async def _read_opening(socket: WebSocket) -> Open | Refused | None:
    """The client's first message, or what is wrong with it; None when it has gone."""
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            event = await socket.receive()
            if event["type"] != "websocket.receive":
                return None
            opening = read_client(event.get("text") or "")
    except (TimeoutError, SpeechProtocolError) as error:
        return Refused(code="bad", detail=str(error) or "nothing came")
    if not isinstance(opening, Open):
        return Refused(code="bad", detail="the first message must be `open`")
    if opening.version != VERSION:
        return Refused(code="bad", detail=f"this server speaks version {VERSION}")
    return opening


async def _listen(stream: RecognitionStream, socket: WebSocket) -> None:
    """Until the client hangs up. Raises ProtocolError."""
    while (event := await socket.receive())["type"] == "websocket.receive":
        if (sound := event.get("bytes")) is not None:
            if len(sound) % 2:
                raise SpeechProtocolError("half a sample")
            stream.hear(sound)
            continue
        match read_client(event.get("text") or ""):
            case UtteranceStart(utterance=number, silence=silence):
                stream.start(number, silence)
            case Pause(utterance=number):
                stream.pause(number)
            case End(utterance=number):
                stream.end(number)
            case Cancel(utterance=number):
                stream.cancel(number)
            case Open():
                raise SpeechProtocolError("`open` comes once")


def _put(outgoing: asyncio.Queue[Message], message: Message) -> None:
    """A client that does not read loses partials, and then everything: it will come again."""
    with contextlib.suppress(asyncio.QueueFull):
        outgoing.put_nowait(message)


async def _write(outgoing: asyncio.Queue[Message], socket: WebSocket) -> None:
    while True:
        await socket.send_text(pack(await outgoing.get()))
