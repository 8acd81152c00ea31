"""The speech server with micro-whisper and small limits, as a process of its own: `python -m ...micro_server PORT`."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import django

from agent_runtime.speech.engine import Engine
from agent_runtime.speech.http_api import UploadLimits
from agent_runtime.speech.places import ListeningPlaces
from agent_runtime.speech.server import SpeechServer
from agent_runtime.speech.stream import DecodingPace

MICRO_WHISPER = Path(__file__).parents[2] / "fixtures" / "micro-whisper"
SECRET = "open-sesame"
LIMITS = UploadLimits(max_bytes=200_000_000, max_seconds=3600)


async def serve(port: int) -> None:
    engine = Engine(device="cpu", compute_type="int8", threads=1)
    server = SpeechServer(engine=engine, model=str(MICRO_WHISPER), pace=DecodingPace(), secret=SECRET, limits=LIMITS)
    await server.run(ListeningPlaces(addresses=(("127.0.0.1", port),)))


if __name__ == "__main__":
    django.setup()
    logging.getLogger("faster_whisper").setLevel(logging.WARNING)
    asyncio.run(serve(int(sys.argv[1])))
