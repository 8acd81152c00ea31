"""What runs inside an avatar's process: one face in one room.

LiveKit starts jobs from a fork server that imports this module by name, so Django is set up here and nothing of the
parent (connections, loops) is relied on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import django
from django.apps import apps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "molts.settings")
if not apps.ready:
    django.setup()

from livekit import rtc
from livekit.agents import AutoSubscribe, JobContext, JobProcess
from livekit.agents.types import ATTRIBUTE_AGENT_STATE
from livekit.agents.voice.avatar import DataStreamAudioReceiver

from agent_runtime.avatar.prepare import prepare_apart, resolve, video_format
from agent_runtime.avatar.publisher import FacePublisher
from agent_runtime.db import DatabaseThread
from agent_runtime.face.call import SPEECH_RATE, AvatarCall
from agent_runtime.heartbeat import Pulse
from agent_runtime.job_logs import log_media_natively, log_through_parent
from avatars.engines import get_engine
from avatars.engines.base import EngineFailed, FaceState, LipSyncStream
from molts.errors import MoltsError, NotFound, Unavailable
from sessions import presence
from sessions.spec import FaceSpec, load_face

logger = logging.getLogger(__name__)

T = TypeVar("T")

RECEIVED_MS = 40  # the pieces in which speech is handed to the engine: the sound of a frame
HUNG_SECONDS = 2.0  # a loop that has not come round for so long shows nothing
ALONE_SECONDS = 5.0  # how long a face stays without its agent
TELL_TIMES = 50  # 0.1 s apart: an agent that connects anew is told as soon as it is there

STATES = {
    "initializing": FaceState.IDLE,
    "idle": FaceState.IDLE,
    "listening": FaceState.LISTENING,
    "thinking": FaceState.THINKING,
    "speaking": FaceState.SPEAKING,
}


class Unwanted(MoltsError):
    """Nobody waits for this avatar any more."""


def prewarm(process: JobProcess) -> None:
    """Before a job is assigned: connections of the parent are dropped."""
    from django.db import connections

    connections.close_all()
    log_through_parent()


async def run_job(context: JobContext) -> None:
    """Entry point of a job. The dispatch's metadata is an `AvatarCall`."""
    log_media_natively()
    call = AvatarCall.decode(context.job.metadata)
    spec = await _load_face(call)
    if spec is None or not await _is_wanted(call):
        context.shutdown(reason="no face to show")
        return
    pulse = AvatarPulse(call)
    pulse.start()
    try:
        stream = await _unless_unwanted(pulse, _open_stream(call, spec, pulse))
    except (MoltsError, TimeoutError) as error:
        logger.error("face cannot be shown: %s", error)
        await pulse.aclose()
        context.shutdown(reason="face cannot be shown")
        return
    avatar = AvatarJob(context=context, call=call, stream=stream, pulse=pulse)
    context.add_shutdown_callback(avatar.aclose)
    await avatar.start()


async def _load_face(call: AvatarCall) -> FaceSpec | None:
    database = DatabaseThread()
    try:
        return await database.run(load_face, call.session_id)
    except NotFound:
        logger.warning("avatar job without a session")
        return None
    finally:
        database.close()


async def _open_stream(call: AvatarCall, spec: FaceSpec, pulse: AvatarPulse) -> LipSyncStream:
    """The engine's stream of the face, which is prepared first if it never was."""
    engine, video = get_engine(spec.engine), video_format()
    async with asyncio.timeout(presence.PREPARE_SECONDS):
        face = await asyncio.to_thread(resolve, spec)
        if not await asyncio.to_thread(engine.is_prepared, face, video):
            pulse.report = lambda: presence.PREPARING
            if not await prepare_apart("--session", str(call.session_id)):
                raise EngineFailed("The face could not be prepared.")
        await asyncio.to_thread(engine.prepare, face, video)
        return await engine.open_stream(face, video)


async def _is_wanted(call: AvatarCall) -> bool:
    """False when the agent has called another one meanwhile, or none. Redis being away, or new and empty, is no reason
    not to show a face."""
    try:
        wanted = await asyncio.to_thread(presence.wanted_avatar, call.session_id)
    except Unavailable:
        return True
    return wanted in (None, call.avatar)


