"""Whose sound a job takes from its room: the visitor's, and that of a hosted face, which must be heard to be believed.

Left to itself a job would take every track there is. What nobody looks at or listens to is decoded all the same; the
picture of its own face made a conversation dearer by a third to a half.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from livekit import rtc
from livekit.agents import AutoSubscribe, JobContext


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

    Returns what is to be called once the room is joined, when it is not joined yet.
    """

    def take(publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == identity and publication.kind == rtc.TrackKind.KIND_AUDIO:
            publication.set_subscribed(True)

    def take_what_is_there(*_: object) -> None:
        for participant in room.remote_participants.values():
            for publication in participant.track_publications.values():
                take(publication, participant)

    room.on("track_published", take)
    room.on("connection_state_changed", take_what_is_there)  # after a connection that was made anew
    take_what_is_there()
    return take_what_is_there
