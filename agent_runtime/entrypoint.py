"""What runs inside a job process: one conversation.

LiveKit starts jobs from a fork server that imports this module by name, so Django is set up here and nothing of the
parent (connections, loops) is relied on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import uuid
from collections import deque
from typing import Any

import django
import redis
import redis.asyncio
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "molts.settings")
if not apps.ready:
    django.setup()

from livekit.agents import AgentSession, JobContext, JobProcess
from livekit.agents.stt import STTError
from livekit.agents.voice.events import CloseEvent, CloseReason, ErrorEvent
from livekit.agents.voice.room_io import TextInputEvent

from agent_runtime.avatar.addressed_streams import address_streams
from agent_runtime.avatar.link import FaceLink, face_source
from agent_runtime.db import DatabaseThread
from agent_runtime.early import hear_early_words
from agent_runtime.farewell import say_why_not
from agent_runtime.heartbeat import Heartbeat
from agent_runtime.job_logs import log_through_parent
from agent_runtime.listening import take_only_the_sound_of
from agent_runtime.pace import Pace
from agent_runtime.pipeline import Pipeline, build_pipeline, describe_change, load_vad, pace_words_lightly, room_options
from agent_runtime.recorder import SessionRecorder
from molts.errors import MoltsError, NotFound
from projects.providers.base import PIPELINE, Kind
from projects.providers.chains import AvailabilityChange
from sessions import presence, services
from sessions.choices import EndReason
from sessions.spec import SessionSpec, load_spec

logger = logging.getLogger(__name__)

MAX_TYPED = 4_000
LINE_ATTRIBUTE = "molts.line"  # of typed text in the room: the page's name for the line
LINES_KEPT = 200
SAY_AGAIN_SECONDS = 1.0
SWITCH_SECONDS = 0.0005
CLOSE_SECONDS = 3.0
FAREWELL_SECONDS = 20.0


def prewarm(process: JobProcess) -> None:
    """Before a job is assigned: what can be loaded ahead is loaded, and connections of the parent are dropped."""
    from django.db import connections

    from projects.providers import faster_whisper, supertonic

    connections.close_all()
    log_through_parent()
    # Other threads (database, recogniser) hand the interpreter back sooner: each step of an answer waits for it anew.
    sys.setswitchinterval(SWITCH_SECONDS)
    process.userdata["vad"] = load_vad()
    faster_whisper.prewarm()
    supertonic.prewarm()


async def run_job(context: JobContext) -> None:
    """Entry point of a job. The dispatch's metadata is the session id and nothing else."""
    database = DatabaseThread()
    spec = await _load(context.job.metadata, database)
    conversation = None if spec is None else Conversation(context=context, spec=spec, database=database)
    if conversation is None or not await conversation.claim():
        database.close()
        context.shutdown(reason="no session to serve")
        return
    context.add_shutdown_callback(conversation.aclose)
    await conversation.start()


async def _load(metadata: str, database: DatabaseThread) -> SessionSpec | None:
    """The spec of the session that the dispatch names; None when it cannot be served."""
    try:
        session_id = uuid.UUID(metadata)
        return await database.run(load_spec, session_id)
    except (NotFound, ValueError):
        logger.warning("job without a session")
    except MoltsError as error:
        logger.error("conversation cannot start: %s", error.detail)
        await database.run(services.end_session, session_id=session_id, reason=EndReason.ERROR)
    return None


