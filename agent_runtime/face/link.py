"""The agent's side of a face: calls one, keeps watch over it, and goes on without it, and with the next one.

A face comes from a `FaceSource` (`source.py`), and there are two kinds: a job of our own avatar worker
(`worker_face.py`) and a vendor's service (`hosted_face.py`). Waiting, notices, calling again and where the speech goes
are the same for both and are here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession, ConversationItemAddedEvent
from livekit.agents.llm import ChatMessage

from agent_runtime.face.hosted_face import HostedFaceSource
from agent_runtime.face.route import SpeechRoute, install
from agent_runtime.face.source import JOIN_SECONDS, FaceSource, LiveFace, NoFreeWorker
from agent_runtime.face.worker_face import WorkerFaceSource
from agent_runtime.recorder import SessionRecorder
from molts.errors import MoltsError, Unavailable
from projects.providers import PROVIDERS
from sessions import presence
from sessions.choices import NoticeCode, NoticeLevel
from sessions.spec import SessionSpec

logger = logging.getLogger(__name__)

LATER_JOIN_SECONDS = 6.0  # once the conversation goes on without it, a face has more time
TOLD_SECONDS = 8.0  # a visitor who sees no face by then is told so; a face that is only slow needs no words
CALL_AGAIN_SECONDS = (2.0, 5.0, 10.0, 20.0, 30.0)
CLOSING_SECONDS = 0.5
METER_SECONDS = 10.0
MISSING = "The face is missing for now. The conversation goes on with voice only."


def face_source(*, spec: SessionSpec, session: AgentSession[Any], room: rtc.Room, agent_identity: str) -> FaceSource:
    """Where the face of this conversation comes from; `spec.face` is set."""
    assert spec.face is not None
    if spec.face.engine in PROVIDERS:
        return HostedFaceSource(spec=spec.face, session=session, room=room)
    return WorkerFaceSource(spec=spec, room=room, agent_identity=agent_identity)


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
                face = await self._call_first() if misses == 0 else await self._call(LATER_JOIN_SECONDS)
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
            heard_until = await self._watch(face)
            self._route.drop_face(heard_until)
            await asyncio.sleep(CLOSING_SECONDS)
            if not self._room.isconnected():
                return  # the face left because the conversation is over
            self._note_missing(NoticeLevel.WARNING, "The face was lost. The conversation goes on with voice only.")
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
            face = self._face = await self._source.call()
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
        self._note_missing(
            NoticeLevel.INFO, "The face is being drawn and comes in a moment. The voice is there already."
        )
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
        if self._face is not None:
            await self._face.dismiss()
            self._face = None  # not before: should this be cancelled, `aclose` does it again

    def _tell_missing(self) -> None:
        self._telling = None
        self._note_missing(NoticeLevel.WARNING, MISSING)

    def _tell_no_more(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def _note_missing(self, level: NoticeLevel, text: str) -> None:
        """Once for each step down. Whoever was told that it is missing is promised none again: drawing it may fail
        every time."""
        if self._missing not in (level, NoticeLevel.WARNING):
            self._missing = level
            self._recorder.notice(level=level, code=NoticeCode.AVATAR_LOST, text=text)

    def _note_there(self) -> None:
        self._tell_no_more()
        if self._missing:
            self._missing = None
            self._recorder.notice(level=NoticeLevel.INFO, code=NoticeCode.AVATAR_BACK, text="The face is here.")


async def _count(**amounts: float) -> None:
    with contextlib.suppress(Unavailable):
        await asyncio.to_thread(presence.count_avatar, **amounts)
