"""Whose sound a job takes from its room: the visitor's, and that of a hosted face, which must be heard to be believed.

Left to itself a job would take every track there is. What nobody looks at or listens to is decoded all the same; the
picture of its own face made a conversation dearer by a third to a half.
"""

from __future__ import annotations

from functools import partial

from livekit import rtc
from livekit.agents import AutoSubscribe, JobContext


def take_only_what_is_asked_for(context: JobContext) -> None:
    """However the room of `context` is joined from now on, nothing is subscribed to by that alone.

    AgentSession joins by itself, when it is ready for what was said before, and cannot be told how.
    """
    context.connect = partial(  # type: ignore[method-assign]
        context.connect, auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE
    )


def take_sound_of(room: rtc.Room, identity: str) -> None:
    """Subscribe to whatever sound this participant publishes, now or later, for as long as the room is open."""

    def take(publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == identity and publication.kind == rtc.TrackKind.KIND_AUDIO:
            publication.set_subscribed(True)

    def take_what_is_there(*_: object) -> None:
        for participant in room.remote_participants.values():
            for publication in participant.track_publications.values():
                take(publication, participant)

    room.on("track_published", take)
    room.on("connection_state_changed", take_what_is_there)  # who was there before has published silently
    take_what_is_there()
