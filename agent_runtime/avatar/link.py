"""The agent's side of a face: calls one, keeps watch over it, and goes on without it, and with the next one.

Where a face comes from is a `FaceSource`, and there are two kinds. `WorkerFace` asks for a job of our own avatar worker
(`agent_runtime.avatar.job`), which joins the room as a participant of its own. `HostedFace` starts a vendor's
`AvatarSession` in this job; the vendor joins the room in the same way. Both give a `LiveFace`: an audio output that
takes the speech, and a way to learn that it is lost. Everything else (waiting, notices, calling again, where the speech
goes) is the same for both and is here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
from django.conf import settings
from livekit import rtc
from livekit.agents import AgentSession, ConversationItemAddedEvent
from livekit.agents.llm import ChatMessage
from livekit.agents.voice.avatar import DataStreamAudioOutput
from livekit.agents.voice.io import AudioOutput

from agent_runtime.avatar.call import AvatarCall
from agent_runtime.avatar.heard import HeardOutput, listen_to
from agent_runtime.avatar.job import SPEECH_RATE
from agent_runtime.avatar.route import SpeechRoute, install, tail_of
from agent_runtime.recorder import SessionRecorder
from molts.errors import MoltsError, Unavailable
from molts.http import Limits, guarded_session
from projects.providers import PROVIDERS, get_provider
from projects.providers.base import Kind
from projects.providers.hosted_faces import calls_through
from sessions import presence, rooms
from sessions.events import NoticeLevel
from sessions.presence import WorkerInfo, WorkerKind
from sessions.spec import FaceSpec, SessionSpec

logger = logging.getLogger(__name__)

JOIN_SECONDS = 3.0
LATER_JOIN_SECONDS = 6.0  # once the conversation goes on without it, a face has more time
TOLD_SECONDS = 8.0  # a visitor who sees no face by then is told so; a face that is only slow needs no words
WATCH_SECONDS = 0.5
LOOK_SECONDS = 1.0  # between looks whether a worker has a free slot
CALL_AGAIN_SECONDS = (2.0, 5.0, 10.0, 20.0, 30.0)
CLOSE_SECONDS = 3.0
CLOSING_SECONDS = 0.5
METER_SECONDS = 10.0
CUT_SECONDS = 1.0  # a face that does not say where it was cut is asked no longer
MISSING = "The face is missing for now. The conversation goes on with voice only."


class FaceMissing(MoltsError):
    """No face came."""

    code = "face_missing"
    http_status = 503
    retryable = True


class NoFreeWorker(FaceMissing):
    """None could be called at all."""


class LiveFace(ABC):
    """A face that is in the room and can speak."""

    output: AudioOutput
    identity: str

    @abstractmethod
    async def lost(self) -> float:
        """Return once the face is lost, with when it was last known to be well (epoch seconds)."""

    @abstractmethod
    async def dismiss(self) -> None:
        """Put it out of the room and free what it holds. Raises nothing."""


class FaceSource(ABC):
    """Whoever can bring a face into the room."""

    join_seconds = JOIN_SECONDS
    billed_as: tuple[str, str] | None = None
    """Provider and model, when somebody charges by the second: a call is never made beside another one then."""

    on_preparing: Callable[[], None] | None = None
    """Called when the face is on its way, but has to be made ready first: it may take `PREPARE_SECONDS`."""

    @abstractmethod
    async def call(self) -> LiveFace:
        """A face that has joined and shows its picture. Takes longer than `join_seconds` only when it is cancelled
        then. Raises FaceMissing or Unavailable when none can come now."""

    async def may_come(self) -> None:
        """After NoFreeWorker: return once it is worth while to call again."""
        await asyncio.Event().wait()

    async def aclose(self) -> None:  # noqa: B027 - most hold nothing
        """No more faces will be called."""


def face_source(*, spec: SessionSpec, session: AgentSession[Any], room: rtc.Room, agent_identity: str) -> FaceSource:
    """Where the face of this conversation comes from; `spec.face` is set."""
    assert spec.face is not None
    if spec.face.engine in PROVIDERS:
        return HostedFace(spec=spec.face, session=session, room=room)
    return WorkerFace(spec=spec, room=room, agent_identity=agent_identity)


# -- Our own worker ----------------------------------------------------------------------------------------------------
class WorkerFace(FaceSource):
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
        await rooms.dispatch_avatar(self._spec.room_name, metadata=call.encode())
        seen = asyncio.create_task(_until_seen(self._room, call.avatar))
        given_up = asyncio.create_task(self._until_given_up(call.avatar))
        try:
            await asyncio.wait({seen, given_up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            given_up.cancel()
            seen.cancel()
        if not seen.done():
            raise FaceMissing("The face could not be made ready.")
        return WorkerAvatar(self._room, self._spec, call)

    async def may_come(self) -> None:
        while not any(worker.has_free_slot for worker in await _workers() or ()):  # noqa: ASYNC110 - of Redis
            await asyncio.sleep(LOOK_SECONDS)

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
            clear_buffer_timeout=CUT_SECONDS,
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
                silent_since = asked_at  # unknown is not gone
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
                await asyncio.to_thread(presence.forget_face, self._spec.session_id)
                await rooms.withdraw_avatars(self._spec.room_name)  # one that hangs would keep its slot
                await rooms.remove_participant(self._spec.room_name, self.identity)


async def _workers() -> list[WorkerInfo] | None:
    """None when nobody knows, which is no reason not to ask one."""
    try:
        return await asyncio.to_thread(presence.workers, WorkerKind.AVATAR)
    except Unavailable:
        return None


# -- Hosted services ---------------------------------------------------------------------------------------------------
class HostedFace(FaceSource):
    """A vendor's face: the `AvatarSession` of its LiveKit plugin, started in this job."""

    join_seconds = 60.0  # a vendor's machine has to start; whoever calls sooner again may pay for two

    def __init__(self, *, spec: FaceSpec, session: AgentSession[Any], room: rtc.Room) -> None:
        self._spec = spec
        self._session = session
        self._room = room
        self._http: aiohttp.ClientSession | None = None
        self._turning_away: set[asyncio.Task[None]] = set()
        self.billed_as = (spec.engine, _vendors_name(spec.options))

    async def call(self) -> LiveFace:
        provider = get_provider(self._spec.engine)
        options = provider.parse_options(Kind.AVATAR, self._spec.options)
        # Plugins repeat a call that ran out of time: none does so before it is given up here.
        self._http = self._http or guarded_session(limits=Limits(total_seconds=self.join_seconds + CLOSE_SECONDS))
        with calls_through(self._http):
            avatar = await provider.build_avatar(
                options=options, credentials=self._spec.credentials, identity=f"avatar-{uuid.uuid4().hex[:12]}"
            )

        async def end() -> None:
            with contextlib.suppress(Exception):  # each plugin has errors of its own
                async with asyncio.timeout(CLOSE_SECONDS):
                    await provider.end_avatar(avatar, credentials=self._spec.credentials)

        try:
            with calls_through(self._http):
                output = await self._start(avatar)
            await _until_seen(self._room, avatar.avatar_identity)
        except BaseException:
            self._turn_away(avatar.avatar_identity)
            await end()
            raise
        return HostedAvatar(self._room, avatar.avatar_identity, output, end)

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http.close()

    def _turn_away(self, identity: str) -> None:
        """A vendor that was given up may still send its face: it would stand beside the next one, and be paid for."""

        def look(participant: rtc.RemoteParticipant) -> None:
            if participant.identity == identity:
                task = asyncio.create_task(_remove(self._room.name, identity))
                self._turning_away.add(task)
                task.add_done_callback(self._turning_away.discard)

        self._room.on("participant_connected", look)

    async def _start(self, avatar: Any) -> AudioOutput:
        """Start the vendor's session; what takes the speech for it. Raises FaceMissing when the vendor refuses."""
        route = tail_of(self._session.output)
        try:
            await avatar.start(
                self._session,
                self._room,
                livekit_url=settings.LIVEKIT_PUBLIC_URL,
                livekit_api_key=settings.LIVEKIT_API_KEY,
                livekit_api_secret=settings.LIVEKIT_API_SECRET,
            )
            output = tail_of(self._session.output)
        except Exception as error:  # each plugin has errors of its own
            raise FaceMissing(f"{self._spec.engine}: {type(error).__name__}") from error
        finally:
            # The plugin puts its own output where the route was: the route goes back to its place, above it.
            self._session.output.replace_audio_tail(route)
        if output is route:
            raise FaceMissing(f"{self._spec.engine} started no session")
        return output


