"""What a connection may take of the web part before any view runs: bytes, time, and places per address.

uvicorn's own protocols with bounds: `uvicorn --http molts.front_door:FrontDoor --ws molts.front_door:BoundedWebSocket`.
It has options for none of them: its parser keeps a header of any size, a request that is never finished waits for ever,
and Django writes a whole body to disk before it looks for the view that would refuse it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from http import HTTPStatus
from typing import Any, Protocol

from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

import molts.asgi  # noqa: F401 - uvicorn loads its protocols before the application, which sets Django up
from molts.api import error_body
from molts.callers import subscriber
from molts.errors import BadInput, Busy, MoltsError, TooLarge, Unavailable
from molts.parsers import MAX_BODY

HEAD_BYTES = 32_768  # address, headers and trailers of one request
HEAD_SECONDS = 20.0  # for all of them, from the connection or from the answer before
UPLOAD_BYTES = 16_000_000  # a body to the admin, where pictures are uploaded; elsewhere MAX_BODY
UPLOADS_AT_ONCE = 4  # of one address: anybody may begin one, and what arrives is written to disk between other answers
SIGN_IN = b"/admin/login/"  # open to strangers, and none of them uploads anything
BODY_SECONDS = 30.0  # for a body, and a second more for every so many bytes of it:
BODY_BYTES_A_SECOND = 4096
READER_SECONDS = 60.0  # an answer of which nothing is taken for so long goes to nobody
LINGER_SECONDS = 5.0  # a refused client may go on sending for so long: hung up on at once, it would not read why
OWN_PLACES = 16  # beside the others, for what this machine itself asks at OWN_PATHS: whether the server lives, mostly
OWN_PATHS = (b"/healthz", b"/readyz", b"/metrics", b"/webhooks/livekit")
MOST_PIPELINED = 8  # requests sent before the answer to the first; browsers send none
UPLOAD = "upload of "  # before an address: a place of another kind
SOCKET_BYTES = 65_536  # what a page may send over its WebSocket, and for every second besides:
SOCKET_BYTES_A_SECOND = 1024
TICK_SECONDS = 1.0

logger = logging.getLogger(__name__)


class HeadTooLarge(MoltsError):
    code = "headers_too_large"
    http_status = 431


class RequestTooSlow(MoltsError):
    code = "timeout"
    http_status = 408


# -- Places -----------------------------------------------------------------------------------------------------------
class Guest(Protocol):
    """Whoever holds a place."""

    @property
    def is_waiting(self) -> bool:
        """Whether we wait for the other side, and not the other way round."""

    def make_room(self) -> None:
        """Give the place up at once."""


class ConnectionPlaces:
    """The connections of each address, the oldest first."""

    def __init__(self) -> None:
        self._taken: dict[str, dict[Guest, None]] = {}

    def take(self, address: str, guest: Guest, most: int | None = None) -> bool:
        """False when the address has all of its places in use: as many as the settings say, or `most`.

        A connection that only waits gives way: requests that are never finished keep nobody out for long.
        """
        taken = self._taken.setdefault(address, {})
        most = settings.MOLTS_CONNECTIONS_PER_ADDRESS if most is None else most
        if most and len(taken) >= most:
            waiting = next((each for each in taken if each.is_waiting), None)
            if waiting is None:
                return False
            waiting.make_room()
            taken = self._taken.setdefault(address, {})
        taken[guest] = None
        return True

    def leave(self, address: str, guest: Guest) -> None:
        """Give the place free. The second call finds nothing left to do."""
        taken = self._taken.get(address, {})
        taken.pop(guest, None)
        if not taken:
            self._taken.pop(address, None)

    def hand_over(self, address: str, guest: Guest, heir: Guest) -> None:
        self.leave(address, guest)
        self._taken.setdefault(address, {})[heir] = None


places = ConnectionPlaces()


def is_proxy(address: str) -> bool:
    """Whether connections from there bring other people's requests: a proxy was declared, and it is near."""
    if not (settings.SECURE_PROXY_SSL_HEADER or settings.REST_FRAMEWORK["NUM_PROXIES"]):
        return False
    try:
        return ipaddress.ip_address(address).is_private
    except ValueError:
        return False


def forwarded_for(headers: list[tuple[bytes, bytes]]) -> str:
    """Who asks, as the declared proxies say, counted as in rate limits; empty where they do not say."""
    framework: dict[str, Any] = settings.REST_FRAMEWORK
    proxies: int = framework["NUM_PROXIES"]
    said = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
    if not proxies or not said:
        return ""
    addresses = said.split(",")
    return addresses[-min(proxies, len(addresses))].strip()


