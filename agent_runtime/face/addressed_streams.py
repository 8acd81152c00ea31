"""Byte streams that go only to whom they are for.

The client library names the destinations in a stream's header alone, and the media server sends the rest to everybody
in the room: a visitor received every word of the agent twice, as sound and as 384 kbit/s of raw speech meant for the
face, in bursts of megabytes when a voice is fast (livekit 1.1.21).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from livekit import rtc

from agent_runtime.livekit_private import DataStream, send_stream_part

CHUNK_BYTES = 15_000  # as the library cuts them: a data channel's message is at most 64 KiB
SEND_SECONDS = 10.0


def address_streams(room: rtc.Room) -> None:
    """From now on `room.local_participant.stream_bytes` sends every part of a stream only to its destinations.

    Whoever streams into the room is served, the plugins of hosted faces too. Call it once the room is joined.
    """
    participant = room.local_participant
    open_to_all = participant.stream_bytes

    async def stream_bytes(name: str, *, destination_identities: Sequence[str] | None = None, **options: Any) -> Any:
        if not destination_identities:
            return await open_to_all(name, **options)
        stream = AddressedStream(participant, name, destination_identities, **options)
        await stream.open()
        return stream

    participant.stream_bytes = stream_bytes  # type: ignore[method-assign]


class AddressedStream:
    """What `rtc.ByteStreamWriter` is, for named destinations. Receivers see no difference.

    Raises rtc.StreamError when the room does not take it.
    """

    def __init__(
        self,
        participant: rtc.LocalParticipant,
        name: str,
        destinations: Sequence[str],
        *,
        topic: str = "",
        attributes: Mapping[str, str] | None = None,
        stream_id: str | None = None,
        total_size: int | None = None,
        mime_type: str = "application/octet-stream",
    ) -> None:
        self._participant = participant
        self._destinations = list(destinations)
        self._header = DataStream.Header(
            stream_id=stream_id or str(uuid.uuid4()),
            timestamp=round(time.time() * 1000),
            mime_type=mime_type,
            topic=topic,
            attributes=dict(attributes or {}),
            byte_header=DataStream.ByteHeader(name=name),
        )
        if total_size is not None:
            self._header.total_length = total_size
        self._chunks = 0
        self._closed = False
        self._in_turn = asyncio.Lock()

    async def open(self) -> None:
        await self._send("send_stream_header", header=self._header)

    async def write(self, data: bytes) -> None:
        async with self._in_turn:
            if self._closed:
                raise RuntimeError("Cannot write after stream is closed")
            for begin in range(0, len(data), CHUNK_BYTES):
                chunk = DataStream.Chunk(
                    stream_id=self._header.stream_id,
                    chunk_index=self._chunks,
                    content=data[begin : begin + CHUNK_BYTES],
                )
                self._chunks += 1
                await self._send("send_stream_chunk", chunk=chunk)

    async def aclose(self, *, reason: str = "", attributes: Mapping[str, str] | None = None) -> None:
        async with self._in_turn:
            if self._closed:
                raise RuntimeError("Stream already closed")
            self._closed = True
            trailer = DataStream.Trailer(
                stream_id=self._header.stream_id, reason=reason, attributes=dict(attributes or {})
            )
            await self._send("send_stream_trailer", trailer=trailer)

    async def _send(self, request_name: str, **part: Any) -> None:
        await send_stream_part(self._participant, request_name, self._destinations, seconds=SEND_SECONDS, **part)
