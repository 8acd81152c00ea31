"""A speech server with micro-whisper inside the test's own process, on a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from agent_runtime.speech.engine import Engine
from agent_runtime.speech.places import ListeningPlaces
from agent_runtime.speech.server import SpeechServer
from agent_runtime.speech.stream import DecodingPace
from projects.providers.faster_whisper import protocol
from projects.providers.faster_whisper.protocol import Final, FromServer, Message, Open, Partial
from tests.agent_runtime.stack import MICRO_WHISPER

STEP = 512  # samples: what the voice detector hands out


@asynccontextmanager
async def serving(
    places: ListeningPlaces, *, model: str = str(MICRO_WHISPER), **options: Any
) -> AsyncIterator[SpeechServer]:
    """A running server; it has its model, unless that is not here."""
    engine = Engine(device="cpu", compute_type="int8", threads=1)
    server = SpeechServer(engine=engine, model=model, pace=DecodingPace(), **options)
    running = asyncio.create_task(server.run(places))
    try:
        await until(lambda: running.done() or (server.listening and (engine.active or model != str(MICRO_WHISPER))))
        if running.done():
            running.result()
        yield server
    finally:
        server.stop()
        async with asyncio.timeout(10):
            await asyncio.gather(running, return_exceptions=True)


async def until(true: Callable[[], object], *, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - of another task
            await asyncio.sleep(0.01)


class Talker:
    """A client of the protocol that says what it is told to."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, *what: Message | bytes) -> None:
        for each in what:
            if isinstance(each, bytes):
                await self.socket.send_bytes(each)
            else:
                await self.socket.send_str(protocol.pack(each))

    async def sound(self, samples: NDArray[np.int16], *, paced: bool = False) -> None:
        for begin in range(0, len(samples), STEP):
            await self.say(samples[begin : begin + STEP].tobytes())
            await asyncio.sleep(STEP / 16_000 if paced else 0)

    async def hear(self) -> FromServer:
        async with asyncio.timeout(20):
            message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, f"{message.type} {message.data} {message.extra}"
        return protocol.read_server(message.data)

    async def until_final(self) -> tuple[list[Partial], Final]:
        partials = []
        while isinstance(heard := await self.hear(), Partial):
            partials.append(heard)
        assert isinstance(heard, Final), heard
        return partials, heard


@asynccontextmanager
async def talking(
    path: Path | None = None,
    *,
    url: str = "http://speech",
    opening: Message | None = None,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Talker]:
    connector = aiohttp.UnixConnector(str(path)) if path else aiohttp.TCPConnector()
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.ws_connect(f"{url}{protocol.STREAM_PATH}", headers=headers) as socket,
    ):
        talker = Talker(socket)
        await talker.say(opening or Open(language="en"))
        yield talker
