"""What a visitor may send into the room is bounded while it arrives: a real media server, a flood from a process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import psutil
import pytest
import pytest_asyncio
from livekit import rtc
from livekit.agents.voice.room_io._pre_connect_audio import PRE_CONNECT_AUDIO_BUFFER_STREAM, PreConnectAudioHandler
from pytest_django import Settings

from agent_runtime import preconnect
from agent_runtime import typed as typed_module
from agent_runtime.pace import RateLimit
from agent_runtime.preconnect import limit_recordings
from agent_runtime.typed import MAX_TYPED, TypedLines
from sessions import rooms
from sessions.tokens import visitor_token
from tests.agent_runtime.stack import ROOT, end
from tests.agent_runtime.talk import webm_opus
from tests.servers import MediaServer

pytestmark = pytest.mark.slow
WEBM = "audio/webm;codecs=opus"
KINDS = pytest.mark.parametrize("kind", ["text", "bytes", "elsewhere", "packets"])
KILOBYTES = 6_000
MAY_GROW = 4_000_000


@dataclass
class Job:
    """A room as a job holds it, as far as strangers may send into it."""

    room_name: str
    room: rtc.Room = field(default_factory=rtc.Room)
    lines: list[str] = field(default_factory=list)
    refused: int = 0

    def __post_init__(self) -> None:
        self.pace = RateLimit(20, 10)
        limit_recordings(self.room, "visitor")
        self.typed = TypedLines(self.room, identity="visitor", allows=self._may_type, on_line=self._take)
        self.typed.open()
        self.recordings = PreConnectAudioHandler(self.room, timeout=10)
        self.recordings.register()

    def _take(self, text: str, _: str) -> None:
        self.lines.append(text)

    def _may_type(self) -> bool:
        may = self.pace.allows()
        self.refused += not may
        return may

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.lines) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def job(live_servers: MediaServer) -> AsyncIterator[Job]:
    job = Job(rooms.new_room_name())
    await rooms.open_room(job.room_name)
    await job.room.connect(live_servers.url, visitor_token(room_name=job.room_name, identity="agent"))
    try:
        yield job
    finally:
        await job.typed.aclose()
        await job.recordings.aclose()
        await job.room.disconnect()
        await rooms.close_room(job.room_name)


@contextmanager
def flood(
    job: Job, settings: Settings, kind: str, amount: int, identity: str = "visitor"
) -> Iterator[subprocess.Popen[bytes]]:
    token = visitor_token(room_name=job.room_name, identity=identity)
    command = [sys.executable, "-m", "tests.agent_runtime.flood", settings.LIVEKIT_URL, token, kind, str(amount)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        end(process)


@asynccontextmanager
async def talking(job: Job, settings: Settings, identity: str) -> AsyncIterator[rtc.LocalParticipant]:
    room = rtc.Room()
    await room.connect(settings.LIVEKIT_URL, visitor_token(room_name=job.room_name, identity=identity))
    try:
        yield room.local_participant
    finally:
        await room.disconnect()


async def sent(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(90):
        assert await asyncio.to_thread(process.stdout.readline) == b"sent\n"


def memory() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


async def check_that_it_costs_no_memory(
    job: Job, settings: Settings, kind: str, kilobytes: int, may_grow: int = MAY_GROW
) -> None:
    before = memory()
    with flood(job, settings, kind, kilobytes) as process:
        await sent(process)
        grown = memory() - before
    print(f"{kind}: {grown / 1e6:.1f} MB")
    assert grown < may_grow
    assert job.lines == (["x" * MAX_TYPED] if kind == "text" else [])


@pytest.mark.parametrize("kind", ["text", "bytes"])  # soak_floods: all kinds
async def test_a_flood_costs_the_job_no_memory(job: Job, settings: Settings, kind: str) -> None:
    await check_that_it_costs_no_memory(job, settings, kind, KILOBYTES)


async def test_of_many_lines_that_are_begun_and_never_ended_few_are_read(job: Job, settings: Settings) -> None:
    before = memory()
    with flood(job, settings, "opened", 500) as process:
        await sent(process)
        async with asyncio.timeout(20):
            while job.refused < 480:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        grown = memory() - before
        assert len(job.typed._reading) <= 20
    print(f"opened: {grown / 1e6:.1f} MB")
    assert grown < MAY_GROW
    assert job.lines == []


async def test_nobody_but_the_visitor_types(job: Job, settings: Settings) -> None:
    async with talking(job, settings, "stranger") as stranger, talking(job, settings, "visitor") as visitor:
        await stranger.send_text("I am the visitor.", topic="lk.chat")
        await visitor.send_text("No, I am.", topic="lk.chat")
        await job.until(1)
    assert job.lines == ["No, I am."]


async def test_a_line_that_does_not_end_keeps_no_other_from_being_heard(
    job: Job, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typed_module, "READ_SECONDS", 1.0)
    async with talking(job, settings, "visitor") as visitor:
        open_line = await visitor.stream_text(topic="lk.chat")
        await open_line.write("never ended")
        await visitor.send_text("ended", topic="lk.chat")
        await job.until(1)
        async with asyncio.timeout(10):
            while job.typed._reading:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert job.lines == ["ended"]


async def test_lines_that_come_before_they_can_be_answered_wait(job: Job, settings: Settings) -> None:
    job.typed._open.clear()
    async with talking(job, settings, "visitor") as visitor:
        await visitor.send_text("early", topic="lk.chat")
        async with asyncio.timeout(10):
            while not job.typed._reading:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert job.lines == []
        job.typed.open()
        await job.until(1)
    assert job.lines == ["early"]


# -- recordings --------------------------------------------------------------------------------------------------------
async def record(
    visitor: rtc.LocalParticipant, sound: bytes, *, track: str = "TR_1", mime_type: str = WEBM, **attributes: str
) -> None:
    writer = await visitor.stream_bytes(
        "buffer",
        topic=PRE_CONNECT_AUDIO_BUFFER_STREAM,
        mime_type=mime_type,
        attributes={"trackId": track, "sampleRate": "48000", "channels": "1", **attributes},
    )
    for begin in range(0, len(sound), 15_000):
        await writer.write(sound[begin : begin + 15_000])
    await writer.aclose()


async def heard(job: Job, track: str = "TR_1") -> float:
    """Seconds of sound in the recording of a track."""
    frames = await job.recordings.wait_for_data(track)
    return sum(frame.samples_per_channel / frame.sample_rate for frame in frames)


@pytest.mark.parametrize(("seconds", "taken"), [(2, 2.0), (100, preconnect.MOST_SECONDS)])
async def test_of_a_recording_so_much_is_heard_as_a_visitor_may_have_waited(
    job: Job, settings: Settings, seconds: int, taken: float
) -> None:
    """A file of some kilobytes may be hours of silence."""
    sound = webm_opus(bytes(48_000 * 2 * seconds))
    assert len(sound) < 1_000_000
    async with talking(job, settings, "visitor") as visitor:
        waiting = asyncio.create_task(heard(job))
        await record(visitor, sound)
        assert abs(await waiting - taken) < 0.2


async def test_plain_samples_are_heard_too(job: Job, settings: Settings) -> None:
    async with talking(job, settings, "visitor") as visitor:
        waiting = asyncio.create_task(heard(job))
        await record(visitor, bytes(16_000 * 2), mime_type="audio/pcm", sampleRate="16000")
        assert abs(await waiting - 1.0) < 0.1


async def test_a_broken_recording_is_no_sound_and_no_error(job: Job, settings: Settings) -> None:
    async with talking(job, settings, "visitor") as visitor:
        waiting = asyncio.create_task(heard(job))
        await record(visitor, b"\x1aE\xdf\xa3 no film" * 100)
        assert await waiting == 0


@pytest.mark.parametrize(
    "attributes",
    [{"sampleRate": "4000000000"}, {"sampleRate": "1"}, {"sampleRate": "x"}, {"channels": "0"}, {"channels": "255"}],
)
async def test_a_recording_of_a_shape_that_no_microphone_has_is_refused(
    job: Job, settings: Settings, attributes: dict[str, str]
) -> None:
    async with talking(job, settings, "visitor") as visitor:
        await record(visitor, bytes(1000), track="TR_bad", **attributes)
        await record(visitor, bytes(9600), track="TR_good", mime_type="audio/pcm")
        assert abs(await heard(job, "TR_good") - 0.1) < 0.05
    assert "TR_bad" not in job.recordings._buffers


async def test_strangers_and_the_fifth_try_are_not_recorded(job: Job, settings: Settings) -> None:
    async with talking(job, settings, "stranger") as stranger, talking(job, settings, "visitor") as visitor:
        await record(stranger, bytes(9600), track="TR_stranger", mime_type="audio/pcm")
        for number in range(preconnect.MOST_RECORDINGS + 1):
            await record(visitor, bytes(9600), track=f"TR_{number}", mime_type="audio/pcm")
        await visitor.send_text("all sent", topic="lk.chat")
        await job.until(1)
    assert sorted(job.recordings._buffers) == [f"TR_{number}" for number in range(preconnect.MOST_RECORDINGS)]
