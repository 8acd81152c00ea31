"""The engine protocol, version 1: what travels between molts and an engine host. docs/engines.md explains it.

A connection (a unix socket or TCP) serves one face in one conversation, or one question about health. Every message is
an 8-byte header (magic, kind, length of the payload) and the payload; numbers are big-endian, samples and pixels as
described. Both sides import this one file, so they cannot differ. Standard library only, Python 3.8.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from enum import IntEnum
from typing import Any

VERSION = 1
MAGIC = b"mE"
HEADER = struct.Struct(">2sBxI")
NUMBER = struct.Struct(">I")
FRAME = struct.Struct(">IIHxx")
"""Epoch, index in its utterance, slot of the shared memory; the pixels follow where the slot is IN_BAND."""
IN_BAND = 0xFFFF

SAMPLE_RATE = 16_000
CONNECT_SECONDS = 3.0
PING_SECONDS = 2.0
SILENCE_SECONDS = 6.0
"""A side that has sent nothing for so long is dead: the client pings every PING_SECONDS, the host answers."""
LARGEST_SIDE = 4096


class MessageKind(IntEnum):
    """c: sent by the client (molts), h: by the host."""

    HELLO = 1  # both, first: JSON {protocol, ...}
    OPEN = 2  # c: length of JSON, JSON {face, video, shared_memory}, the portrait's bytes
    OPENED = 3  # h: JSON, see Opened in docs/engines.md
    AUDIO = 4  # c: epoch, then mono PCM (int16, little-endian, 16 kHz)
    FLUSH = 5  # c: epoch; the utterance is complete
    CLEAR = 6  # c: the new epoch; everything before is dropped
    CREDIT = 7  # c: that many more frames may be sent
    FRAME = 8  # h: FRAME, then pixels
    END = 9  # h: epoch; all frames of the utterance were sent
    HEALTH = 10  # c: empty; h: JSON {ready, text, slots, used, ...}
    ERROR = 11  # h: JSON {code, text}; the connection ends
    PING = 12  # c
    PONG = 13  # h
    CLOSE = 14  # c
    IDLE = 15  # h: FRAME (index in the idle loop), then pixels; between OPENED and the first FRAME


MOST = {
    MessageKind.HELLO: 4096,
    MessageKind.OPEN: 48 * 1024 * 1024,
    MessageKind.OPENED: 65_536,
    MessageKind.AUDIO: NUMBER.size + 2 * SAMPLE_RATE,
    MessageKind.FLUSH: NUMBER.size,
    MessageKind.CLEAR: NUMBER.size,
    MessageKind.CREDIT: NUMBER.size,
    MessageKind.FRAME: FRAME.size + 3 * LARGEST_SIDE * LARGEST_SIDE,
    MessageKind.END: NUMBER.size,
    MessageKind.HEALTH: 65_536,
    MessageKind.ERROR: 65_536,
    MessageKind.PING: 0,
    MessageKind.PONG: 0,
    MessageKind.CLOSE: 0,
    MessageKind.IDLE: FRAME.size + 3 * LARGEST_SIDE * LARGEST_SIDE,
}
"""Bytes of payload; a longer message is refused before it is read."""


class EngineProtocolError(Exception):
    """The other side does not speak this protocol, or not this version of it."""


def pack(kind: MessageKind, payload: bytes = b"") -> bytes:
    return HEADER.pack(MAGIC, kind, len(payload)) + payload


def pack_json(kind: MessageKind, value: dict[str, Any]) -> bytes:
    return pack(kind, json.dumps(value).encode())


def pack_number(kind: MessageKind, number: int, rest: bytes = b"") -> bytes:
    return pack(kind, NUMBER.pack(number) + rest)


def pack_open(request: dict[str, Any], portrait: bytes) -> bytes:
    text = json.dumps(request).encode()
    return pack(MessageKind.OPEN, NUMBER.pack(len(text)) + text + portrait)


def unpack_json(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError as error:
        raise EngineProtocolError("a message is not JSON") from error
    if not isinstance(value, dict):
        raise EngineProtocolError("a message is not a JSON object")
    return value


def unpack_number(payload: bytes) -> int:
    if len(payload) < NUMBER.size:
        raise EngineProtocolError("a message is too short")
    number: int = NUMBER.unpack_from(payload)[0]
    return number


def unpack_open(payload: bytes) -> tuple[dict[str, Any], bytes]:
    end = NUMBER.size + unpack_number(payload)
    if end > len(payload):
        raise EngineProtocolError("a message is too short")
    return unpack_json(payload[NUMBER.size : end]), payload[end:]


def read_header(header: bytes) -> tuple[MessageKind, int]:
    """Kind and length of the payload that follows. Raises ProtocolError."""
    magic, number, length = HEADER.unpack(header)
    if magic != MAGIC:
        raise EngineProtocolError("this is not the engine protocol")
    try:
        kind = MessageKind(number)
    except ValueError:
        raise EngineProtocolError(f"unknown message {number}") from None
    if length > MOST[kind]:
        raise EngineProtocolError(f"{kind.name} of {length} bytes is too long")
    return kind, length


async def read(reader: asyncio.StreamReader) -> tuple[MessageKind, bytes]:
    """The next message. Raises ProtocolError, or EOFError where the other side is gone."""
    try:
        kind, length = read_header(await reader.readexactly(HEADER.size))
        return kind, await reader.readexactly(length) if length else b""
    except asyncio.IncompleteReadError as error:
        raise EOFError("the connection ended") from error
    except OSError as error:
        raise EOFError(str(error)) from error


def hello(**more: Any) -> bytes:
    return pack_json(MessageKind.HELLO, dict(more, protocol=VERSION))


def check_hello(payload: bytes) -> dict[str, Any]:
    """The other side's greeting. Raises ProtocolError when it speaks another version."""
    greeting = unpack_json(payload)
    if greeting.get("protocol") != VERSION:
        raise EngineProtocolError(
            f"it speaks protocol {greeting.get('protocol')!r}, this is {VERSION}: update the older side"
        )
    return greeting