class AvatarJob:
    """One face in one room: leaves with its agent, with the room, and when it is no longer wanted."""

    def __init__(self, *, context: JobContext, call: AvatarCall, stream: LipSyncStream, pulse: AvatarPulse) -> None:
        self._context = context
        self._room = context.room
        self._call = call
        self._stream = stream
        self._pulse = pulse
        self._receiver = DataStreamAudioReceiver(
            self._room, sender_identity=call.agent, frame_size_ms=RECEIVED_MS, rpc_max_retries=TELL_TIMES
        )
        self._publisher: FacePublisher | None = None
        self._leaving: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        room = self._room
        room.on("participant_attributes_changed", self._on_attributes)
        room.on("participant_disconnected", self._on_left)
        room.on("participant_connected", self._on_joined)
        room.on("disconnected", lambda *_: self._leave("room closed"))
        self._pulse.unwanted.add_done_callback(lambda _: self._leave("not wanted"))
        await self._context.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)
        agent = room.remote_participants.get(self._call.agent)
        if agent is None:
            self._leave_soon()
        else:
            self._show_state(agent)
        try:
            async with asyncio.timeout(ALONE_SECONDS):
                await self._receiver.start()  # waits for the agent
        except TimeoutError:
            self._leave("no agent")
            return
        self._publisher = FacePublisher(
            room, speech=self._receiver, stream=self._stream, video=video_format(), sample_rate=SPEECH_RATE
        )
        await self._publisher.start()
        self._publisher.failed.add_done_callback(self._on_failed)
        self._pulse.report = self._publisher.figures.as_dict

    async def aclose(self) -> None:
        """Called once by the job's shutdown."""
        await self._pulse.aclose()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2):
                await self._receiver.aclose()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2):
                await (self._publisher or self._stream).aclose()

    # -- the agent -----------------------------------------------------------------------------------------------------
    def _on_attributes(self, changed: dict[str, str], participant: rtc.Participant) -> None:
        if participant.identity == self._call.agent and ATTRIBUTE_AGENT_STATE in changed:
            self._show_state(participant)

    def _show_state(self, agent: rtc.Participant) -> None:
        state = STATES.get(agent.attributes.get(ATTRIBUTE_AGENT_STATE, ""))
        if state is not None:
            self._stream.set_state(state)

    def _on_joined(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity != self._call.agent:
            return
        self._show_state(participant)
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self._call.agent:
            self._leave_soon()

    # -- leaving -------------------------------------------------------------------------------------------------------
    def _leave_soon(self) -> None:
        """An agent that lost its connection may come back."""
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().call_later(ALONE_SECONDS, self._leave, "agent gone")

    def _on_failed(self, failed: asyncio.Future[None]) -> None:
        if not failed.cancelled():
            failed.exception()  # logged where it happened
            self._leave("face ended")

    def _leave(self, reason: str) -> None:
        self._context.shutdown(reason=reason)


class AvatarPulse(Pulse):
    """Beats for an avatar and looks whether its agent is alive and still wants it."""

    def __init__(self, call: AvatarCall) -> None:
        super().__init__(hung_seconds=HUNG_SECONDS)
        self.unwanted = asyncio.get_running_loop().create_future()
        """Done when this avatar should go."""
        self.report: Callable[[], Mapping[str, float]] = dict
        """What is said with each beat: that the face is being made ready, and later its figures."""
        self._call = call
        self._agent_seen_at = time.monotonic()

    def _beat(self, gap: float) -> Callable[[], object] | None:
        presence.beat_avatar(self._call.avatar, self.report())
        agent, wanted = presence.agent_and_avatar(self._call.session_id)
        if agent is not None and agent.identity == self._call.agent:
            self._agent_seen_at = time.monotonic()
        alone = time.monotonic() - self._agent_seen_at > ALONE_SECONDS
        return self._give_up if alone or wanted not in (None, self._call.avatar) else None

    def _give_up(self) -> None:
        if not self.unwanted.done():
            self.unwanted.set_result(None)

    def _withdraw(self) -> None:
        presence.forget_avatar(self._call.avatar)


async def _unless_unwanted(pulse: AvatarPulse, work: Coroutine[Any, Any, T]) -> T:
    """Result of `work`. Raises Unwanted, with the work cancelled, when the avatar should go meanwhile."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, pulse.unwanted}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Unwanted("The agent is gone or has called another avatar.")
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
