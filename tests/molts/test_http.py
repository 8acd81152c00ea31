"""The guard, with a fake resolver and real connections to servers on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import aiohttp
import httpx2
import pytest
from pytest_django import Settings

from molts.errors import BadInput
from molts.http import (
    AddressRefused,
    AnswerTooLarge,
    AnswerTooSlow,
    ResponseLimits,
    check_url,
    fetch,
    guarded_async_client,
    guarded_session,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Serve = Callable[[socket.socket], None]


class Server:
    """A server on loopback that notes every connection and answers by `serve`."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.connections = 0
        self.requests: list[bytes] = []
        self.serve: Serve = lambda connection: connection.sendall(OK)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection: socket.socket) -> None:
        with connection:
            self.requests.append(connection.recv(65536))
            with contextlib.suppress(OSError):  # the client has gone
                self.serve(connection)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.socket.close()


@pytest.fixture(autouse=True)
def _nothing_allowed(settings: Settings) -> None:
    settings.MOLTS_ALLOWED_NETWORKS = []


def always(*addresses: str) -> Callable[[str, int], Sequence[str]]:
    return lambda host, port: list(addresses)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433", "0177.0.0.1", "localhost", "0.0.0.0", "[::]"],
)
async def test_no_spelling_of_this_machine_is_reached(server: Server, host: str) -> None:
    async with guarded_async_client() as client:
        with pytest.raises((httpx2.ConnectError, httpx2.InvalidURL)):
            await client.get(f"http://{host}:{server.port}/")
    with pytest.raises((httpx2.ConnectError, httpx2.InvalidURL)):
        fetch(f"http://{host}:{server.port}/")
    assert server.connections == 0


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.5", "172.16.3.4", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "100.127.255.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "fe80::1", "fc00::1", "ff02::1",
        "fd00:ec2::254", "64:ff9b::7f00:1", "2002:7f00:1::", "::ffff:169.254.169.254", "198.18.0.1", "192.0.2.1",
    ],
)  # fmt: skip
async def test_no_private_address_is_reached_by_a_name(server: Server, address: str) -> None:
    async with guarded_async_client(resolver=always(address)) as client:
        with pytest.raises(AddressRefused, match="MOLTS_ALLOWED_NETWORKS"):
            await client.get(f"http://innocent.example:{server.port}/")
    assert server.connections == 0


