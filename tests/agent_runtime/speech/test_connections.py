"""What strangers may cost the speech server before they have asked for anything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agent_runtime.speech import connections
from agent_runtime.speech.places import ListeningPlaces
from projects.providers.faster_whisper.protocol import Ready
from tests.agent_runtime.speech.live_server import serving, talking, until
from tests.agent_runtime.stack import free_port

ASK = b"GET /healthz HTTP/1.1\r\nHost: speech\r\nConnection: close\r\n\r\n"
HALF = b"GET /healthz HTTP/1.1\r\nHost: speech\r\nX-Half: "
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "speech.sock"


@pytest_asyncio.fixture
async def port(path: Path) -> AsyncIterator[int]:
    port = free_port()
    async with serving(ListeningPlaces(sockets=(path,), addresses=(("127.0.0.1", port),))):
        yield port


async def connect(port: int, sent: bytes = b"") -> Connection:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


async def until_end(connection: Connection) -> bytes:
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionResetError):
            return await connection[0].read()
    return b""


async def is_served(connection: Connection) -> bool:
    return b"200 OK" in await until_end(connection)


@contextlib.asynccontextmanager
async def held(port: int, number: int, sent: bytes) -> AsyncIterator[list[Connection]]:
    """So many connections that have sent this and wait."""
    opened = [await connect(port, sent) for _ in range(number)]
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.close()


@pytest.mark.parametrize("line", [b"X-Long: " + b"a" * 60_000, b"a" * 60_000], ids=["one header", "no line at all"])
async def test_a_head_without_end_is_cut_off(port: int, line: bytes) -> None:
    reader, writer = await connect(port, b"GET /healthz HTTP/1.1\r\n" if b":" in line else b"")
    sent = 0
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while sent < 80_000_000:
                writer.write(line)
                await writer.drain()
                sent += len(line)
                if writer.is_closing() or reader.at_eof():
                    break

    assert sent < 20_000_000, "what the system keeps on its way, and no more"
    assert b" 200 " not in await until_end((reader, writer))


async def test_many_small_headers_are_one_head_too(port: int) -> None:
    head = b"".join(b"X-%d: a\r\n" % number for number in range(20_000))

    assert not await is_served(await connect(port, b"GET /healthz HTTP/1.1\r\n" + head + b"\r\n"))
    assert await is_served(await connect(port, ASK))


@pytest.mark.parametrize("sent", [b"", HALF, b"POST /v1/models HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"])
async def test_half_open_connections_keep_nobody_out(port: int, path: Path, sent: bytes) -> None:
    async with held(port, 200, sent):
        assert await is_served(await connect(port, ASK))
        async with talking(path) as talker:
            assert isinstance(await talker.hear(), Ready)


async def test_one_address_has_so_many_and_no_more(port: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FROM_ONE_ADDRESS_AT_MOST", 5)
    async with held(port, 5, HALF):
        assert not await is_served(await connect(port, ASK))
        async with talking(path) as talker:  # this machine's own socket is not theirs to fill
            assert isinstance(await talker.hear(), Ready)

    async def lets_in() -> bool:
        return await is_served(await connect(port, ASK))

    async with asyncio.timeout(20):
        while not await lets_in():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.05)


async def test_all_together_have_so_many(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "AT_MOST", 3)
    async with held(port, 3, HALF):
        assert not await is_served(await connect(port, ASK))


async def test_streams_are_not_counted(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FROM_ONE_ADDRESS_AT_MOST", 2)
    url = f"http://127.0.0.1:{port}"
    async with contextlib.AsyncExitStack() as talks:
        for _ in range(6):
            talker = await talks.enter_async_context(talking(url=url))
            assert isinstance(await talker.hear(), Ready)
        assert await is_served(await connect(port, ASK))


async def test_who_never_ends_a_head_is_hung_up_on(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    _, writer = trickling = await connect(port, HALF)

    async def trickle() -> None:
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.02)

    trickler = asyncio.create_task(trickle())
    try:
        assert await until_end(trickling) == b""
        await until(trickler.done)
    finally:
        trickler.cancel()