def _vendors_name(options: Mapping[str, Any]) -> str:
    """What the vendor calls this face."""
    return next((str(options[name]) for name in ("avatar_id", "face_id", "agent_id") if options.get(name)), "")


class HostedAvatar(LiveFace):
    """Lost when it leaves the room, or falls silent in the middle of a sentence."""

    def __init__(self, room: rtc.Room, identity: str, output: AudioOutput, end: Callable[[], Awaitable[None]]) -> None:
        self.identity = identity
        self.output = self._heard = HeardOutput(output)
        self._room = room
        self._end = end
        self._ear = asyncio.create_task(listen_to(room, self.identity, self._heard), name="hosted-face-ear")

    async def lost(self) -> float:
        while self.identity in self._room.remote_participants and not self._heard.is_silent:  # noqa: ASYNC110
            await asyncio.sleep(WATCH_SECONDS)
        return self._heard.heard_at if self._heard.is_talking else time.time()

    async def dismiss(self) -> None:
        self._ear.cancel()
        await self._end()


# -- The link ----------------------------------------------------------------------------------------------------------
class FaceLink:
    """Keeps a face beside one agent for as long as the conversation lasts. `run` until cancelled, then `aclose`."""

    def __init__(self, *, source: FaceSource, session: AgentSession[Any], recorder: SessionRecorder) -> None:
        self._source = source
        self._source.on_preparing = self._on_preparing
        self._patience: asyncio.Timeout | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._prepares = False
        self._room = session.room_io.room
        self._recorder = recorder
        self._route: SpeechRoute = install(session.output)
        self._failure = asyncio.Event()
        self._route.on_face_failed = self._on_face_failed
        session.on("conversation_item_added", self._on_item)
        self._counting: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()
        self._face: LiveFace | None = None
        self._missing: NoticeLevel | None = None
        """What the visitor was told last about a face that is not there: "info" is one that is being made ready."""

    async def settled(self) -> None:
        """Return when the face is there, or is not waited for any more: the first words are said then."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOIN_SECONDS):
                await self._settled.wait()

    async def run(self) -> None:
        misses = 0
        self._telling = asyncio.get_running_loop().call_later(TOLD_SECONDS, self._tell_missing)
        while True:
            try:
                self._face = await self._call_first() if misses == 0 else await self._call(LATER_JOIN_SECONDS)
            except (MoltsError, TimeoutError) as error:
                logger.warning("no face: %s", getattr(error, "detail", "it did not join in time"))
                await _count(missed=1)
                if self._telling is None:
                    self._tell_missing()
                self._settled.set()
                await self._pause(CALL_AGAIN_SECONDS[min(misses, len(CALL_AGAIN_SECONDS) - 1)], error)
                misses += 1
                continue
            misses = 0
            self._note_there()
            heard_until = await self._watch(self._face)
            self._route.drop_face(heard_until)
            await asyncio.sleep(CLOSING_SECONDS)
            if not self._room.isconnected():
                return  # the face left because the conversation is over
            self._note_missing("warning", "The face was lost. The conversation goes on with voice only.")
            await self._dismiss()
            await _count(lost=1)

    async def aclose(self) -> None:
        """The avatar leaves with the session."""
        self._tell_no_more()
        self._route.drop_face(time.time())
        await self._dismiss()
        await self._source.aclose()

    async def _pause(self, seconds: float, error: Exception) -> None:
        """Before the next call; shorter when there was nobody to call and there is somebody now."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if isinstance(error, NoFreeWorker):
                    await self._source.may_come()
                else:
                    await asyncio.sleep(seconds)

    async def _call_first(self) -> LiveFace:
        """A call may get lost: one that is not answered in time is made once more."""
        try:
            return await self._call(self._source.join_seconds)
        except TimeoutError:
            if self._prepares or self._source.billed_as is not None:
                raise  # it was answered, or may still be, at a price
            return await self._call(self._source.join_seconds)

    async def _call(self, seconds: float) -> LiveFace:
        """Raises FaceMissing, Unavailable or TimeoutError."""
        began = time.monotonic()
        self._prepares = False
        async with asyncio.timeout(max(seconds, self._source.join_seconds)) as self._patience:
            face = await self._source.call()
        took = time.monotonic() - began
        logger.info("face joined", extra={"seconds": round(took, 2)})
        await _count(joins=1, join_seconds=took)
        return face

    def _on_preparing(self) -> None:
        """The conversation begins without the face, which is not called again: every further call would only make the
        machine slower that makes it ready."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time() + presence.PREPARE_SECONDS)
        self._prepares = True
        self._tell_no_more()
        self._note_missing("info", "The face is being drawn and comes in a moment. The voice is there already.")
        self._settled.set()

    async def _watch(self, face: LiveFace) -> float:
        """Until the face is lost or fails; when it was last known to be well (epoch seconds)."""
        self._failure.clear()
        self._route.use_face(face.output)
        self._settled.set()
        lost = asyncio.create_task(face.lost())
        failed = asyncio.create_task(self._failure.wait())
        counted = time.monotonic()
        try:
            while not (lost.done() or failed.done()):
                await asyncio.wait({lost, failed}, timeout=METER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                counted = self._meter(counted)
            return lost.result() if lost.done() else time.time()
        finally:
            self._meter(counted)
            lost.cancel()
            failed.cancel()

    def _meter(self, since: float) -> float:
        """Note the seconds since then (monotonic), for a face that costs by the second; returns now."""
        now = time.monotonic()
        if self._source.billed_as is not None:
            self._recorder.note_face_time(*self._source.billed_as, seconds=now - since)
        return now

    def _on_face_failed(self, reason: str) -> None:
        logger.warning("face failed", extra={"reason": reason})
        self._failure.set()

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        """How long the face took to begin an answer, from the sound's leaving here."""
        if self._face is None or not isinstance(event.item, ChatMessage) or event.item.role != "assistant":
            return
        latency = (event.item.metrics or {}).get("playback_latency")
        if latency is not None:
            task = asyncio.create_task(_count(answers=1, playback_seconds=latency))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)

    async def _dismiss(self) -> None:
        face, self._face = self._face, None
        if face is not None:
            await face.dismiss()

    def _tell_missing(self) -> None:
        self._telling = None
        self._note_missing("warning", MISSING)

    def _tell_no_more(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def _note_missing(self, level: NoticeLevel, text: str) -> None:
        """Once for each step down. Whoever was told that it is missing is promised none again: drawing it may fail
        every time."""
        if self._missing not in (level, "warning"):
            self._missing = level
            self._recorder.notice(level=level, code="avatar_lost", text=text)

    def _note_there(self) -> None:
        self._tell_no_more()
        if self._missing:
            self._missing = None
            self._recorder.notice(level="info", code="avatar_back", text="The face is here.")


async def _until_seen(room: rtc.Room, identity: str) -> None:
    """Until this participant is in the room and publishes video."""

    def is_seen() -> bool:
        participant = room.remote_participants.get(identity)
        return participant is not None and any(
            publication.kind == rtc.TrackKind.KIND_VIDEO for publication in participant.track_publications.values()
        )

    seen = asyncio.Event()

    def look(*_: Any) -> None:
        if is_seen():
            seen.set()

    room.on("track_published", look)
    try:
        look()
        await seen.wait()
    finally:
        room.off("track_published", look)


async def _remove(room_name: str, identity: str) -> None:
    with contextlib.suppress(MoltsError, TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await rooms.remove_participant(room_name, identity)


async def _count(**amounts: float) -> None:
    with contextlib.suppress(Unavailable):
        await asyncio.to_thread(presence.count_avatar, **amounts)