async def test_a_name_that_changes_its_address_is_judged_by_the_one_connected_to(server: Server) -> None:
    answers = iter([["8.8.8.8"], ["127.0.0.1"], ["127.0.0.1"]])
    asked: list[str] = []

    def flips(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    limits = ResponseLimits(connect_seconds=0.3, total_seconds=1)
    async with guarded_async_client(resolver=flips, limits=limits) as client:
        with pytest.raises((httpx2.ConnectError, httpx2.ConnectTimeout)):
            await client.get(f"http://flips.example:{server.port}/")  # 8.8.8.8 is open, and is not there
        assert asked == ["flips.example"]  # resolved once: the connection went to the judged address
        with pytest.raises(AddressRefused):
            await client.get(f"http://flips.example:{server.port}/")
    assert server.connections == 0


async def test_only_the_open_address_of_a_name_with_two_is_used(server: Server) -> None:
    limits = ResponseLimits(connect_seconds=0.3, total_seconds=1)
    async with guarded_async_client(resolver=always("127.0.0.1", "8.8.8.8"), limits=limits) as client:
        with pytest.raises((httpx2.ConnectError, httpx2.ConnectTimeout, AnswerTooSlow)):
            await client.get(f"http://both.example:{server.port}/")
    assert server.connections == 0


async def test_the_operator_can_allow_a_network(server: Server, settings: Settings) -> None:
    settings.MOLTS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    async with guarded_async_client() as client:
        assert (await client.get(f"http://127.0.0.1:{server.port}/")).text == "ok"
        assert (await client.get(f"http://[::ffff:127.0.0.1]:{server.port}/")).text == "ok"
    assert fetch(f"http://127.0.0.1:{server.port}/").text == "ok"


async def test_a_caller_can_allow_a_fixed_address_of_its_own(server: Server) -> None:
    async with guarded_async_client(allowed_networks=["127.0.0.1"]) as client:
        assert (await client.get(f"http://127.0.0.1:{server.port}/")).text == "ok"
    async with guarded_async_client() as client:
        with pytest.raises(AddressRefused):
            await client.get(f"http://127.0.0.1:{server.port}/")


async def test_the_server_hears_the_name_it_was_called_by(server: Server) -> None:
    async with guarded_async_client(allowed_networks=["127.0.0.1"], resolver=always("127.0.0.1")) as client:
        await client.get(f"http://by.name.example:{server.port}/")
    assert f"Host: by.name.example:{server.port}".encode().lower() in server.requests[0].lower()


async def test_user_names_in_urls_are_refused(server: Server) -> None:
    for url in (f"http://user@127.0.0.1:{server.port}/", f"http://8.8.8.8@127.0.0.1:{server.port}/"):
        async with guarded_async_client(allowed_networks=["127.0.0.1"]) as client:
            with pytest.raises(AddressRefused, match="user name"):
                await client.get(url)
    assert server.connections == 0


async def test_redirects_are_not_followed(server: Server) -> None:
    target = Server()
    location = f"http://127.0.0.1:{target.port}/".encode()
    server.serve = lambda connection: connection.sendall(
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"
    )
    async with guarded_async_client(allowed_networks=["127.0.0.1"]) as client:
        assert (await client.get(f"http://127.0.0.1:{server.port}/")).status_code == 302
    assert fetch(f"http://127.0.0.1:{server.port}/", allowed_networks=["127.0.0.1"]).status_code == 302
    assert target.connections == 0
    target.socket.close()


async def test_proxies_of_the_environment_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Server()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    async with guarded_async_client(allowed_networks=["127.0.0.1"]) as client:
        assert (await client.get(f"http://127.0.0.1:{server.port}/")).text == "ok"
    assert proxy.connections == 0
    proxy.socket.close()


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def drip_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def drip_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-Slow: 1\r\n")
        time.sleep(0.05)


def hang(connection: socket.socket) -> None:
    time.sleep(5)


@pytest.mark.parametrize(
    ("serve", "error"),
    [
        (endless, AnswerTooLarge),
        (drip_body, AnswerTooSlow),
        (drip_headers, httpx2.TimeoutException),
        (hang, httpx2.TimeoutException),
    ],
)
async def test_size_and_time_of_an_answer_are_limited(server: Server, serve: Serve, error: type[Exception]) -> None:
    server.serve = serve
    limits = ResponseLimits(read_seconds=0.5, total_seconds=0.8, max_bytes=1_000_000)
    url = f"http://127.0.0.1:{server.port}/"

    started = time.monotonic()
    async with guarded_async_client(allowed_networks=["127.0.0.1"], limits=limits) as client:
        with pytest.raises(error):
            await client.get(url)
    assert time.monotonic() - started < 2.5

    started = time.monotonic()
    with pytest.raises(error):
        await asyncio.to_thread(fetch, url, allowed_networks=["127.0.0.1"], limits=limits)
    assert time.monotonic() - started < 2.5


async def test_a_resolver_that_hangs_is_given_up() -> None:
    def slow(host: str, port: int) -> Sequence[str]:
        time.sleep(1.5)
        return ["8.8.8.8"]

    async with guarded_async_client(resolver=slow, limits=ResponseLimits(connect_seconds=0.2)) as client:
        with pytest.raises(httpx2.ConnectTimeout, match="not resolved"):
            await client.get("http://slow.example/")


def test_a_resolver_that_hangs_holds_no_caller_up() -> None:
    release = threading.Event()

    def slow(host: str, port: int) -> Sequence[str]:
        release.wait(20)
        return ["8.8.8.8"]

    started = time.monotonic()
    with pytest.raises(httpx2.TimeoutException):
        fetch("http://slow.example/", resolver=slow, limits=ResponseLimits(total_seconds=0.3))
    assert time.monotonic() - started < 5
    release.set()


def test_a_socket_of_this_machine_is_asked_where_the_caller_names_it(tmp_path: Path) -> None:
    path = tmp_path / "part.sock"
    with pytest.raises(httpx2.ConnectError, match=str(path)):
        fetch("http://part/", unix_socket=str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(OK)

        threading.Thread(target=answer, daemon=True).start()
        assert fetch("http://part/", unix_socket=str(path)).text == "ok"


async def test_a_name_without_address_is_an_ordinary_error() -> None:
    def none(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(-2, "Name or service not known")

    async with guarded_async_client(resolver=none) as client:
        with pytest.raises(httpx2.ConnectError, match=r"nowhere\.example cannot be resolved"):
            await client.get("http://nowhere.example/")


@pytest.mark.parametrize("packed", [False, True])
async def test_a_key_that_the_server_repeats_in_its_refusal_is_blacked_out(server: Server, packed: bool) -> None:
    key = "k3y-that-nobody-may-see"
    body = f'{{"error": "no such key: {key}"}}'.encode()
    answer = gzip.compress(body) if packed else body
    head = f"HTTP/1.1 401 Unauthorized\r\nContent-Length: {len(answer)}\r\nX-Request-Id: 7\r\n"
    encoding = "Content-Encoding: gzip\r\n" if packed else ""
    server.serve = lambda connection: connection.sendall(f"{head}{encoding}\r\n".encode() + answer)
    url, headers = f"http://127.0.0.1:{server.port}/", {"Authorization": f"Bearer {key}"}
    async with guarded_async_client(allowed_networks=["127.0.0.1/32"]) as client:
        refused = [await client.get(url, headers=headers)]
    refused.append(fetch(url, headers=headers, allowed_networks=["127.0.0.1/32"]))
    for response in refused:
        assert (response.status_code, response.headers["X-Request-Id"]) == (401, "7")
        assert response.json() == {"error": "no such key: [hidden]"}


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "308 Permanent Redirect", "500 Oops"])
async def test_a_key_that_the_server_repeats_in_a_header_or_a_redirect_is_blacked_out(
    server: Server, status: str
) -> None:
    key = "k3y/that+nobody=may-see"
    told = f"{key} {quote(key, safe='')} {base64.b64encode(b'user:' + key.encode()).decode()}".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(told)}\r\nLocation: /?k={quote(key, safe='')}\r\n"
    server.serve = lambda connection: connection.sendall(f"{head}X-Request-Id: for-{key}\r\n\r\n".encode() + told)
    url, headers = f"http://127.0.0.1:{server.port}/", {"x-api-key": key}
    async with guarded_async_client(allowed_networks=["127.0.0.1/32"]) as client:
        answers = [await client.get(url, headers=headers)]
    answers.append(fetch(url, headers=headers, allowed_networks=["127.0.0.1/32"]))
    for answer in answers:
        assert (answer.headers["X-Request-Id"], answer.headers["Location"]) == ("for-[hidden]", "/?k=[hidden]")
        if status != "200 OK":  # what is no refusal is data, and handed on as it is
            assert answer.text.startswith("[hidden] [hidden] ")
            assert base64.b64encode(b"user:" + key.encode()).decode()[8:-4] not in answer.text
        else:
            assert answer.content == told


