"""A conversation that the installation holds with itself, to know that it can hold one with a visitor.

Dispatch accepted, agent joined, the audio of its greeting received by a listener who joined as a visitor would.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass

import numpy as np
from asgiref.sync import async_to_sync
from django.conf import settings
from livekit import rtc

from avatars.models import Agent
from molts.errors import Unavailable
from sessions.choices import EndReason, SessionSource
from sessions.models import LiveSession
from sessions.services import end_session, start_session
from sessions.tokens import visitor_token

AUDIBLE_RMS = 200  # of 32768: far above silence, far below speech
AUDIBLE_SECONDS = 0.3  # how much of it counts as a voice, not a click


@dataclass(frozen=True)
class SelfCheck:
    """Seconds from the request until each thing was seen."""

    session_id: uuid.UUID
    agent_name: str
    joined: float
    heard: float


def check_conversation(*, seconds: float = 20.0) -> SelfCheck:
    """Hold a short conversation with an agent that needs no account.

    Raises Unavailable, saying how far it came, when the greeting is not heard within `seconds`.
    """
    agent = choose_agent()
    if agent is None:
        raise Unavailable("There is no agent with a greeting to talk with. Run `manage.py seed_demo`, or make one.")
    begun = time.monotonic()
    session = start_session(agent=agent, source=SessionSource.CHECK, visitor_name="self check")
    try:
        joined, heard = async_to_sync(_listen)(session, seconds, begun)
    finally:
        end_session(session_id=session.pk, reason=EndReason.ENDED_BY_API)
        LiveSession.objects.filter(pk=session.pk).delete()
    return SelfCheck(session.pk, agent.name, joined, heard)


def choose_agent() -> Agent | None:
    """An agent that greets, preferring one whose voice costs nothing to hear."""
    greeting = Agent.objects.exclude(greeting="")
    return (
        greeting.filter(voice__provider_key=None, pipeline_steps__provider_key=None).order_by("created_at").first()
        or greeting.order_by("created_at").first()
    )


async def _listen(session: LiveSession, seconds: float, begun: float) -> tuple[float, float]:
    room = rtc.Room()
    tracks: asyncio.Queue[rtc.Track | None] = asyncio.Queue()
    room.on("track_subscribed", lambda track, *_: tracks.put_nowait(track))
    room.on("disconnected", lambda *_: tracks.put_nowait(None))
    token = visitor_token(room_name=session.room_name, identity=session.visitor_identity, name="self check")
    step = "The media server did not let a listener in"
    try:
        async with asyncio.timeout(seconds):
            await room.connect(settings.LIVEKIT_URL, token, rtc.RoomOptions(auto_subscribe=True))
            step = "No agent joined"
            track = await _first_audio_track(tracks)
            joined = time.monotonic() - begun
            step = "The agent joined but its greeting was not heard"
            await _wait_for_voice(track)
            return joined, time.monotonic() - begun
    except (TimeoutError, rtc.ConnectError) as error:
        raise Unavailable(f"{step} within {seconds:.0f} s.") from error
    finally:
        await room.disconnect()


async def _first_audio_track(tracks: asyncio.Queue[rtc.Track | None]) -> rtc.Track:
    while (track := await tracks.get()) is not None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            return track
    raise Unavailable("The agent ended the conversation at once. Its log says why.")


async def _wait_for_voice(track: rtc.Track) -> None:
    stream = rtc.AudioStream(track, sample_rate=16000, num_channels=1)
    heard = 0.0
    try:
        async for event in stream:
            samples = np.frombuffer(event.frame.data, dtype=np.int16).astype(np.float32)
            if samples.size and float(np.sqrt(np.mean(samples**2))) > AUDIBLE_RMS:
                heard += samples.size / 16000
            if heard >= AUDIBLE_SECONDS:
                return
    finally:
        await stream.aclose()