# -- Requests ---------------------------------------------------------------------------------------------------------
class FrontDoor(HttpToolsProtocol):
    """One connection. It is looked at whenever something arrives, and once a second for what does not."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.head_bytes = self.body_bytes = 0
        self.unread_bytes = 0  # since the parser could make something of what arrived
        self.parsed = self.begun = self.refused = self.is_spare = False
        self.unsent, self.unsent_since = 0, 0.0
        self.held: list[str] = []
        self.since = self.loop.time()
        self.tick: asyncio.TimerHandle | None = self.loop.call_later(TICK_SECONDS, self.look)
        address = self.client[0] if self.client else ""
        self.is_direct = bool(address) and not is_proxy(address)
        if self.is_direct:
            self.take_place(address)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop()
        super().connection_lost(exc)

    def stop(self) -> None:
        if self.tick is not None:
            self.tick.cancel()
            self.tick = None
        self.leave_places()

    # -- what arrives ----------------------------------------------------------------------------------------------
    def data_received(self, data: bytes) -> None:
        if self.refused:
            return
        self.begun, self.parsed = True, False
        super().data_received(data)
        self.unread_bytes = 0 if self.parsed else self.unread_bytes + len(data)
        if self.unread_bytes > HEAD_BYTES:  # a header, a trailer or a chunk's extension without end
            self.refuse(_head_too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.head_bytes = self.body_bytes = 0

    def on_url(self, url: bytes) -> None:
        if self.fits_head(url):
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.fits_head(name, value):
            super().on_header(name, value)

    def fits_head(self, *parts: bytes) -> bool:
        self.head_bytes += sum(len(part) for part in parts) + 4
        if self.head_bytes > HEAD_BYTES:
            self.refuse(_head_too_large())
        return not self.refused

    def on_headers_complete(self) -> None:
        self.parsed = True
        if self.refused:
            return
        if len(self.pipeline) >= MOST_PIPELINED:
            self.refuse(Busy("Send the next request when the last one was answered."))
            return
        if self.is_spare and self.url.partition(b"?")[0] not in OWN_PATHS:
            self.refuse(_too_many())
            return
        visitor = "" if self.is_direct else forwarded_for(self.headers)
        if visitor and not self.take_place(visitor):
            return
        if self.length_told() > self.most_bytes():
            self.refuse(self.too_large())
            return
        self.since = self.loop.time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.parsed = True
        self.body_bytes += len(body)
        if not self.refused and self.body_bytes > self.most_bytes():
            self.refuse(self.too_large())
        elif not self.refused and self.body_bytes > MAX_BODY:
            self.take_upload_place()
        if not self.refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self.parsed = True
        if not self.refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self.since, self.begun = self.loop.time(), False
        self.leave_places(UPLOAD if self.is_direct else "")  # a proxy's next request may be somebody else's
        super().on_response_complete()

    def length_told(self) -> int:
        told = next((value for name, value in self.headers if name == b"content-length"), b"")
        return int(told[:20]) if told.isdigit() else 0

    def most_bytes(self) -> int:
        takes_uploads = self.url.startswith(b"/admin/") and not self.url.startswith(SIGN_IN)
        return UPLOAD_BYTES if takes_uploads else MAX_BODY

    def too_large(self) -> MoltsError:
        return TooLarge(f"The request is too large: at most {self.most_bytes()} bytes.")

    # -- what does not arrive --------------------------------------------------------------------------------------
    @property
    def is_waiting(self) -> bool:
        cycle = self.cycle
        if self.refused or cycle is None or cycle.response_complete:
            return True
        return cycle.more_body and not cycle.response_started

    def look(self) -> None:
        """Ends what takes too long."""
        self.tick = self.loop.call_later(TICK_SECONDS, self.look)
        now = self.loop.time()
        if self.refused:
            if now - self.since > LINGER_SECONDS:
                self.transport.abort()
        elif self.is_stuck(now):
            logger.info("a reader that takes nothing was dropped")
            self.transport.abort()
        elif self.flow.read_paused:
            self.since += TICK_SECONDS  # we were the slow ones
        elif self.is_waiting and now - self.since > self.seconds_allowed():
            self.give_up(RequestTooSlow("The request did not arrive in time. Send it again."))

    def seconds_allowed(self) -> float:
        if self.cycle is None or self.cycle.response_complete:
            return HEAD_SECONDS
        return BODY_SECONDS + self.body_bytes / BODY_BYTES_A_SECOND

    def is_stuck(self, now: float) -> bool:
        """Whether nothing of an answer was taken for too long."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent < self.unsent or not self.unsent:
            self.unsent_since = now
        self.unsent = unsent
        return now - self.unsent_since > READER_SECONDS

    # -- the end ---------------------------------------------------------------------------------------------------
    def take_place(self, address: str) -> bool:
        place = subscriber(address)
        if not places.take(place, self):
            place = self.spare_place()
            if not place or not places.take(place, self, OWN_PLACES):
                self.refuse(_too_many())
                return False
            self.is_spare = True
        self.held.append(place)
        return True

    def spare_place(self) -> str:
        """For a connection of this machine to itself, "" for others: whoever keeps the server running and finds no
        place would take it for dead, and end what it does for all who hold the places."""
        own = self.is_direct and self.client and self.server and self.client[0] == self.server[0]
        return "this machine" if own else ""

    def take_upload_place(self) -> None:
        """Beside the place of the connection. Of too many, the oldest that is not through gives way."""
        place = UPLOAD + next(iter(self.held), "")
        if place in self.held:
            return
        if places.take(place, self, UPLOADS_AT_ONCE):
            self.held.append(place)
        else:
            self.refuse(_too_many())

    def leave_places(self, kind: str = "") -> None:
        for place in [each for each in self.held if each.startswith(kind)]:
            places.leave(place, self)
            self.held.remove(place)

    def make_room(self) -> None:
        self.leave_places()
        if self.refused:
            self.transport.abort()
        else:
            self.give_up(_too_many())

    def give_up(self, error: MoltsError) -> None:
        """Ends the connection, with a word if somebody was saying something."""
        if self.begun:
            self.refuse(error)
        else:
            self.transport.close()

    def refuse(self, error: MoltsError) -> None:
        """Answers without a view, and ends the connection. What still arrives is thrown away."""
        if self.refused or self.transport.is_closing():
            return
        self.refused = True
        self.since = self.loop.time()
        logger.info("a request was refused: %s", error.code)
        self.pipeline.clear()
        cycle, answering = self.cycle, False
        if cycle is not None and not cycle.response_complete:
            answering = cycle.response_started
            cycle.disconnected = True
            cycle.message_event.set()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if not answering:
            self.transport.write(_refusal(error, getattr(self, "url", b"")))
        self.transport.write_eof()

    def send_400_response(self, msg: str) -> None:
        if not self.refused:
            super().send_400_response(msg)

    def handle_websocket_upgrade(self) -> None:
        if self.refused:
            return
        super().handle_websocket_upgrade()
        socket = self.transport.get_protocol()
        if isinstance(socket, BoundedWebSocket):
            for place in self.held:
                places.hand_over(place, self, socket)
            socket.held, self.held = self.held, []
        self.stop()


