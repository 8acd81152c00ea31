"""What the visitor said before the agent came: recorded by the page, sent after the agent has joined.

While an agent speaks its first seconds LiveKit keeps the visitor's audio from the recogniser, because echo cancellers
are still learning then. A greeting at once would swallow those words, so it waits until they have been understood.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from livekit import rtc
from livekit.agents import AgentSession

from agent_runtime.livekit_private import is_recorded, taken_recordings
from agent_runtime.recorder import SessionRecorder

ARRIVAL_SECONDS = 3.0  # the recording's way here
VOICE_SECONDS = 0.5  # voice activity detection runs through it many times faster than it was spoken
SENTENCE_SECONDS = 10.0
RECOGNISER_SECONDS = 3.0
_LOOK_AGAIN_SECONDS = 0.02


async def hear_early_words(
    session: AgentSession[Any], visitor: rtc.RemoteParticipant, recorder: SessionRecorder
) -> None:
    """Return once whatever `visitor` said so far is with `recorder`, or can no longer be expected."""
    if _recorded_tracks(visitor):
        await _until(lambda: _is_in(session, visitor), ARRIVAL_SECONDS)
        await _until(lambda: recorder.has_noticed_voice, VOICE_SECONDS)
    if recorder.has_noticed_voice:
        await _until(lambda: session.user_state != "speaking", SENTENCE_SECONDS)
        await _until(lambda: recorder.visitor_has_spoken, RECOGNISER_SECONDS)


def _recorded_tracks(visitor: rtc.RemoteParticipant) -> set[tuple[str, str]]:
    """(identity, track id) of the tracks whose beginning is sent as a recording."""
    return {
        (visitor.identity, publication.sid)
        for publication in visitor.track_publications.values()
        if is_recorded(publication)
    }


def _is_in(session: AgentSession[Any], visitor: rtc.RemoteParticipant) -> bool:
    """Whether the recordings were put before the live audio."""
    return _recorded_tracks(visitor) <= taken_recordings(session.room_io)


async def _until(check: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not check() and time.monotonic() < end:  # noqa: ASYNC110 - LiveKit has no event for it
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