class Conversation:
    """One session in one room: starts the pipeline, feeds recorder and heartbeat, and closes all of it once."""

    def __init__(self, *, context: JobContext, spec: SessionSpec, database: DatabaseThread) -> None:
        self._context = context
        self._spec = spec
        self._database = database
        self._recorder = SessionRecorder(spec=spec, database=database, has_avatar=spec.face is not None)
        self._heartbeat = Heartbeat(
            session_id=spec.session_id,
            generation=spec.generation,
            identity=context.local_participant_identity,
            database=database,
            on_superseded=self._leave,
        )
        self._pipeline: Pipeline | None = None
        self._face: FaceLink | None = None
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._typing = Pace(services.MOST_TYPED, services.TYPED_SECONDS)
        self._telling_too_fast = Pace(1, services.TYPED_SECONDS)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def claim(self) -> bool:
        """Take the session; False when it is over or another job has it."""
        await self._heartbeat.first_beat()
        claimed = await self._database.run(
            services.claim_session, session_id=self._spec.session_id, generation=self._spec.generation
        )
        if not claimed:
            await self._heartbeat.aclose()
        return claimed

    async def start(self) -> None:
        self._heartbeat.start()
        try:
            self._pipeline = build_pipeline(
                self._spec,
                vad=self._context.proc.userdata.get("vad") or load_vad(),
                on_final=self._recorder.note_heard,
                teller=self._recorder,
            )
        except MoltsError as error:
            await self._fail(error)
            return
        session = self._pipeline.session
        self._recorder.attach(session)
        session.on("error", self._on_error)
        session.on("close", self._on_close)
        self._watch_chains(self._pipeline)
        take_only_the_sound_of(self._context, self._spec.visitor_identity)
        # Before the room is joined: audio recorded while the visitor waited arrives with the join.
        await session.start(
            self._pipeline.agent,
            room=self._context.room,
            room_options=room_options(text_output=self._recorder.text_output(), on_text=self._on_text),
            record=False,
            session_host=False,
        )
        pace_words_lightly(session.room_io)
        self._call_face(session)
        session.room_io.set_participant(self._spec.visitor_identity)  # whoever else may be in the room
        self._context.room.on("disconnected", lambda *_: self._context.shutdown(reason="room closed"))
        await self._database.run(
            services.activate_session,
            session_id=self._spec.session_id,
            agent_identity=self._context.room.local_participant.identity,
        )
        self._spawn(self._listen_for_say(session))
        self._spawn(self._greet(session))

    async def aclose(self) -> None:
        """Write what is known, then withdraw the beat. Called once by the job's shutdown."""
        for task in (tasks := set(self._tasks)):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        if self._face is not None:
            await self._face.aclose()
        await self._recorder.aclose()
        await self._heartbeat.aclose()
        if self._pipeline is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(3):
                    await self._pipeline.aclose()
        self._database.close()

    def _call_face(self, session: AgentSession[None]) -> None:
        if self._spec.face is None:
            return
        address_streams(self._context.room)  # else the visitor gets the speech for the face as well
        source = face_source(
            spec=self._spec,
            session=session,
            room=self._context.room,
            agent_identity=self._context.local_participant_identity,
        )
        self._face = FaceLink(source=source, session=session, recorder=self._recorder)
        self._spawn(self._face.run())

    # -- what it says by itself ----------------------------------------------------------------------------------------
    async def _greet(self, session: AgentSession[None]) -> None:
        """Greet once the visitor is there to hear it. A job that replaces another one goes on without."""
        if self._spec.is_resumed or not self._spec.persona.greeting:
            return
        with contextlib.suppress(RuntimeError):  # the visitor left before: room or session is closing
            visitor = await self._context.wait_for_participant(identity=self._spec.visitor_identity)
            if self._face is not None:
                await self._face.settled()
            await hear_early_words(session, visitor, self._recorder)
            if not self._recorder.visitor_has_spoken:  # else the answer is the greeting
                session.say(self._spec.persona.greeting)

    # -- what is typed -------------------------------------------------------------------------------------------------
    async def _on_text(self, session: AgentSession[Any], event: TextInputEvent) -> None:
        """Text typed in the room. Only the visitor's own counts, whoever else may send, and only so much of it at once:
        the page offers to send again what was not taken."""
        if event.participant is not None and event.participant.identity != self._spec.visitor_identity:
            return
        if not self._typing.allows():
            if self._telling_too_fast.allows():
                self._recorder.notice(
                    level="info",
                    code="too_fast",
                    text="That was too much at once. What was not delivered can be sent again.",
                )
            return
        attributes = (event.info and event.info.attributes) or {}
        self._answer_text(session, event.text, line=attributes.get(LINE_ATTRIBUTE, ""))

    def _answer_text(self, session: AgentSession[Any], text: str, *, line: str) -> None:
        """`line` is the sender's name for it: the page sends again, by whatever way, what it saw no confirmation of."""
        text = text.strip()[:MAX_TYPED]
        if not text or (line and line in self._lines):
            return
        self._lines.append(line)
        self._recorder.record_typed(text)
        if self._pipeline is not None:
            self._pipeline.attendant.note_asked()
        with contextlib.suppress(RuntimeError):  # the answer that is being given may not be interruptible
            session.interrupt()
        session.generate_reply(user_input=text)

    async def _listen_for_say(self, session: AgentSession[None]) -> None:
        """Text that programs and the page send through the server."""
        client = presence.async_client(endless=True)
        try:
            while True:
                with contextlib.suppress(redis.RedisError, OSError):
                    await self._take_orders(client, session)
                await asyncio.sleep(SAY_AGAIN_SECONDS)  # Redis went away; nobody can order anything meanwhile
        finally:
            await client.aclose()

    async def _take_orders(self, client: redis.asyncio.Redis, session: AgentSession[None]) -> None:
        async with client.pubsub() as subscription:
            await subscription.subscribe(presence.say_channel(self._spec.session_id))
            async for message in subscription.listen():
                if message["type"] == "message":
                    self._say(session, message["data"])

    def _say(self, session: AgentSession[None], data: str) -> None:
        try:
            order = json.loads(data)
            text, speaker, line = str(order["text"]), order["as"], str(order["id"])
        except (ValueError, KeyError, TypeError):
            logger.warning("unreadable say order")
            return
        if speaker == "agent":
            session.say(text)
        else:
            self._answer_text(session, text, line=line)

    # -- what goes wrong -----------------------------------------------------------------------------------------------
    def _watch_chains(self, pipeline: Pipeline) -> None:
        for kind, chain in pipeline.chains.items():
            chain.on_change(self._on_provider_change)
            if kind is Kind.STT and chain.active is not None and chain.active.provider == "pocketsphinx":
                self._notice_offline_recogniser()

    def _on_provider_change(self, change: AvailabilityChange) -> None:
        if change.kind is Kind.STT and change.active is not None and change.active.provider == "pocketsphinx":
            self._notice_offline_recogniser()
        if self._pipeline is not None and self._pipeline.attendant.takes(change):
            return
        self._recorder.notice(
            level="info" if change.available else "warning",
            code=f"{change.kind.value}_fallback",
            text=describe_change(change),
            reason=change.reason,
        )

    def _notice_offline_recogniser(self) -> None:
        self._recorder.notice(
            level="warning",
            code="offline_recogniser",
            text="A simple offline recogniser is listening: it often mishears. Typing works better.",
            once=True,
        )

    def _on_error(self, event: ErrorEvent) -> None:
        logger.warning("pipeline error", extra={"error": type(event.error).__name__})
        # A model's or a voice's comes out where its answer or its sound was waited for.
        if isinstance(event.error, STTError) and not event.error.recoverable and self._pipeline is not None:
            self._pipeline.attendant.could_not_hear()

    def _on_close(self, event: CloseEvent) -> None:
        if event.reason is CloseReason.ERROR:
            self._context.shutdown(reason="pipeline error")

    async def _fail(self, error: MoltsError) -> None:
        """The agent is set up so that it cannot talk: say so instead of leaving the visitor with silence."""
        logger.error("conversation cannot start: %s", error.detail)
        kind = Kind(error.attr) if error.attr in PIPELINE else Kind.LLM
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await say_why_not(
                    context=self._context, spec=self._spec, recorder=self._recorder, kind=kind, reason=error.detail
                )
        except Exception as unheard:  # it is told in any case by how the conversation ends
            logger.warning("nobody heard why", extra={"error": type(unheard).__name__})
        await self._database.run(services.end_session, session_id=self._spec.session_id, reason=EndReason.ERROR)
        self._context.shutdown(reason="bad configuration")

    def _leave(self) -> None:
        self._context.shutdown(reason="another job has the session")

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("background task failed", exc_info=error)
