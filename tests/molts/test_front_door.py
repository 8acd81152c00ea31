"""Limits that hold before any view runs, in a really started uvicorn with the arguments of `up`."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import psutil
import pytest
from pytest_django import Settings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from molts.callers import subscriber
from molts.front_door import HEAD_BYTES, UPLOAD_BYTES, UPLOADS_AT_ONCE, ConnectionPlaces, forwarded_for, is_proxy
from molts.parsers import MAX_BODY
from molts.supervisor.stack import FRONT_DOOR
from tests.agent_runtime.stack import ROOT, end, free_port, wait_for

PATIENCE = 60.0
MEGABYTE = b"a" * 1_000_000
GROWTH = 30_000_000


@dataclass
class Web:
    """A web process of its own."""

    port: int
    process: subprocess.Popen[bytes]

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def head(self, path: str = "/healthz", method: str = "GET", more: str = "") -> bytes:
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{more}".encode()

    def ask(self, request: bytes) -> bytes:
        """All that it answers until it closes."""
        with self.open() as client:
            client.sendall(request)
            return read_all(client)

    def answers(self) -> bool:
        with suppress(ConnectionError):
            return self.healthy()
        return False

    def healthy(self) -> bool:
        return self.ask(self.head(more="Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200")

    @property
    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def written(self) -> int:
        """Bytes that it wrote, to files and sockets."""
        return int(psutil.Process(self.process.pid).io_counters().write_chars)


def read_all(client: socket.socket) -> bytes:
    answer = b""
    with suppress(ConnectionError):
        while part := client.recv(65_536):
            answer += part
    return answer


def push(client: socket.socket, pieces: Iterator[bytes]) -> bytes:
    """Send until the other side has enough; what it said."""
    with suppress(ConnectionError):
        for piece in pieces:
            client.sendall(piece)
    return read_all(client)


Start = Callable[..., Web]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with ExitStack() as running:

        def start(times: dict[str, float] | None = None, **env: str) -> Web:
            port = free_port()
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", "tests.molts.front_door_app:application", "--port", str(port)),
                    *("--no-proxy-headers", "--log-level", "warning", *FRONT_DOOR),
                ],
                cwd=ROOT,
                env=os.environ
                | {"MOLTS_DATA_DIR": str(tmp_path_factory.mktemp("data")), "MOLTS_PORT": str(port)}
                | {"SECRET_KEY": secrets.token_urlsafe(50), "FRONT_DOOR": json.dumps(times or {}), **env},
            )
            running.callback(end, process)
            web = Web(port, process)
            wait_for("uvicorn", web.answers)
            return web

        yield start


@pytest.fixture(scope="module")
def web(start: Start) -> Web:
    """As in production."""
    return start()


@pytest.fixture(scope="module")
def hasty(start: Start) -> Web:
    """With little patience."""
    return start({"HEAD_SECONDS": 1.0, "BODY_SECONDS": 1.0, "READER_SECONDS": 2.0, "LINGER_SECONDS": 1.0})


@pytest.fixture(scope="module")
def proxied(start: Start) -> Web:
    """Behind a proxy, and with few places."""
    return start(MOLTS_CONNECTIONS_PER_ADDRESS="2", MOLTS_BEHIND_PROXY="1", MOLTS_NUM_PROXIES="1")


# -- Bytes ------------------------------------------------------------------------------------------------------------
def error_of(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["errors"][0]["code"])


@pytest.mark.parametrize(
    "path",
    [
        *("/api/v1/sessions", "/healthz", "/admin/avatars/"),
        *(
            pytest.param(path, marks=pytest.mark.soak)
            for path in ("/", "/r/x/start", "/webhooks/livekit", "/admin/login/")
        ),
    ],
)
def test_a_body_of_300_mb_in_chunks_is_refused_before_it_is_stored(web: Web, path: str) -> None:
    assert web.healthy()
    memory, written = web.memory, web.written

    with web.open() as client:
        client.sendall(web.head(path, "POST", "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n"))
        answer = push(client, (b"%x\r\n%s\r\n" % (len(MEGABYTE), MEGABYTE) for _ in range(300)))

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert web.memory - memory < GROWTH
    assert web.written - written < (UPLOAD_BYTES + 1_000_000 if path == "/admin/avatars/" else 100_000)
    assert web.healthy()


@pytest.mark.parametrize("path", ["/api/v1/token", "/healthz", "/admin/"])
def test_a_body_that_says_it_is_too_large_is_not_read(web: Web, path: str) -> None:
    answer = web.ask(web.head(path, "POST", "Content-Length: 300000000\r\n\r\n"))

    assert answer.startswith(b"HTTP/1.1 413 ")
    most = UPLOAD_BYTES if path == "/admin/" else MAX_BODY
    assert f"at most {most} bytes".encode() in answer
    if path != "/admin/":
        assert error_of(answer) == "too_large"


def test_a_picture_for_the_admin_comes_through(web: Web) -> None:
    """The page is not open to strangers, but that is for the view to say."""
    body = b"x" * 9_000_000
    answer = web.ask(
        web.head("/admin/avatars/", "POST", f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n") + body
    )

    assert answer.startswith(b"HTTP/1.1 403 ")  # no cookie


def test_of_many_uploads_from_one_address_few_are_stored_at_once(web: Web) -> None:
    """Whoever may upload is known only when all has arrived: forty strangers' made all others wait for five seconds."""
    with ExitStack() as opened:
        clients = [opened.enter_context(web.open()) for _ in range(UPLOADS_AT_ONCE + 2)]
        for client in clients:
            more = "Connection: close\r\nContent-Length: 1000000\r\n\r\n"
            client.sendall(web.head("/admin/avatars/", "POST", more) + b"x" * (MAX_BODY + 1))
            time.sleep(0.2)  # one after the other
        assert [read_all(client)[:13] for client in clients[:2]] == [b"HTTP/1.1 503 "] * 2
        for client in clients[2:]:
            client.sendall(b"x" * (1_000_000 - MAX_BODY - 1))
            assert read_all(client).startswith(b"HTTP/1.1 403 ")  # no cookie, says the view
    for _ in range(UPLOADS_AT_ONCE + 1):
        test_a_picture_for_the_admin_comes_through(web)


