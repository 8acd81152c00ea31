"""The one door to the outside: HTTP clients for every URL that somebody could have configured.

A client from here connects only to addresses that are open to the whole internet, or that the operator allowed in
MOLTS_ALLOWED_NETWORKS. The name is resolved once, the address is judged, and the connection goes to just that address,
so neither odd spellings (0x7f.1) nor a name server that changes its answer get past. Redirects are not followed, proxy
settings of the environment are not used, and size and time of every answer are limited. A key that a server repeats in
a header or its refusal is blacked out, so that an error may be logged and shown as it is.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpcore2
import httpx2

from molts.errors import BadInput
from molts.redact import Redactor

if TYPE_CHECKING:
    import aiohttp

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver = Callable[[str, int], Sequence[str]]
"""(host, port) -> IP addresses as text. Blocks; raises OSError when there are none."""

REDIRECTS = (301, 302, 303, 307, 308)
FIRST_REFUSAL = 300  # from this status on an answer is somebody's words, not data
KEY_HEADERS = ("authorization", "api-key", "x-api-key", "xi-api-key", "x-goog-api-key", "x-simli-api-key", "api-secret")
SHORTEST_KEY = 8
EVERY_NETWORK = ("0.0.0.0/0", "::/0")
"""Allowed for the parts of this installation: they are wherever the operator put them."""
BODY_HEADERS = ("content-encoding", "content-length", "transfer-encoding")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(httpx2.ConnectError):
    """The host is, or resolves to, an address that may not be reached from here."""


class AnswerTooLarge(httpx2.ReadError):
    """The answer is longer than the client accepts."""


class AnswerTooSlow(httpx2.ReadTimeout):
    """The answer was not complete within the client's total time."""


@dataclass(frozen=True)
class ResponseLimits:
    """What an answer may cost. Times in seconds; `total_seconds` covers one request from start to last byte."""

    connect_seconds: float = 5.0
    read_seconds: float = 15.0
    total_seconds: float = 30.0
    max_bytes: int = 5_000_000


def guarded_async_client(
    *,
    limits: ResponseLimits = ResponseLimits(),
    allowed_networks: Iterable[str] = (),
    resolver: Resolver | None = None,
    unix_socket: str | None = None,
    **options: Any,
) -> httpx2.AsyncClient:
    """An AsyncClient behind the guard. `allowed_networks` (CIDR) are reachable beside those the operator allowed.

    With `unix_socket` all its requests go to that socket of this machine. `options` go to httpx2.AsyncClient. Close it
    after use.
    """
    guard = _Guard(networks_of(allowed_networks), resolver or resolve)
    return httpx2.AsyncClient(
        transport=_AsyncTransport(guard, limits, unix_socket),
        timeout=_timeout(limits),
        follow_redirects=False,
        trust_env=False,
        **options,
    )


def fetch(
    url: str, *, headers: dict[str, str] | None = None, limits: ResponseLimits = ResponseLimits(), **options: Any
) -> httpx2.Response:
    """The answer to a GET, whatever its status: how code that does not run in an event loop asks a web server.

    `options` are those of `guarded_async_client`. Raises httpx2.HTTPError or httpx2.InvalidURL, after the limit of time
    at the latest: the asynchronous client asks in a thread of its own, which is left behind if it does not come back.
    """
    answers: queue.SimpleQueue[httpx2.Response | Exception] = queue.SimpleQueue()

    async def ask() -> None:
        try:
            async with guarded_async_client(limits=limits, **options) as client:
                answers.put(await client.get(url, headers=headers))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=asyncio.run, args=(ask(),), name="fetch", daemon=True).start()
    try:
        answer = answers.get(timeout=limits.total_seconds)
    except queue.Empty:
        raise AnswerTooSlow(f"no answer within {limits.total_seconds:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def guarded_session(
    *, limits: ResponseLimits = ResponseLimits(), allowed_networks: Iterable[str] = ()
) -> aiohttp.ClientSession:
    """The same guard for libraries that call out through a session of aiohttp, as LiveKit's plugins do.

    Each address is judged right before a socket for it is made, so it does not matter how it was found. A refusal is an
    `aiohttp.ClientError` that says why, and so is an answer that redirects. The size of answers is not limited. Make it
    in a running event loop and close it after use.
    """
    import aiohttp  # not needed in most processes

    guard = _Guard(networks_of(allowed_networks), resolve)

    def open_socket(found: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, address = found
        guard.judge(address[0])
        return socket.socket(family, kind, protocol)

    async def refuse_redirects(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        response = await handler(request)
        if response.status in REDIRECTS:
            response.close()
            raise aiohttp.ClientResponseError(
                response.request_info, (), status=response.status, message="Redirects are not followed."
            )
        return response

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=_ssl_context(), socket_factory=open_socket),
        timeout=aiohttp.ClientTimeout(total=limits.total_seconds, sock_connect=limits.connect_seconds),
        middlewares=(refuse_redirects,),
        trust_env=False,
    )


