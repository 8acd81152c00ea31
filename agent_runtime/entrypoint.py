"""What runs inside a job process: one conversation.

LiveKit starts jobs from a fork server that imports this module by name, so Django is set up here and nothing of the
parent (connections, loops) is relied on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import django
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "molts.settings")
if not apps.ready:
    django.setup()

from livekit.agents import AgentSession, JobContext, JobProcess
from livekit.agents.stt import STTError
from livekit.agents.voice import SpeechHandle
from livekit.agents.voice.events import CloseEvent, CloseReason, ErrorEvent

from agent_runtime.db import DatabaseThread
from agent_runtime.early import hear_early_words
from agent_runtime.face.addressed_streams import address_streams
from agent_runtime.face.link import FaceLink, face_source
from agent_runtime.farewell import say_why_not
from agent_runtime.heartbeat import Heartbeat
from agent_runtime.job_logs import log_through_parent
from agent_runtime.listening import take_only_the_sound_of, wait_for_sound_of
from agent_runtime.orders import Orders
from agent_runtime.pace import RateLimit
from agent_runtime.pipeline import Pipeline, build_pipeline, describe_change, load_vad, pace_words_lightly, room_options
from agent_runtime.preconnect import limit_recordings
from agent_runtime.recorder import SessionRecorder
from agent_runtime.typed import MAX_TYPED, TypedLines
from molts.errors import MoltsError, NotFound
from molts.redact import remember_secret
from molts.text import clean_text
from projects.providers import PROVIDERS, get_provider
from projects.providers.base import PIPELINE, Kind
from projects.providers.chains import AvailabilityChange, BuiltRung
from sessions import lines, services
from sessions.choices import EndReason, NoticeCode, NoticeLevel
from sessions.spec import SessionSpec, load_spec

logger = logging.getLogger(__name__)

CONVERSATION = "conversation"
LAST_ROWS_SECONDS = 5.0
SWITCH_SECONDS = 0.0005
CLOSE_SECONDS = 3.0
FAREWELL_SECONDS = 20.0


def prewarm(process: JobProcess) -> None:
    """Before a job is assigned: what can be loaded ahead is loaded, and connections of the parent are dropped."""
    from django.db import connections

    connections.close_all()
    log_through_parent()
    # Other threads (database, recogniser) hand the interpreter back sooner: each step of an answer waits for it anew.
    sys.setswitchinterval(SWITCH_SECONDS)
    process.userdata["vad"] = load_vad()
    for key in PROVIDERS:
        get_provider(key).prewarm()


async def run_job(context: JobContext) -> None:
    """Entry point of a job. The dispatch's metadata is the session id and nothing else."""
    database = DatabaseThread()
    spec = await _load(context.job.metadata, database)
    conversation = None if spec is None else Conversation(context=context, spec=spec, database=database)
    if conversation is None or not await conversation.claim():
        database.close()
        context.shutdown(reason="no session to serve")
        return
    context.proc.userdata[CONVERSATION] = conversation
    context.add_shutdown_callback(conversation.aclose)
    await conversation.start()


async def end_job(context: JobContext) -> None:
    """Called by the worker after the talk has ended and before the room is left."""
    conversation = context.proc.userdata.get(CONVERSATION)
    if conversation is not None:
        await conversation.before_leaving()


def _is_last_resort(rung: BuiltRung | None) -> bool:
    return rung is not None and get_provider(rung.provider).last_resort


