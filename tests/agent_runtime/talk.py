"""Conversations with a running stack, for tests and long proofs."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import io
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from django.conf import settings
from livekit import rtc
from numpy.typing import NDArray

from agent_runtime.db import DatabaseThread
from avatars.models import Agent, AgentAnswer, PipelineStep
from projects.models import Project
from projects.providers.base import Kind
from projects.services import create_project
from sessions import rooms, services
from sessions.choices import EndReason, SessionSource
from sessions.models import LiveSession, Segment, SessionNotice, Turn
from sessions.tokens import visitor_token
from tests.agent_runtime.stack import Stack
from tests.visitor import RATE, Visitor, read_wav, synthesize, trim_silence

T = TypeVar("T")

# Sentences that micro-whisper knows, with what the agent of the tests says to them.
TABLE = "book a table for two tomorrow"
MEETING = "can i speak to you about a meeting"
PHONE = "what is your phone number"
ANSWERS = {
    TABLE: "Yes, for two tomorrow.",
    MEETING: "Yes, we have a room for the meeting.",
    PHONE: "Our number is five five five.",
}
STORY = (
    "please tell me about the weather",
    "In the morning the sun comes over the sea and the day is warm and bright. At noon a little wind comes from the "
    "west and brings some clouds. In the evening it may rain for an hour, and the night is clear again.",
)
Pipeline = Mapping[str, tuple[str, ...]]  # providers by kind, best first
LOCAL_PIPELINE: Pipeline = {"stt": ("faster_whisper",), "llm": ("scripted",), "tts": ("espeak",)}


def speech(text: str, folder: Path) -> NDArray[np.int16]:
    """`text` as espeak-ng says it, ending with its last audible sample."""
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.wav"
    return trim_silence(read_wav(path if path.exists() else synthesize(text, path)))


class Desk:
    """Makes agents, starts conversations with them and reads what became of them."""

    def __init__(self, stack: Stack, database: DatabaseThread) -> None:
        self.stack = stack
        self._database = database
        self._begun: list[uuid.UUID] = []

    async def aclose(self) -> None:
        for session_id in self._begun:
            await self.query(partial(services.end_session, session_id=session_id, reason=EndReason.ENDED_BY_API))
        # A conversation that still closes would be taken for one of the next test.
        await self.until("all jobs gone", lambda: not self.stack.busy_jobs(), seconds=15)
        if self.stack.has_part("avatar"):
            await self.until("all avatars gone", lambda: not self.stack.busy_jobs("avatar"), seconds=15)
        self._database.close()

    # -- set-up --------------------------------------------------------------------------------------------------------
    async def make_agent(self, *, pipeline: Pipeline = LOCAL_PIPELINE, **fields: object) -> Agent:
        """An agent that answers the sentences above. `fields` override the model's; a kind without rungs in `pipeline`
        gets the defaults."""

        def make() -> Agent:
            project = Project.objects.first() or create_project(name="Tests")
            values = {"greeting": "Hello, this is Ada.", "min_endpointing_ms": 200, **fields}
            agent = Agent.objects.create(project=project, name="Ada", slug=f"ada-{uuid.uuid4().hex[:8]}", **values)
            for position, (question, answer) in enumerate([*ANSWERS.items(), STORY]):
                AgentAnswer.objects.create(agent=agent, position=position, question=question, answer=answer)
            for kind, providers in pipeline.items():
                for position, provider in enumerate(providers):
                    PipelineStep.objects.create(agent=agent, kind=Kind(kind), position=position, provider=provider)
            return agent

        return await self.query(make)

    async def begin(self, agent: Agent, *, dispatch: bool = True) -> LiveSession:
        """A session with its room open; without `dispatch` nobody has been asked to come yet."""
        if dispatch:
            session = await self.query(lambda: services.start_session(agent=agent))
        else:
            session = await self.query(
                lambda: services._create_session(agent=agent, link=None, visitor_name="", source=SessionSource.LINK)
            )
            await rooms.open_room(session.room_name)
        self._begun.append(session.pk)
        return session

    def credentials(self, session: LiveSession, identity: str = "") -> tuple[str, str]:
        """(address, token) that open the session's room, for its visitor or for somebody else."""
        token = visitor_token(room_name=session.room_name, identity=identity or session.visitor_identity)
        return settings.LIVEKIT_URL, token

    def visitor(self, session: LiveSession, identity: str = "") -> Visitor:
        return Visitor(*self.credentials(session, identity))

    def speech(self, text: str) -> NDArray[np.int16]:
        return speech(text, self.stack.folder)

    async def end(self, session: LiveSession) -> None:
        """End the conversation and wait until its job has written everything."""
        await self.query(lambda: services.end_session(session_id=session.pk, reason=EndReason.ENDED_BY_API))
        await self.until("all jobs gone", lambda: not self.stack.busy_jobs(), seconds=20)

    # -- what became of them -------------------------------------------------------------------------------------------
    async def query(self, function: Callable[[], T]) -> T:
        return await self._database.run(function)

    async def session(self, session: LiveSession) -> LiveSession:
        return await self.query(lambda: LiveSession.objects.get(pk=session.pk))

    async def segments(self, session: LiveSession) -> list[Segment]:
        return await self.query(lambda: list(Segment.objects.filter(session=session)))

    async def turns(self, session: LiveSession) -> list[Turn]:
        return await self.query(lambda: list(Turn.objects.filter(session=session)))

    async def notices(self, session: LiveSession) -> list[str]:
        return await self.query(
            lambda: list(SessionNotice.objects.filter(session=session).values_list("code", flat=True))
        )

    async def said(self, session: LiveSession) -> list[tuple[str, str]]:
        """(role, text) of every segment, in order."""
        return [(segment.role, segment.text) for segment in await self.segments(session)]

    async def until(self, what: str, check: Callable[[], object], *, seconds: float = 60) -> None:
        """Until `check`, called in a thread, returns something true. Raises TimeoutError naming `what`."""
        until = time.monotonic() + seconds
        while not await self.query(check):
            if time.monotonic() > until:
                raise TimeoutError(f"waited {seconds:.0f} s in vain for: {what}")
            await asyncio.sleep(0.05)

    async def until_said(self, session: LiveSession, count: int, *, seconds: float = 60) -> list[tuple[str, str]]:
        """(role, text) of the segments, once there are `count`."""
        try:
            await self.until(
                f"{count} segments", lambda: Segment.objects.filter(session=session).count() >= count, seconds=seconds
            )
        except TimeoutError as error:
            raise TimeoutError(f"{error}; there are {await self.said(session)}") from error
        return await self.said(session)

    async def until_agent_is(self, session: LiveSession, *states: str, seconds: float = 60) -> None:
        await self.until(
            f"agent {' or '.join(states)}",
            lambda: LiveSession.objects.filter(pk=session.pk, agent_state__in=states).exists(),
            seconds=seconds,
        )


