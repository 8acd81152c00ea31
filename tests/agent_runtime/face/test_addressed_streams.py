"""A byte stream goes to whom it is for, whole, and to nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from livekit import rtc

from agent_runtime.face.addressed_streams import address_streams
from tests.agent_runtime.talk import Desk

pytestmark = pytest.mark.slow
TOPIC = "speech"
SPEECH = bytes(range(256)) * 1_000  # of more than one chunk


class Listener:
    """One in the room, with all streams that it was sent."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self.streams: asyncio.Queue[tuple[rtc.ByteStreamReader, bytes]] = asyncio.Queue()
        self._reading: set[asyncio.Task[None]] = set()
        self.room.register_byte_stream_handler(TOPIC, self._take)

    def _take(self, reader: rtc.ByteStreamReader, sender: str) -> None:
        task = asyncio.create_task(self._read(reader))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self, reader: rtc.ByteStreamReader) -> None:
        self.streams.put_nowait((reader, b"".join([chunk async for chunk in reader])))

    async def received_bytes(self) -> int:
        """Through its data channels, whatever became of it."""
        stats: Any = await self.room.get_rtc_stats()
        found = [*stats.publisher_stats, *stats.subscriber_stats]
        return sum(one.data_channel.dc.bytes_received for one in found if one.HasField("data_channel"))


@pytest_asyncio.fixture
async def four(desk: Desk) -> AsyncIterator[dict[str, Listener]]:
    session = await desk.begin(await desk.make_agent(), dispatch=False)
    there = {name: Listener() for name in ("agent", "face", "visitor", "guest")}
    for name, listener in there.items():
        await listener.room.connect(*desk.credentials(session, name))
    yield there
    for listener in there.values():
        await listener.room.disconnect()


async def say(room: rtc.Room, *destinations: str) -> None:
    stream = await room.local_participant.stream_bytes(
        "AUDIO_1", topic=TOPIC, destination_identities=list(destinations), attributes={"sample_rate": "24000"}
    )
    for begin in range(0, len(SPEECH), 40_000):
        await stream.write(SPEECH[begin : begin + 40_000])
    await stream.aclose()


@pytest.mark.parametrize("connection", ["first", "made anew"])
async def test_only_the_face_is_sent_what_is_for_the_face(four: dict[str, Listener], connection: str) -> None:
    agent = four["agent"].room
    address_streams(agent)
    if connection == "made anew":
        await agent.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
        async with asyncio.timeout(15):
            while not agent.isconnected() or len(agent.remote_participants) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    before = await four["visitor"].received_bytes()
    async with asyncio.timeout(15):
        await say(agent, "face")
        reader, heard = await four["face"].streams.get()
    assert heard == SPEECH
    assert (reader.info.name, reader.info.attributes) == ("AUDIO_1", {"sample_rate": "24000"})
    await asyncio.sleep(0.3)
    assert four["visitor"].streams.empty()
    assert await four["visitor"].received_bytes() - before < 2_000


async def test_several_may_be_named(four: dict[str, Listener]) -> None:
    address_streams(four["agent"].room)
    async with asyncio.timeout(15):
        await say(four["agent"].room, "face", "visitor")
        assert [(await four[name].streams.get())[1] for name in ("face", "visitor")] == [SPEECH] * 2
    assert four["guest"].streams.empty()


async def test_a_stream_for_everybody_goes_to_everybody(four: dict[str, Listener]) -> None:
    address_streams(four["agent"].room)
    async with asyncio.timeout(15):
        await say(four["agent"].room)
        assert [(await four[name].streams.get())[1] for name in ("face", "visitor", "guest")] == [SPEECH] * 3


async def test_the_library_alone_sends_it_to_everybody(four: dict[str, Listener]) -> None:
    """Once this fails, `address_streams` can go."""
    before = await four["visitor"].received_bytes()
    async with asyncio.timeout(15):
        await say(four["agent"].room, "face")
        await four["face"].streams.get()
    await asyncio.sleep(0.3)
    assert await four["visitor"].received_bytes() - before > len(SPEECH)


async def test_a_closed_stream_takes_no_more(four: dict[str, Listener]) -> None:
    room = four["agent"].room
    address_streams(room)
    stream = await room.local_participant.stream_bytes("x", topic=TOPIC, destination_identities=["face"])
    await stream.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await stream.write(b"x")
    with pytest.raises(RuntimeError, match="closed"):
        await stream.aclose()


async def test_a_room_that_is_gone_takes_nothing(four: dict[str, Listener]) -> None:
    room = four["agent"].room
    address_streams(room)
    stream = await room.local_participant.stream_bytes("x", topic=TOPIC, destination_identities=["face"])
    await room.disconnect()
    with pytest.raises(rtc.StreamError):
        await stream.write(b"x")