def test_uploads_one_after_the_other_on_one_connection_find_a_place(web: Web) -> None:
    body = b"x" * 200_000
    request = web.head("/admin/avatars/", "POST", f"Content-Length: {len(body)}\r\n\r\n") + body
    with ExitStack() as opened:
        for client in [opened.enter_context(web.open()) for _ in range(UPLOADS_AT_ONCE + 1)]:
            client.sendall(request)
            assert client.recv(65_536).startswith(b"HTTP/1.1 403 ")  # and stays open, with no upload in it


def endless(kind: str, web: Web) -> tuple[bytes, bytes]:
    """A request that goes on without end: how it begins, and how each piece of it looks."""
    chunked = web.head("/healthz", "POST", "Transfer-Encoding: chunked\r\n\r\n")
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 90) for number in range(10_000))
    return {
        "a header": (web.head(more="X: "), MEGABYTE),
        "a header's name": (web.head(more="X"), MEGABYTE),
        "headers": (web.head(), lines),
        "an address": (b"GET /", MEGABYTE),
        "a method": (b"GET", MEGABYTE),
        "a trailer": (chunked + b"0\r\nX: ", MEGABYTE),
        "trailers": (chunked + b"0\r\n", lines),
        "a chunk's extension": (chunked + b"1;", MEGABYTE),
        "blank lines": (b"", b"\r\n" * 500_000),
        "requests": (b"", web.head(more="\r\n") * 15_000),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        *("a header", "a header's name", "headers", "an address", "a method", "a trailer", "trailers"),
        *("a chunk's extension", "blank lines", "requests"),
    ],
)
def test_80_mb_of_anything_but_a_body_are_refused_while_others_are_served(web: Web, kind: str) -> None:
    assert web.healthy()
    memory = web.memory
    begin, piece = endless(kind, web)
    served = []

    def pieces() -> Iterator[bytes]:
        yield begin
        for number in range(80):
            if number == 40:
                served.append(web.healthy())
            yield piece

    with web.open() as client:
        answer = push(client, pieces())

    if kind in ("a method", "a header's name", "a chunk's extension"):
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    elif kind != "requests":
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert error_of(answer) == "headers_too_large"
    assert web.memory - memory < GROWTH
    assert all(served)
    assert web.healthy()