def check_url(url: str, *, attr: str | None = None) -> str:
    """Return `url` when it has the form of one that may be called, else raise BadInput.

    For forms: it does not resolve names. What it lets through is still judged when the connection is made.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError when it is no number
    except ValueError as error:
        raise BadInput(f"{url!r} is not a URL.", attr=attr) from error
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        raise BadInput("Leave blanks and line ends out of the URL.", attr=attr)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise BadInput("Give a full URL that starts with https:// or http://.", attr=attr)
    if parts.username is not None or parts.password is not None:
        raise BadInput("Leave user name and password out of the URL; keys have a field of their own.", attr=attr)
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return _with_name(url, parts.hostname, attr)
    if not is_reachable(address, networks_of(())):
        raise BadInput(_refusal(parts.hostname), attr=attr)
    return url


def _with_name(url: str, host: str, attr: str | None) -> str:
    """`url`, whose host is no number: raises BadInput when it cannot be a name either."""
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise BadInput(f"{host!r} cannot be the name of a server.", attr=attr) from error
    return url


def is_reachable(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether `address` is open to the whole internet or lies in one of the `allowed` networks."""
    address = _embedded(address)
    if any(address.version == network.version and address in network for network in allowed):
        return True
    return address.is_global and not address.is_multicast and not address.is_reserved


def networks_of(extra: Iterable[str]) -> list[Network]:
    """Networks of MOLTS_ALLOWED_NETWORKS and `extra`."""
    from django.conf import settings

    return [ipaddress.ip_network(text, strict=False) for text in (*settings.MOLTS_ALLOWED_NETWORKS, *extra)]


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host by the system's resolver."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address really leads to, else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address.teredo is not None:
            return address.teredo[1]
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _refusal(host: str) -> str:
    return (
        f"{host} is on a private network and may not be called. Whoever runs this server can allow it with the setting "
        "MOLTS_ALLOWED_NETWORKS; the documentation says how under “Keys and addresses”."
    )


def setting_that_allows(url: str) -> str:
    """The line of the environment with which `url` may be called, whatever was allowed before; "" when it may be.

    It names addresses on private networks: for whoever runs this server. A host name is resolved.
    """
    from django.conf import settings

    parts = urlsplit(url)
    try:
        found = [ipaddress.ip_address(text) for text in resolve(parts.hostname or "", parts.port or 0)]
    except (OSError, ValueError):
        return ""
    refused = dict.fromkeys(str(address) for address in found if not is_reachable(address, networks_of(())))
    allowed = [str(network) for network in settings.MOLTS_ALLOWED_NETWORKS]
    return f"MOLTS_ALLOWED_NETWORKS={','.join([*allowed, *refused])}" if refused else ""


@dataclass(frozen=True)
class _Guard:
    allowed: Sequence[Network]
    resolver: Resolver

    def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of `host` that may be reached. Raises AddressRefused when there are none."""
        found = list(dict.fromkeys(self.resolver(host, port)))
        open_ones = [text for text in found if is_reachable(ipaddress.ip_address(text), self.allowed)]
        if not open_ones:
            raise AddressRefused(_refusal(host) if found else f"{host} has no address.")
        return open_ones

    def judge(self, address: str) -> None:
        """Raises PermissionError when `address` may not be reached."""
        if not is_reachable(ipaddress.ip_address(address), self.allowed):
            raise PermissionError(errno.EACCES, _refusal(address))

    def check_request(self, request: httpx2.Request) -> None:
        if request.url.userinfo:
            raise AddressRefused("URLs with a user name or password are not called.", request=request)


class _AsyncBackend(httpcore2.AsyncNetworkBackend):
    """Connects to judged addresses; TLS still checks the certificate against the name."""

    def __init__(self, guard: _Guard) -> None:
        self._guard = guard
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        deadline = _deadline(timeout)
        try:
            addresses = await asyncio.wait_for(asyncio.to_thread(self._guard.addresses, host, port), timeout)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(f"{host} was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {error}") from error
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._sockets.connect_tcp(
                    address, port, _left(deadline), local_address=local_address, socket_options=socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise _in_words(failure, host, port)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Only where the caller named a socket: no URL leads to one."""
        try:
            return await self._sockets.connect_unix_socket(path, timeout, socket_options)
        except httpcore2.ConnectError as error:
            raise httpcore2.ConnectError(f"nothing answers at {path}") from error

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _in_words(failure: Exception | None, host: str, port: int) -> Exception:
    """What is raised when no address of `host` took the connection. The socket library's own words name nothing."""
    if isinstance(failure, httpcore2.ConnectTimeout):
        return failure
    return httpcore2.ConnectError(f"nothing answers at {host}:{port}: check the address, and that the server runs")


