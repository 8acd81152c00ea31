"""Rooms of the media server: open, look into, close. The only door to LiveKit's server API.

Agents are always dispatched through the API: a dispatch in a room's configuration is ignored when the room exists
already.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
from django.conf import settings
from livekit import api
from livekit.protocol.rtc import SignalResponse

from molts.errors import Unavailable

CALL_TIMEOUT = aiohttp.ClientTimeout(total=5)
EMPTY_TIMEOUT = 180  # seconds an opened room waits for the first participant
DEPARTURE_TIMEOUT = 60  # seconds it waits for somebody to come back
CHECK_SECONDS = 90  # how long a room of the visitors' check is left alone
CHECK_EMPTY_TIMEOUT = 20
CHECK_ANSWER_SECONDS = 5


@dataclass(frozen=True)
class RoomParticipant:
    """`on_behalf_of` is the agent whose face this participant is, if any."""

    identity: str
    is_agent: bool
    is_active: bool
    on_behalf_of: str = ""
    is_standard: bool = True


@dataclass(frozen=True)
class Candidate:
    """One way to the media server that visitors are told of."""

    protocol: str
    address: str
    port: int


@dataclass(frozen=True)
class Offer:
    """What the media server tells a visitor who enters: where to send voice, and which relays may help."""

    candidates: tuple[Candidate, ...]
    relays: tuple[str, ...]


def room_prefix() -> str:
    """What the names of this installation's rooms begin with. The dot is in no MOLTS_INSTANCE, so that `molts` does not
    take the rooms of `molts-2` for its own."""
    return f"{settings.MOLTS_INSTANCE}."


def new_room_name() -> str:
    """128 random bits: nobody guesses a room."""
    return room_prefix() + secrets.token_urlsafe(16)


def new_check_room_name() -> str:
    """A room without a conversation, for a visitor's check. Its name says until when it may be open."""
    until = int(time.time()) + CHECK_SECONDS
    return f"{room_prefix()}check.{until}.{secrets.token_urlsafe(12)}"


def is_running_check(room_name: str) -> bool:
    """Whether this is a room of a visitor's check that may still be open. No conversation's name has a second dot."""
    kind, _, rest = room_name.removeprefix(room_prefix()).partition(".")
    until = rest.partition(".")[0]
    return kind == "check" and until.isascii() and until.isdigit() and int(until) > time.time()


@asynccontextmanager
async def _server() -> AsyncIterator[api.LiveKitAPI]:
    """Raises Unavailable for whatever keeps the media server from answering."""
    client = api.LiveKitAPI(
        settings.LIVEKIT_URL, settings.LIVEKIT_API_KEY, settings.LIVEKIT_API_SECRET, timeout=CALL_TIMEOUT
    )
    try:
        yield client
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable("The media server is out of reach.") from error
    except api.TwirpError as error:
        raise Unavailable(f"The media server refused: {error.message}.") from error
    finally:
        await client.aclose()


async def open_room(room_name: str) -> None:
    """Create the room; an existing one is left as it is."""
    async with _server() as server:
        await server.room.create_room(
            api.CreateRoomRequest(
                name=room_name, empty_timeout=EMPTY_TIMEOUT, departure_timeout=DEPARTURE_TIMEOUT, max_participants=8
            )
        )


async def open_check_room(room_name: str) -> None:
    """Create a room of the visitors' check; it closes itself soon after the visitor left."""
    async with _server() as server, asyncio.timeout(CHECK_ANSWER_SECONDS):  # the client's own limit is for each try
        await server.room.create_room(
            api.CreateRoomRequest(
                name=room_name,
                empty_timeout=CHECK_EMPTY_TIMEOUT,
                departure_timeout=CHECK_EMPTY_TIMEOUT,
                max_participants=2,
            )
        )


async def dispatch_agent(room_name: str, *, metadata: str) -> str:
    """Ask for an agent in the room; returns the dispatch id. Earlier dispatches of the room are withdrawn."""
    return await _dispatch(settings.MOLTS_AGENT_NAME, room_name, metadata)


async def dispatch_avatar(room_name: str, *, metadata: str) -> str:
    """Ask for an avatar in the room; returns the dispatch id. Earlier ones are withdrawn, and with them their jobs."""
    return await _dispatch(settings.MOLTS_AVATAR_NAME, room_name, metadata)


async def withdraw_avatars(room_name: str) -> None:
    """Call back every avatar that was asked for in the room: their jobs end, also one that does not answer any more."""
    async with _server() as server:
        if await _exists(server, room_name):
            await _withdraw(server, room_name, settings.MOLTS_AVATAR_NAME)


