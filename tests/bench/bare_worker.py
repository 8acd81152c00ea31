"""The peer of the latency benchmark: livekit-agents as its documentation shows it, with the same providers as molts.

Nothing of molts but the providers: no database, no recorder, no heartbeat, no fallback chain, no live events.
Run as a program; LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET and BARE_PERSONA (JSON: question -> answer)
configure it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal

from livekit import rtc
from livekit.agents import Agent, AgentServer, AgentSession, JobContext, JobProcess, JobRequest, inference
from livekit.agents.voice.avatar import DataStreamAudioOutput

from projects.providers import get_provider
from projects.providers.base import Credentials, Kind, Persona
from projects.providers.faster_whisper import model

AGENT_NAME = "bare"
AGENT_IDENTITY = "agent-bare"
VAD_SILENCE_SECONDS = 0.25
MIN_DELAY_SECONDS = 0.2
SPEECH_RATE = 24_000


def prewarm(process: JobProcess) -> None:
    process.userdata["vad"] = inference.VAD(min_silence_duration=VAD_SILENCE_SECONDS)
    model.prewarm()


async def talk(context: JobContext) -> None:
    persona = Persona(language="en", answers=tuple(json.loads(os.environ["BARE_PERSONA"]).items()))

    def build(kind: Kind, key: str) -> object:
        provider = get_provider(key)
        make = {Kind.STT: provider.build_stt, Kind.LLM: provider.build_llm, Kind.TTS: provider.build_tts}[kind]
        return make(options=provider.parse_options(kind, {}), credentials=Credentials(), persona=persona)

    session: AgentSession[None] = AgentSession(
        stt=build(Kind.STT, "faster_whisper"),  # type: ignore[arg-type]
        llm=build(Kind.LLM, "scripted"),  # type: ignore[arg-type]
        tts=build(Kind.TTS, "espeak"),  # type: ignore[arg-type]
        vad=context.proc.userdata["vad"],
        turn_handling={
            "turn_detection": "vad",
            "endpointing": {"min_delay": MIN_DELAY_SECONDS, "max_delay": 2.5},
            "interruption": {"enabled": True, "mode": "vad"},
            "preemptive_generation": {"enabled": True, "preemptive_tts": True},
        },
    )
    if face := context.job.metadata:  # who shows it, if anybody does
        session.output.audio = DataStreamAudioOutput(
            context.room,
            destination_identity=face,
            sample_rate=SPEECH_RATE,
            wait_remote_track=rtc.TrackKind.KIND_VIDEO,
            wait_playback_start=True,
        )
    await session.start(Agent(instructions="You talk with a visitor."), room=context.room, record=False)


async def accept(request: JobRequest) -> None:
    await request.accept(identity=AGENT_IDENTITY, name="agent")


async def main() -> None:
    logging.basicConfig(level=logging.INFO)
    server = AgentServer(
        host="127.0.0.1",
        port=0,
        load_fnc=lambda _: 0.0,
        num_idle_processes=1,
        initialize_process_timeout=60,
        setup_fnc=prewarm,
    )
    server.rtc_session(talk, agent_name=AGENT_NAME, on_request=accept)
    serving = asyncio.create_task(server.run())
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await server.aclose()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


if __name__ == "__main__":
    # By its name in the package: job processes find the entry point there.
    from tests.bench import bare_worker

    asyncio.run(bare_worker.main())
