"""A face of our own avatar worker: a job (`agent_runtime.avatar.job`) that joins the room as a participant."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid

from livekit import rtc
from livekit.agents.voice.avatar import DataStreamAudioOutput

from agent_runtime.face.call import SPEECH_RATE, AvatarCall
from agent_runtime.face.source import (
    CLOSE_SECONDS,
    WATCH_SECONDS,
    FaceMissing,
    FaceSource,
    LiveFace,
    NoFreeWorker,
    until_seen,
)
from molts import beats
from molts.beats import WorkerInfo, WorkerKind
from molts.errors import MoltsError, Unavailable
from sessions import presence, rooms
from sessions.spec import SessionSpec

LOOK_SECONDS = 1.0  # between looks whether a worker has a free slot


class WorkerFaceSource(FaceSource):
    """Asks for a job of the avatar worker by explicit dispatch: the media server spreads faces over boxes."""

    def __init__(self, *, spec: SessionSpec, room: rtc.Room, agent_identity: str) -> None:
        self._spec = spec
        self._room = room
        self._agent = agent_identity

    async def call(self) -> LiveFace:
        workers = await _workers()
        if workers is not None and not any(worker.has_free_slot for worker in workers):
            raise NoFreeWorker("No avatar worker has a free slot." if workers else "No avatar worker is running.")
        call = AvatarCall.new(self._spec.session_id, self._agent)
        with contextlib.suppress(Unavailable):
            await asyncio.to_thread(presence.want_avatar, call.session_id, call.avatar)
        try:
            await rooms.dispatch_avatar(self._spec.room_name, metadata=call.encode())
            await self._until_there(call.avatar)
        except BaseException:
            await _forget(call.session_id)  # one that comes later would show a face that does not speak
            raise
        return WorkerAvatar(self._room, self._spec, call)

    async def may_come(self) -> None:
        while not any(worker.has_free_slot for worker in await _workers() or ()):  # noqa: ASYNC110 - of Redis
            await asyncio.sleep(LOOK_SECONDS)

    async def _until_there(self, avatar: str) -> None:
        """Raises FaceMissing when the face cannot be made ready."""
        seen = asyncio.create_task(until_seen(self._room, avatar))
        given_up = asyncio.create_task(self._until_given_up(avatar))
        try:
            await asyncio.wait({seen, given_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            given_up.cancel()
            seen.cancel()
        if not seen.done():
            raise FaceMissing("The face could not be made ready.")

    async def _until_given_up(self, avatar: str) -> None:
        """Says that the face is being made ready, and returns if that comes to nothing."""
        preparing = False
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                beat = await asyncio.to_thread(presence.avatar_beat, avatar)
            except Unavailable:
                continue
            if beat is None and preparing:
                return
            if beat is not None and beat.is_preparing and not preparing:
                preparing = True
                if self.on_preparing is not None:
                    self.on_preparing()


class WorkerAvatar(LiveFace):
    """An avatar job of ours in the room. It beats once a second; LiveKit itself would miss it after twenty."""

    def __init__(self, room: rtc.Room, spec: SessionSpec, call: AvatarCall) -> None:
        self.identity = call.avatar
        self.output = DataStreamAudioOutput(
            room,
            destination_identity=call.avatar,
            sample_rate=SPEECH_RATE,
            clear_buffer_timeout=None,  # the route waits for its word, and takes no other for it
            wait_playback_start=True,
        )
        self._room = room
        self._spec = spec
        self._well_at = time.time()

    async def lost(self) -> float:
        silent_since = time.time()
        has_beaten = False
        while self.identity in self._room.remote_participants:
            await asyncio.sleep(WATCH_SECONDS)
            asked_at = time.time()
            try:
                beat = await asyncio.to_thread(presence.avatar_beat, self.identity)
            except Unavailable:
                silent_since, has_beaten = asked_at, False  # unknown is not gone, nor is what Redis forgot
                continue
            if beat is None and (has_beaten or asked_at - silent_since > presence.AVATAR_LOST_AFTER_MS / 1000):
                break
            if beat is not None:
                has_beaten = True
                self._well_at = max(self._well_at, asked_at - beat.age)
        return self._well_at

    async def dismiss(self) -> None:
        with contextlib.suppress(MoltsError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await _forget(self._spec.session_id)
                await rooms.withdraw_avatars(self._spec.room_name)  # one that hangs would keep its slot
                await rooms.remove_participant(self._spec.room_name, self.identity)


async def _forget(session_id: uuid.UUID) -> None:
    with contextlib.suppress(Unavailable):
        await asyncio.to_thread(presence.forget_face, session_id)


async def _workers() -> list[WorkerInfo] | None:
    """None when nobody knows, which is no reason not to ask one."""
    try:
        return await asyncio.to_thread(beats.workers, WorkerKind.AVATAR)
    except Unavailable:
        return None