async def _load(metadata: str, database: DatabaseThread) -> SessionSpec | None:
    """The spec of the session that the dispatch names; None when it cannot be served."""
    try:
        session_id = uuid.UUID(metadata)
        spec = await database.run(load_spec, session_id)
        for credentials in spec.credentials:
            remember_secret(credentials.api_key, keep=True)  # in all threads: this process has no other talk
        return spec
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
            quiet_seconds=self._recorder.quiet_seconds,
        )
        self._pipeline: Pipeline | None = None
        self._face: FaceLink | None = None
        self._typed: TypedLines | None = None
        self._known_lines: set[str] = set()  # ids of lines and orders that were taken, by this job or one before it
        self._typing = RateLimit(services.MOST_TYPED, services.TYPED_SECONDS)
        self._telling_too_fast = RateLimit(1, services.TYPED_SECONDS)
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
        limit_recordings(self._context.room, self._spec.visitor_identity)
        self._typed = TypedLines(
            self._context.room,
            identity=self._spec.visitor_identity,
            allows=self._may_type,
            on_line=partial(self._answer_line, session),
        )
        # Before the room is joined: audio recorded while the visitor waited arrives with the join.
        await session.start(
            self._pipeline.agent,
            room=self._context.room,
            room_options=room_options(text_output=self._recorder.text_output()),
            record=False,
            session_host=False,
        )
        pace_words_lightly(session.room_io)
        self._call_face(session)
        session.room_io.set_participant(self._spec.visitor_identity)  # whoever else may be in the room
        self._context.room.on("disconnected", lambda *_: self._context.shutdown(reason="room closed"))
        await wait_for_sound_of(self._context.room, self._spec.visitor_identity, self._pipeline.agent.hears)
        self._recorder.note_ready(self._context.room.local_participant.identity)
        self._spawn(self._orders(session, on_ready=self._typed.open).run(self._context.room))
        self._spawn(self._greet(session))

    async def before_leaving(self) -> None:
        """Called when nothing is said any more, before the room is left: the next job takes its leaving for a sign that
        the transcript is complete."""
        await self._recorder.flush(seconds=LAST_ROWS_SECONDS)

    async def aclose(self) -> None:
        """Write what is known, then withdraw the beat. Called once by the job's shutdown."""
        for task in (tasks := set(self._tasks)):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        if self._typed is not None:
            await self._typed.aclose()
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
    def _may_type(self) -> bool:
        """Only so much at once; the page offers to send again what was not taken."""
        if self._typing.allows():
            return True
        if self._telling_too_fast.allows():
            self._recorder.notice(
                level=NoticeLevel.INFO,
                code=NoticeCode.TOO_FAST,
                text="That was too much at once. What was not delivered can be sent again.",
            )
        return False

    def _answer_line(self, session: AgentSession[Any], text: str, line: str) -> None:
        """Answer what was typed into the room. The page names each line, and sends it again, by whatever way, as long
        as it sees no confirmation of it: it is answered once."""
        line_id = lines.line_id(session_id=self._spec.session_id, name=line) if line else ""
        if line_id in self._known_lines:
            return
        if line_id:
            self._known_lines.add(line_id)
        self._answer_text(session, text, line_id)

    def _answer_text(self, session: AgentSession[Any], text: str, segment_id: str = "") -> SpeechHandle | None:
        """Answer what was typed; None for nothing."""
        text = clean_text(text)[:MAX_TYPED]
        if not text:
            return None
        self._recorder.record_typed(text, segment_id)
        if self._pipeline is not None:
            self._pipeline.attendant.note_asked()
        self._make_way(session)
        return session.generate_reply(user_input=text)

    def _make_way(self, session: AgentSession[Any]) -> None:
        """Whoever types cuts short what is being said, but no line that a program ordered and nobody has heard yet."""
        current = session.current_speech
        with contextlib.suppress(RuntimeError):  # the answer that is being given may not be interruptible
            if not self._recorder.has_unheard:
                session.interrupt()
            elif current is not None and not self._recorder.is_unheard(current.id):
                current.interrupt()

    def _orders(self, session: AgentSession[None], *, on_ready: Callable[[], None]) -> Orders:
        return Orders(
            known=self._known_lines,
            on_ready=on_ready,
            spec=self._spec,
            session=session,
            recorder=self._recorder,
            database=self._database,
            answer=partial(self._answer_text, session),
            leave=self._leave,
        )

    # -- what goes wrong -----------------------------------------------------------------------------------------------
    def _watch_chains(self, pipeline: Pipeline) -> None:
        for kind, chain in pipeline.chains.items():
            chain.on_change(self._on_provider_change)
            if kind is Kind.STT and _is_last_resort(chain.active):
                self._notice_offline_recogniser()

    def _on_provider_change(self, change: AvailabilityChange) -> None:
        if change.kind is Kind.STT and _is_last_resort(change.active):
            self._notice_offline_recogniser()
        if self._pipeline is not None and self._pipeline.attendant.takes(change):
            return
        self._recorder.notice(
            level=NoticeLevel.INFO if change.available else NoticeLevel.WARNING,
            code=NoticeCode(f"{change.kind.value}_fallback"),
            text=describe_change(change),
            reason=change.reason,
        )

    def _notice_offline_recogniser(self) -> None:
        self._recorder.notice(
            level=NoticeLevel.WARNING,
            code=NoticeCode.OFFLINE_RECOGNISER,
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