async def _withdraw(server: api.LiveKitAPI, room_name: str, worker_name: str = "") -> None:
    """Call back whoever was asked for in the room, or only those of one kind of worker. For a room that is gone the
    media server takes three seconds to answer."""
    for old in await _dispatches(server, room_name):
        if worker_name in ("", old.agent_name):
            await _ignore_missing(server.agent_dispatch.delete_dispatch(old.id, room_name))


async def _dispatch(worker_name: str, room_name: str, metadata: str) -> str:
    async with _server() as server:
        await _withdraw(server, room_name, worker_name)
        dispatch = await server.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(agent_name=worker_name, room=room_name, metadata=metadata)
        )
        return dispatch.id


async def list_participants(room_name: str) -> list[RoomParticipant] | None:
    """Who is in the room; None when there is no such room."""
    async with _server() as server:
        try:
            answer = await server.room.list_participants(api.ListParticipantsRequest(room=room_name))
        except api.TwirpError as error:
            if error.status == 404:
                return None
            raise
        if not answer.participants and not await _exists(server, room_name):
            return None
    return [
        RoomParticipant(
            identity=participant.identity,
            is_agent=participant.kind == api.ParticipantInfo.Kind.AGENT,
            is_active=participant.state == api.ParticipantInfo.State.ACTIVE,
            on_behalf_of=participant.attributes.get("lk.publish_on_behalf", ""),
            is_standard=participant.kind == api.ParticipantInfo.Kind.STANDARD,
        )
        for participant in answer.participants
    ]


async def list_room_names(prefix: str) -> list[str]:
    """Names of the open rooms that begin with `prefix`."""
    async with _server() as server:
        answer = await server.room.list_rooms(api.ListRoomsRequest())
    return [room.name for room in answer.rooms if room.name.startswith(prefix)]


async def close_room(room_name: str) -> None:
    """End the room for everyone in it. A room that is gone already is fine.

    Agents and faces are called back first: the media server counts a job whose participant just leaves, be it because
    the room was closed, as failed.
    """
    async with _server() as server:
        if not await _exists(server, room_name):
            return
        with suppress(api.TwirpError):  # whatever is wrong with that, the room is to be closed
            await _withdraw(server, room_name)
        await _ignore_missing(server.room.delete_room(api.DeleteRoomRequest(room=room_name)))


async def remove_participant(room_name: str, identity: str) -> None:
    """Put one participant out of the room."""
    async with _server() as server:
        await _ignore_missing(
            server.room.remove_participant(api.RoomParticipantIdentity(room=room_name, identity=identity))
        )


async def ask_offer(token: str, *, seconds: float = 2.0) -> Offer:
    """Enter the room of `token` far enough to learn what visitors are told. Raises Unavailable."""
    url = f"{settings.LIVEKIT_URL}/rtc"
    relays: list[str] = []
    candidates: list[Candidate | None] = []
    try:
        async with (
            aiohttp.ClientSession(timeout=CALL_TIMEOUT) as client,
            client.ws_connect(url, params={"access_token": token, "protocol": "15", "auto_subscribe": "1"}) as socket,
        ):
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    async for message in socket:
                        if message.type != aiohttp.WSMsgType.BINARY:
                            break
                        said = SignalResponse.FromString(message.data)
                        relays += [url for server in said.join.ice_servers for url in server.urls]
                        if said.HasField("trickle"):
                            candidates.append(_candidate(said.trickle.candidateInit))
                            if said.trickle.final:
                                break
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable("The media server lets nobody in.") from error
    turns = (url for url in relays if url.startswith(("turn:", "turns:")))
    return Offer(tuple(each for each in candidates if each), tuple(dict.fromkeys(turns)))


def _candidate(text: str) -> Candidate | None:
    words = str(json.loads(text)["candidate"]).split()
    return Candidate(words[2].lower(), words[4], int(words[5])) if len(words) > 5 else None


async def _exists(server: api.LiveKitAPI, room_name: str) -> bool:
    answer = await server.room.list_rooms(api.ListRoomsRequest(names=[room_name]))
    return len(answer.rooms) > 0


async def _dispatches(server: api.LiveKitAPI, room_name: str) -> list[api.AgentDispatch]:
    try:
        return await server.agent_dispatch.list_dispatch(room_name)
    except api.TwirpError as error:
        if error.status == 404:
            return []
        raise


async def _ignore_missing(call: object) -> None:
    try:
        await call  # type: ignore[misc]
    except api.TwirpError as error:
        if error.status != 404:
            raise