# -- Addresses ---------------------------------------------------------------------------------------------------------
def parse_address(address: str) -> str | tuple[str, int]:
    """`unix:/path` is a path, `host:port` a pair. Raises ValueError that says what an address looks like."""
    if address.startswith("unix:"):
        path = address[5:]
        if path.startswith("//"):
            path = path[2:]
        if path.startswith("/"):
            return path
    else:
        host, _, port = address.rpartition(":")
        if host and port.isdigit() and 0 < int(port) < 65_536:
            return host.strip("[]"), int(port)
    raise ValueError(f"{address!r} is no address: expected unix:/path/to/socket or host:port")


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises OSError; waits CONNECT_SECONDS at most."""
    place = parse_address(address)
    if isinstance(place, str):
        opening = asyncio.open_unix_connection(place)
    else:
        opening = asyncio.open_connection(place[0], place[1])
    try:
        return await asyncio.wait_for(opening, CONNECT_SECONDS)
    except asyncio.TimeoutError as error:
        raise OSError(f"no answer within {CONNECT_SECONDS:.0f} s") from error


def ask_health(address: str, *, secret: str = "", seconds: float = 1.0) -> dict[str, Any]:
    """What the host at `address` says about itself. Blocking, for threads and commands.

    Raises OSError when nobody answers in time, ProtocolError when somebody else does.
    """
    deadline = time.monotonic() + seconds
    place = parse_address(address)
    if isinstance(place, str):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(seconds)
    else:
        connection = socket.create_connection(place, seconds)
    with connection:
        if isinstance(place, str):
            connection.connect(place)
        connection.sendall(hello(secret=secret) + pack(MessageKind.HEALTH))
        while True:
            kind, length = read_header(_receive(connection, HEADER.size, deadline))
            payload = _receive(connection, length, deadline)
            if kind is MessageKind.HELLO:
                check_hello(payload)
            elif kind is MessageKind.HEALTH:
                return unpack_json(payload)
            elif kind is MessageKind.ERROR:
                raise EngineProtocolError(str(unpack_json(payload).get("text", "refused")))
            else:
                raise EngineProtocolError(f"{kind.name} where health was asked for")


def _receive(connection: socket.socket, length: int, deadline: float) -> bytes:
    data = b""
    while len(data) < length:
        left = deadline - time.monotonic()
        if left <= 0:
            raise OSError("no answer in time")
        connection.settimeout(left)
        part = connection.recv(length - len(data))
        if not part:
            raise OSError("the connection ended")
        data += part
    return data
