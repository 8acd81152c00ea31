"""Whose sound a job takes from its room: the visitor's, and that of a hosted face, which must be heard to be believed.

Left to itself a job would take every track there is. What nobody looks at or listens to is decoded all the same; the
picture of its own face made a conversation dearer by a third to a half.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from livekit import rtc
from livekit.agents import AutoSubscribe, JobContext

from agent_runtime.livekit_private import is_recorded

logger = logging.getLogger(__name__)

FIRST_SOUND_SECONDS = 3.0
TAKEN_SECONDS = 5.0
GIVEN_UP_SECONDS = 0.5  # for the media server to see that the track is not wanted, else asking anew says nothing new


def take_only_the_sound_of(context: JobContext, identity: str) -> None:
    """However the room of `context` is joined from now on, this participant's sound is all that is subscribed to.

    AgentSession joins by itself, when it is ready for what was said before, and cannot be told how.
    """
    take_what_is_there = take_sound_of(context.room, identity)
    connect = context.connect

    @wraps(connect)
    async def connect_and_take(**options: Any) -> None:
        await connect(**{**options, "auto_subscribe": AutoSubscribe.SUBSCRIBE_NONE})
        take_what_is_there()  # who was there before is told by no event

    context.connect = connect_and_take  # type: ignore[method-assign]


def take_sound_of(room: rtc.Room, identity: str) -> Callable[[], None]:
    """Subscribe to whatever sound this participant publishes, now or later, for as long as the room is open.

    A subscription that brings no track is asked for again: on a busy machine one was seen to get lost, and a job that
    does not notice is deaf for the rest of the conversation. Returns what is to be called once the room is joined,
    when it is not joined yet.
    """
    insisting: dict[str, asyncio.Task[None]] = {}

    def take(publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        if participant.identity != identity or publication.kind != rtc.TrackKind.KIND_AUDIO:
            return
        publication.set_subscribed(True)
        stop_insisting(publication)
        insisting[publication.sid] = asyncio.create_task(_insist(publication), name="subscription")

    def stop_insisting(publication: rtc.RemoteTrackPublication, *_: object) -> None:
        if task := insisting.pop(publication.sid, None):
            task.cancel()

    def stop(*_: object) -> None:
        while insisting:
            insisting.popitem()[1].cancel()

    def take_what_is_there(*_: object) -> None:
        for participant in room.remote_participants.values():
            for publication in participant.track_publications.values():
                take(publication, participant)

    def take_after_reconnecting(state: rtc.ConnectionState.ValueType) -> None:
        if state == rtc.ConnectionState.CONN_CONNECTED:
            take_what_is_there()

    room.on("track_published", take)
    room.on("track_unpublished", stop_insisting)
    room.on("connection_state_changed", take_after_reconnecting)
    room.on("disconnected", stop)
    take_what_is_there()
    return take_what_is_there


async def _insist(publication: rtc.RemoteTrackPublication) -> None:
    """Ask for the track until it is there."""
    while True:
        await asyncio.sleep(TAKEN_SECONDS)
        if publication.track is not None:
            return
        logger.warning("the sound of %s has not come; it is asked for again", publication.sid)
        publication.set_subscribed(False)
        await asyncio.sleep(GIVEN_UP_SECONDS)
        publication.set_subscribed(True)


async def wait_for_sound_of(room: rtc.Room, identity: str, hears: asyncio.Event) -> None:
    """Return once `hears` is set, if what this participant says now would be lost before; else, and after 3 s, at once.

    Between the join and the first sound lie some tenths of a second in which the job is deaf. Who is told before their
    end that the agent listens speaks the first word to nobody. The room page records until it is heard (`early.py`).
    """
    participant = room.remote_participants.get(identity)
    if participant is None or not any(map(_is_open_microphone, participant.track_publications.values())):
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_SOUND_SECONDS):
            await hears.wait()


def _is_open_microphone(publication: rtc.RemoteTrackPublication) -> bool:
    return (
        publication.source == rtc.TrackSource.SOURCE_MICROPHONE
        and not publication.muted
        and not is_recorded(publication)
    )
