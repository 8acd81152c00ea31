"""A TCP proxy between browser and web server that can cut the WebSockets alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

HEAD_LIMIT = 65_536


class Proxy:
    """Listens on a free loopback port and passes everything on to `target`, byte for byte, in a thread of its own.

    A connection whose first request asks for an upgrade is a WebSocket: `cut()` breaks those and refuses new ones until
    `mend()`. Everything else passes all the time.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._sockets: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self.refused = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        # Another loop (Playwright's) runs in this thread, so the server is made in its own.
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_LIMIT)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(5)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        self._call(self._cut)

    def fix(self) -> None:
        self._is_cut = False

    @property
    def open_sockets(self) -> int:
        return len(self._sockets)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _call(self, function: Callable[[], None]) -> None:
        """Run it in the proxy's thread and wait until it has run."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(function)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(5)

    def _cut(self) -> None:
        self._is_cut = True
        for writer in self._sockets:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            is_socket = b"upgrade: websocket" in head.lower()
            if is_socket and self._is_cut:
                self.refused += 1
            else:
                await self._pass_on(head, reader, writer, is_socket)
        writer.transport.abort()

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_socket: bool
    ) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        if is_socket:
            self._sockets |= {writer, back}
        try:
            back.write(head)
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            self._sockets -= {writer, back}
            back.transport.abort()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()
    with suppress(OSError, RuntimeError):
        sink.write_eof()
