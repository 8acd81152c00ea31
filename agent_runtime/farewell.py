"""What is said in the room by an agent that cannot talk as it is set up, before it leaves."""

from __future__ import annotations

from typing import Any

from livekit.agents import Agent, AgentSession, JobContext
from livekit.agents.voice.room_io import RoomOptions, TextOutputOptions

from agent_runtime.apologies import apologies_for
from agent_runtime.local_voice import say_locally
from agent_runtime.outages import LOST
from agent_runtime.recorder import SessionRecorder
from projects.providers.base import Kind
from sessions.choices import NoticeCode, NoticeLevel
from sessions.spec import SessionSpec

RATE = 24_000


async def say_why_not(
    *, context: JobContext, spec: SessionSpec, recorder: SessionRecorder, kind: Kind, reason: str
) -> None:
    """Return once the visitor has heard it."""
    session: AgentSession[Any] = AgentSession(user_away_timeout=None)
    recorder.attach(session)
    recorder.notice(level=NoticeLevel.ERROR, code=NoticeCode(f"{kind.value}_lost"), text=LOST[kind], reason=reason)
    output = TextOutputOptions(next_in_chain=recorder.text_output())
    options = RoomOptions(audio_input=False, text_input=False, text_output=output, close_on_disconnect=False)
    await session.start(
        Agent(instructions=""), room=context.room, room_options=options, record=False, session_host=False
    )
    await context.wait_for_participant(identity=spec.visitor_identity)
    says = apologies_for(spec.persona.language)
    text = {Kind.STT: says.cannot_hear, Kind.TTS: says.cannot_speak}.get(kind, says.cannot_answer)
    sound = say_locally(text, language=spec.persona.language, rate=RATE)
    await session.say(text, audio=sound, allow_interruptions=False)