def test_a_head_of_usual_size_is_read(web: Web) -> None:
    cookies = f"Cookie: a={'b' * 8_000}\r\nX-More: {'c' * 8_000}\r\n"

    assert web.ask(web.head(more=f"{cookies}Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert len(cookies) < HEAD_BYTES


def test_who_sends_all_before_reading_still_learns_why(web: Web) -> None:
    body = b"x" * 5_000_000
    answer = web.ask(web.head("/api/v1/sessions", "POST", f"Content-Length: {len(body)}\r\n\r\n") + body)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert error_of(answer) == "too_large"


# -- Time -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        ("", b""),
        ("", b"\r\n"),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nX: ", b"a"),
        ("GET /healthz", b"a"),
        ("POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n", b"a"),
        ("POST /admin/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        ("POST /r/x/start HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
        ("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n", b"\r\n"),
        ("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\nGET /", b"a"),
    ],
)
def test_what_is_never_finished_is_ended(hasty: Web, begin: str, drip: bytes) -> None:
    """Also when it goes on a little all the time."""
    with hasty.open() as client:
        client.sendall(begin.format(host=f"127.0.0.1:{hasty.port}").encode())
        client.settimeout(0.1)
        until = time.monotonic() + PATIENCE
        answer, ended = b"", False
        while not ended:
            assert time.monotonic() < until, "it is still open"
            try:
                if drip:
                    client.sendall(drip)
                part = client.recv(65_536)
                answer, ended = answer + part, not part
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True

    if begin.startswith("POST"):
        assert answer.startswith(b"HTTP/1.1 408 ")
    elif "{host}" in begin:
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_slow_phone_may_take_its_time(start: Start) -> None:
    """Whatever the limit: a body that comes at the lowest speed that is allowed arrives."""
    web = start({"HEAD_SECONDS": PATIENCE, "BODY_SECONDS": 1.0, "BODY_BYTES_A_SECOND": 20})
    body = b"x" * 12_000
    with web.open() as client:
        client.sendall(web.head("/healthz", "POST", f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"))
        for number in range(6):
            client.sendall(body[number * 2000 : (number + 1) * 2000])
            time.sleep(0.5)  # the phone's own pace
        answer = read_all(client)

    assert answer.startswith(b"HTTP/1.1 403 ")  # it was read; without a cookie no view takes it


def test_a_reader_that_takes_nothing_is_dropped(hasty: Web) -> None:
    with hasty.open() as client:
        client.sendall(hasty.head("/long", more="\r\n"))
        wait_for("a cut", lambda: _connections(hasty) == 0, seconds=PATIENCE)
    assert hasty.healthy()


def _connections(web: Web) -> int:
    open_ones = psutil.Process(web.process.pid).net_connections("tcp")
    return sum(each.status == psutil.CONN_ESTABLISHED for each in open_ones)


def test_200_half_open_connections_of_one_address_keep_nobody_out(web: Web) -> None:
    assert web.healthy()
    memory = web.memory
    with ExitStack() as opened:
        for number in range(200):
            client = opened.enter_context(web.open())
            begin = web.head("/api/v1/sessions", "POST", "Content-Length: 60000\r\n\r\n")
            client.sendall(web.head(more="X: a") if number % 2 else begin + b"a" * 50_000)
            if number % 20 == 0:
                assert web.healthy()
        assert web.healthy()
        assert _connections(web) <= 128
        assert web.memory - memory < GROWTH
    assert web.healthy()


# -- WebSockets -------------------------------------------------------------------------------------------------------
def page(web: Web, **changes: object) -> connect:
    return connect(f"ws://127.0.0.1:{web.port}/echo", open_timeout=PATIENCE, **changes)  # type: ignore[arg-type]


async def closed(reader: ClientConnection) -> int:
    """The code it was closed with."""
    with suppress(ConnectionClosed):
        async with asyncio.timeout(PATIENCE):
            while True:
                await reader.recv()
    return int(reader.close_code or 0)


async def test_a_websocket_takes_small_messages_and_no_large_ones(web: Web) -> None:
    async with page(web) as socket:
        await socket.send("ping")
        assert await socket.recv() == "ping"
        await socket.send("x" * 16_385)
        assert await closed(socket) == 1009
    async with page(web) as socket:  # compressed, it is small
        await socket.send("x" * 16_000_000)
        assert await closed(socket) == 1009


@pytest.mark.parametrize("kind", ["messages", "pings", "empty fragments"])
async def test_a_websocket_that_floods_is_cut(web: Web, kind: str) -> None:
    async with page(web, compression=None) as socket:
        memory = web.memory
        frame = {"messages": b"\x81\x84mask", "pings": b"\x89\x84mask", "empty fragments": b"\x00\x80mask"}[kind]
        frame += b"" if kind == "empty fragments" else bytes(a ^ b for a, b in zip(b"mask", b"ping", strict=True))
        if kind == "empty fragments":
            socket.transport.write(b"\x01\x80mask")
        for _ in range(300):
            if socket.transport.is_closing():
                break
            socket.transport.write(frame * 5_000)
            await asyncio.sleep(0.001)
        assert await closed(socket) == 1006
        assert web.memory - memory < GROWTH


@pytest.mark.parametrize(
    "more",
    [
        "Content-Length: 50000\r\n",
        "Transfer-Encoding: chunked\r\n",
        "".join(f"X{number}: a\r\n" for number in range(200)),
        f"Cookie: a={'a' * 9_000}\r\n",
    ],
    ids=["body", "chunks", "many headers", "long header"],
)
def test_what_cannot_begin_a_websocket_is_refused_at_once(web: Web, more: str) -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    answer = web.ask(web.head("/echo", more=f"{upgrade}{key}{more}\r\n"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert error_of(answer) == "invalid"


# -- Places -----------------------------------------------------------------------------------------------------------
async def test_pages_that_are_open_are_never_cut_for_others(start: Start) -> None:
    web = start(MOLTS_CONNECTIONS_PER_ADDRESS="3")
    async with page(web) as first, page(web), page(web):
        with pytest.raises(InvalidStatus) as refused:
            async with page(web):
                pass
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["Retry-After"]
        await first.send("ping")
        assert await first.recv() == "ping"
    assert await asyncio.to_thread(web.healthy)  # their places are free again


@pytest.mark.parametrize(
    "path", ["/readyz", *(pytest.param(path, marks=pytest.mark.soak) for path in ("/healthz", "/healthz?x"))]
)
async def test_the_machine_itself_is_answered_whatever_holds_its_places(start: Start, path: str) -> None:
    """A tunnel or a proxy that was not declared brings all visitors from there, and the supervisor asks from there."""
    web = start(MOLTS_CONNECTIONS_PER_ADDRESS="2")
    asked = web.head(path, more="Connection: close\r\n\r\n")
    async with page(web), page(web):
        with ExitStack() as opened:
            for _ in range(40):
                opened.enter_context(web.open()).sendall(web.head(path, more="X: a"))
            answer = await asyncio.to_thread(web.ask, asked)
        assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503"))
        assert b"Too many connections" not in answer
        for other in ("/", "/healthz/", "/readyzx"):
            refused = await asyncio.to_thread(web.ask, web.head(other, more="Connection: close\r\n\r\n"))
            assert refused.startswith(b"HTTP/1.1 503")
            assert b"Too many connections" in refused


async def test_nobody_keeps_the_places_of_the_machine_itself(start: Start) -> None:
    web = start(MOLTS_CONNECTIONS_PER_ADDRESS="1")
    async with page(web):
        for _ in range(20):
            with pytest.raises(InvalidStatus):
                async with page(web):
                    pass
        assert await asyncio.to_thread(web.healthy)


async def test_a_declared_proxy_has_as_many_connections_as_its_visitors_need(proxied: Web) -> None:
    def visitor(address: str) -> connect:
        return page(proxied, additional_headers={"X-Forwarded-For": f"9.9.9.9, {address}"})

    async with visitor("1.1.1.1"), visitor("1.1.1.1"), visitor("2.2.2.2"), visitor("3.3.3.3"):
        with pytest.raises(InvalidStatus):
            async with visitor("1.1.1.1"):
                pass
        async with visitor("2.2.2.2"), page(proxied), page(proxied), page(proxied):
            assert await asyncio.to_thread(proxied.healthy)


def test_requests_through_a_proxy_free_their_place_when_answered(proxied: Web) -> None:
    with ExitStack() as opened:
        clients = [opened.enter_context(proxied.open()) for _ in range(5)]
        for client in clients:
            client.sendall(proxied.head(more="X-Forwarded-For: 1.1.1.1\r\n\r\n"))
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += client.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200 ")


class Caller:
    def __init__(self, *, is_waiting: bool) -> None:
        self.is_waiting = is_waiting
        self.gone = False

    def make_room(self) -> None:
        self.gone = True


def test_the_oldest_that_waits_gives_way(settings: Settings) -> None:
    settings.MOLTS_CONNECTIONS_PER_ADDRESS = 3
    places = ConnectionPlaces()
    busy, old, new = Caller(is_waiting=False), Caller(is_waiting=True), Caller(is_waiting=True)
    for caller in (busy, old, new):
        assert places.take("a", caller)

    assert places.take("a", Caller(is_waiting=False))
    assert [caller.gone for caller in (busy, old, new)] == [False, True, False]
    assert places.take("b", Caller(is_waiting=False))


def test_none_is_counted_where_there_is_no_limit(settings: Settings) -> None:
    settings.MOLTS_CONNECTIONS_PER_ADDRESS = 0
    places = ConnectionPlaces()

    assert all(places.take("a", Caller(is_waiting=False)) for _ in range(1000))


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("unknown", "unknown"),
    ],
)
def test_a_subscriber_counts_as_one(address: str, place: str) -> None:
    assert subscriber(address) == place


@pytest.mark.parametrize(
    ("address", "behind", "proxies", "expected"),
    [
        ("127.0.0.1", False, 0, False),
        ("127.0.0.1", True, 0, True),
        ("::1", False, 1, True),
        ("10.0.0.5", False, 1, True),
        ("203.0.113.7", True, 1, True),
        ("8.8.8.8", True, 1, False),
        ("", True, 1, False),
    ],
)
def test_only_a_declared_proxy_nearby_brings_other_people(
    settings: Settings, address: str, behind: bool, proxies: int, expected: bool
) -> None:
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if behind else None
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}

    assert is_proxy(address) is expected


@pytest.mark.parametrize(
    ("proxies", "said", "who"),
    [
        (0, [b"1.1.1.1"], ""),
        (1, [], ""),
        (1, [b"1.1.1.1"], "1.1.1.1"),
        (1, [b"9.9.9.9, 1.1.1.1"], "1.1.1.1"),
        (2, [b"9.9.9.9, 1.1.1.1, 10.0.0.1"], "1.1.1.1"),
        (1, [b"9.9.9.9", b"1.1.1.1"], "1.1.1.1"),
        (3, [b"1.1.1.1"], "1.1.1.1"),
        (1, [b"\xff"], "\xff"),
    ],
)
def test_who_asks_is_what_the_last_proxies_said(settings: Settings, proxies: int, said: list[bytes], who: str) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}

    assert forwarded_for([(b"x-forwarded-for", value) for value in said]) == who