class EarlyVisitor(Visitor):
    """One who talks before anybody is there to listen, and whose client then does what livekit-client does.

    The microphone is recorded until somebody subscribes to it; the recording goes to the first agent that is active, as
    a byte stream of WebM/Opus with the track's id.
    """

    ahead_ms = 100  # what is recorded and what is heard live must meet

    async def __aenter__(self) -> EarlyVisitor:
        self.recorded: list[bytes] = []
        self._recording = True
        self._agent: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.room.on("participant_active", self._on_active)
        self.room.on("local_track_subscribed", lambda *_: self._stop_recording())
        self.room.on("track_subscribed", self._on_track)
        await self.room.connect(self._url, self._token)
        self._spawn(self._pump())
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, preconnect_buffer=True)
        publication = await self.room.local_participant.publish_track(track, options)
        self._stopped = asyncio.Event()
        self._spawn(self._hand_over(publication.sid))
        return self

    async def _send(self, chunk: NDArray[np.int16]) -> None:
        if self._recording:
            self.recorded.append(chunk.tobytes())
        await super()._send(chunk)

    def _on_active(self, participant: rtc.RemoteParticipant) -> None:
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT and not self._agent.done():
            self._agent.set_result(participant.identity)

    def _stop_recording(self) -> None:
        self._recording = False
        self._stopped.set()

    async def _hand_over(self, track_sid: str) -> None:
        agent = await self._agent
        writer = await self.room.local_participant.stream_bytes(
            "preconnect-buffer",
            mime_type="audio/webm;codecs=opus",
            topic="lk.agent.pre-connect-audio-buffer",
            destination_identities=[agent],
            attributes={"trackId": track_sid, "sampleRate": str(RATE), "channels": "1"},
        )
        await self._stopped.wait()
        await writer.write(await asyncio.to_thread(webm_opus, b"".join(self.recorded)))
        await writer.aclose()


def webm_opus(pcm: bytes) -> bytes:
    """16-bit mono samples at 48 kHz as a browser's MediaRecorder would hand them over."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm", options={"live": "1"}) as container:
        stream = container.add_stream("libopus", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, dtype=np.int16)[None, :], format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


async def type_text(visitor: Visitor, text: str, *, line: str = "") -> None:
    """Send `text` as the page's text box does; `line` is the page's name for it."""
    attributes = {"molts.line": line} if line else None
    await visitor.room.local_participant.send_text(text, topic="lk.chat", attributes=attributes)


def agents_in(room: rtc.Room) -> list[rtc.RemoteParticipant]:
    return [
        participant
        for participant in room.remote_participants.values()
        if participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
    ]


def dense(segments: Sequence[Segment]) -> bool:
    """Whether the numbers are 1, 2, 3 without a gap or a repetition."""
    return [segment.seq for segment in segments] == list(range(1, len(segments) + 1))


def in_whole_turns(segments: Sequence[Segment]) -> list[tuple[str, str]]:
    """(role, text) of every turn: on a busy machine one sentence of a visitor may be heard in two pieces."""
    turns = groupby(segments, lambda segment: segment.role)
    return [(role, " ".join(piece.text for piece in pieces)) for role, pieces in turns]


def same_words(heard: str, spoken: str) -> bool:
    """Whether a sentence came through: a small model on a busy machine may miss one word of it."""
    words, wanted = heard.split(), spoken.split()
    return difflib.SequenceMatcher(None, words, wanted).ratio() >= 0.5


def matches(said: Sequence[tuple[str, str]], wanted: Sequence[tuple[str, str]]) -> bool:
    """Whether everyone said what they should, in this order: agents to the letter, visitors as far as heard."""
    return len(said) == len(wanted) and all(
        role == other and (text == line if role == "agent" else same_words(text, line))
        for (role, text), (other, line) in zip(said, wanted, strict=True)
    )
