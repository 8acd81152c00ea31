"""Bounds for the recording of what a visitor said before the agent came (`early.py`).

It is a file from a stranger. LiveKit would take any number of any length from anybody in the room, and decode them into
sound of any rate: some kilobytes of silence are hours.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import av
from livekit import rtc

from agent_runtime.livekit_private import PRE_CONNECT_AUDIO_BUFFER_STREAM

logger = logging.getLogger(__name__)

MOST_RECORDINGS = 4  # one for each time that the microphone is switched on before the agent is there
MOST_SECONDS = 30.0
MOST_BYTES = 3_000_000  # as much sound at the highest rate, uncompressed
RATES = range(8_000, 48_001)
CHANNELS = (1, 2)

Handler = Callable[[rtc.ByteStreamReader, str], None]


def limit_recordings(room: rtc.Room, identity: str) -> None:
    """Whoever asks `room` for such recordings from now on gets a few sane ones of this participant. Call it first."""
    register = room.register_byte_stream_handler

    def register_limited(topic: str, handler: Handler) -> None:
        register(topic, _limited(handler, identity) if topic == PRE_CONNECT_AUDIO_BUFFER_STREAM else handler)

    room.register_byte_stream_handler = register_limited  # type: ignore[method-assign]


def _limited(handler: Handler, identity: str) -> Handler:
    taken = 0

    def take(reader: rtc.ByteStreamReader, sender: str) -> None:
        nonlocal taken
        if sender != identity or taken == MOST_RECORDINGS or not _is_sane(reader.info):
            reader.close()
            return
        taken += 1
        handler(PreconnectRecording(reader), sender)  # type: ignore[arg-type]

    return take


def _is_sane(info: rtc.ByteStreamInfo) -> bool:
    attributes = info.attributes or {}
    try:
        return int(attributes["sampleRate"]) in RATES and int(attributes["channels"]) in CHANNELS
    except (KeyError, ValueError):
        return False


class PreconnectRecording:
    """What a `ByteStreamReader` is to whoever reads it, with the sound unpacked: 16-bit samples, of limited length."""

    def __init__(self, reader: rtc.ByteStreamReader) -> None:
        self._reader = reader
        self._is_packed = "opus" in reader.info.mime_type
        self.info = replace(reader.info, mime_type="audio/pcm")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        packed = bytearray()
        try:
            async for chunk in self._reader:
                packed += chunk
                if len(packed) > MOST_BYTES:
                    logger.info("a recording is too long")
                    return
        finally:
            self._reader.close()
        attributes = self.info.attributes or {}
        rate, channels = int(attributes["sampleRate"]), int(attributes["channels"])
        sound = await asyncio.to_thread(_unpack, bytes(packed), rate, channels) if self._is_packed else bytes(packed)
        yield sound[: int(MOST_SECONDS * rate) * channels * 2]


def _unpack(packed: bytes, rate: int, channels: int) -> bytes:
    """Samples of a WebM or OGG file; what was understood of one that is broken."""
    sound = bytearray()
    resampler = av.AudioResampler(format="s16", layout="mono" if channels == 1 else "stereo", rate=rate)
    try:
        with av.open(io.BytesIO(packed), mode="r") as file:
            for frame in file.decode(audio=0):
                for piece in resampler.resample(frame):
                    sound += bytes(piece.planes[0])[: piece.samples * channels * 2]
                if len(sound) > MOST_SECONDS * rate * channels * 2:
                    break
    except (av.FFmpegError, IndexError):
        logger.info("a recording was not understood to its end")
    return bytes(sound)