def _refusal(error: MoltsError, url: bytes = b"") -> bytes:
    if url.startswith(b"/admin/"):  # read by people
        content_type, text = "text/plain; charset=utf-8", f"{error.detail}\n"
    else:
        content_type, text = "application/json", json.dumps(error_body(error))
    status = HTTPStatus(error.http_status)
    lines = [f"HTTP/1.1 {status} {status.phrase}", f"content-type: {content_type}", f"content-length: {len(text)}"]
    if error.retryable:
        lines.append("retry-after: 5")
    return "\r\n".join([*lines, "connection: close", "", text]).encode()


def _too_many() -> MoltsError:
    return Unavailable("Too many connections from your address. Close some and try again.")


def _head_too_large() -> MoltsError:
    return HeadTooLarge(f"Address and headers are too large: at most {HEAD_BYTES} bytes.")


# -- WebSockets -------------------------------------------------------------------------------------------------------
class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A page sends a ping now and then. Whoever floods it, also with empty frames or pings of the protocol, is cut."""

    held: list[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.held = []
        self.received = 0
        self.opened_at = self.loop.time()

    is_waiting = False  # a page that is open

    def make_room(self) -> None:
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > SOCKET_BYTES + SOCKET_BYTES_A_SECOND * (self.loop.time() - self.opened_at):
            logger.info("a WebSocket that sends too much was closed")
            self.transport.abort()
            return
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.refuse_handshake(self.conn.handshake_exc)

    def refuse_handshake(self, reason: Exception) -> None:
        """What cannot begin a WebSocket: one with a body, or with more headers than the library reads. uvicorn would
        wait for ever for what the library has given up."""
        logger.info("a WebSocket was refused: %s", type(reason).__name__)
        unread = BadInput("A WebSocket begins without a body, with at most 128 headers of at most 8 KiB each.")
        self.transport.write(_refusal(unread))
        self.transport.close()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)  # it takes no goodbye either

    def connection_lost(self, exc: Exception | None) -> None:
        for place in self.held:
            places.leave(place, self)
        super().connection_lost(exc)