async def test_connections_are_kept_and_streams_work(server: Server) -> None:
    def two_chunks(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        time.sleep(0.1)
        connection.sendall(b"3\r\ndef\r\n0\r\n\r\n")

    server.serve = two_chunks
    url = f"http://127.0.0.1:{server.port}/"
    async with guarded_async_client(allowed_networks=["127.0.0.1"]) as client, client.stream("GET", url) as response:
        pieces = [piece async for piece in response.aiter_bytes()]
    assert pieces == [b"abc", b"def"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.org/", "https://"),
        ("example.org", "https://"),
        ("http://", "https://"),
        ("https://user:pass@example.org/", "user name"),
        ("http://user@example.org/", "user name"),
        ("http://127.0.0.1:8000/v1", "private network"),
        ("http://[::1]/", "private network"),
        ("http://169.254.169.254/latest", "private network"),
        ("http://host:port/", "not a URL"),
        ("http://[half/", "not a URL"),
    ],
)
def test_forms_refuse_urls_that_could_never_be_called(url: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason) as error:
        check_url(url, attr="base_url")
    assert error.value.attr == "base_url"


def test_forms_take_urls_that_may_be_called(settings: Settings) -> None:
    assert check_url("https://api.openai.com/v1") == "https://api.openai.com/v1"
    assert check_url("http://8.8.8.8/") == "http://8.8.8.8/"
    settings.MOLTS_ALLOWED_NETWORKS = ["192.168.0.0/16"]
    assert check_url("http://192.168.1.20:11434/v1") == "http://192.168.1.20:11434/v1"


# -- The guard for libraries that bring aiohttp along ------------------------------------------------------------------
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.5", "localhost", "0x7f.1", "0.0.0.0"],
)
async def test_a_librarys_session_reaches_no_private_address(server: Server, host: str) -> None:
    async with guarded_session() as session:
        with pytest.raises(aiohttp.ClientConnectorError, match="MOLTS_ALLOWED_NETWORKS"):
            await session.post(f"http://{host}:{server.port}/", json={})
        with pytest.raises(aiohttp.ClientConnectorError, match="MOLTS_ALLOWED_NETWORKS"):
            await session.ws_connect(f"ws://{host}:{server.port}/")
    assert server.connections == 0


async def test_a_librarys_session_judges_what_a_name_leads_to(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it leads elsewhere the second time: what is judged is what is connected to."""
    answers = iter([["8.8.8.8", "127.0.0.1"], ["127.0.0.1"], ["169.254.169.254", "::1"]])

    def lookup(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        assert host == "flips.example"
        found = [(socket.AF_INET6 if ":" in text else socket.AF_INET, text) for text in next(answers)]
        return [
            (family, socket.SOCK_STREAM, 6, "", (text, port, 0, 0)[: 4 if ":" in text else 2]) for family, text in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    for _ in range(3):
        async with guarded_session(limits=ResponseLimits(connect_seconds=0.3, total_seconds=1)) as session:
            with pytest.raises((aiohttp.ClientError, TimeoutError)):
                await session.get(f"http://flips.example:{server.port}/")
    assert next(answers, None) is None
    assert server.connections == 0


async def test_a_librarys_session_reaches_what_the_operator_allowed(server: Server, settings: Settings) -> None:
    settings.MOLTS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    async with guarded_session() as session, session.get(f"http://127.0.0.1:{server.port}/") as answer:
        assert await answer.text() == "ok"


async def test_a_librarys_session_takes_no_key_to_where_an_answer_points(server: Server) -> None:
    target = f"http://127.0.0.1:{server.port}/elsewhere".encode()
    server.serve = lambda connection: connection.sendall(
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: " + target + b"\r\nContent-Length: 0\r\n\r\n"
    )
    async with guarded_session(allowed_networks=["127.0.0.1"]) as session:
        with pytest.raises(aiohttp.ClientResponseError, match="not followed"):
            await session.get(f"http://127.0.0.1:{server.port}/", headers={"x-api-key": "k"})
    assert len(server.requests) == 1