class _AsyncTransport(httpx2.AsyncHTTPTransport):
    def __init__(self, guard: _Guard, limits: ResponseLimits, unix_socket: str | None) -> None:
        super().__init__(verify=_ssl_context(), trust_env=False)
        self._guard = guard
        self._limits = limits
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=_ssl_context(),
            max_connections=50,
            max_keepalive_connections=10,
            keepalive_expiry=60,
            uds=unix_socket,
            network_backend=_AsyncBackend(guard),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._guard.check_request(request)
        deadline = time.monotonic() + self._limits.total_seconds
        try:
            async with asyncio.timeout(self._limits.total_seconds):
                response = await super().handle_async_request(request)
        except TimeoutError as error:
            raise AnswerTooSlow(f"no answer within {self._limits.total_seconds:.0f} s", request=request) from error
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _AsyncCap(response.stream, self._limits, deadline, request)
        if not (keys := _keys_sent(request)):
            return response
        response.headers = _clean_headers(keys, response)
        if response.status_code < FIRST_REFUSAL:
            return response
        try:
            return _without(keys, response, await response.aread())
        finally:
            await response.aclose()


def _keys_sent(request: httpx2.Request) -> Redactor | None:
    """What finds the credentials in the headers of `request`, None when it has none."""
    values = [request.headers.get(name, "").split(" ")[-1] for name in KEY_HEADERS]
    keys = [value for value in values if len(value) >= SHORTEST_KEY]
    return Redactor(keys, looks=()) if keys else None


def _clean_headers(hide: Redactor, response: httpx2.Response) -> httpx2.Headers:
    """Libraries put ids of requests, places to go to and the like into their errors."""
    return httpx2.Headers([(name, hide(value)) for name, value in response.headers.multi_items()])


def _without(hide: Redactor, response: httpx2.Response, body: bytes) -> httpx2.Response:
    """The same answer with the (decoded) `body` freed of keys."""
    body = hide(body.decode("latin-1")).encode("latin-1")  # whatever it is: each byte is a letter
    kept = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in BODY_HEADERS]
    return httpx2.Response(response.status_code, headers=kept, content=body, extensions=response.extensions)


class _AsyncCap(httpx2.AsyncByteStream):
    """A body that ends in an error when it grows too large or takes too long."""

    def __init__(
        self, body: httpx2.AsyncByteStream, limits: ResponseLimits, deadline: float, request: httpx2.Request
    ) -> None:
        self._body = body
        self._count = _Count(limits, deadline, request)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._body)
        while True:
            try:
                async with asyncio.timeout(self._count.seconds_left()):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise self._count.too_slow() from error
            self._count.add(chunk)
            yield chunk

    async def aclose(self) -> None:
        await self._body.aclose()


class _Count:
    def __init__(self, limits: ResponseLimits, deadline: float, request: httpx2.Request) -> None:
        self._limits = limits
        self._deadline = deadline
        self._request = request
        self._bytes = 0

    def add(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        if self._bytes > self._limits.max_bytes:
            raise AnswerTooLarge(f"the answer is longer than {self._limits.max_bytes} bytes", request=self._request)
        if time.monotonic() > self._deadline:
            raise self.too_slow()

    def seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def too_slow(self) -> AnswerTooSlow:
        return AnswerTooSlow(
            f"the answer was not complete within {self._limits.total_seconds:.0f} s", request=self._request
        )


@cache
def _ssl_context() -> ssl.SSLContext:
    """Reading the certificates takes some 50 ms, so all clients share one context."""
    return httpx2.create_ssl_context(trust_env=False)


def _timeout(limits: ResponseLimits) -> httpx2.Timeout:
    return httpx2.Timeout(limits.read_seconds, connect=limits.connect_seconds)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
