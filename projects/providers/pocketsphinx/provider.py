"""PocketSphinx: the recogniser that is always there.

Its English model comes with the wheel, so it hears something where no Whisper model can be had. It is far less
accurate, which its label says and the room page shows. It runs in a child process: its decoder holds Python's lock
while it works, and would stop the conversation's event loop.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, ClassVar

from projects.providers.base import Credentials, Kind, Options, Persona, ProbeResult, Provider, Readiness
from projects.providers.pocketsphinx.options import KEY, PocketSphinxOptions
from projects.providers.shared.probing import LOAD_SECONDS, timed_probe

if TYPE_CHECKING:
    from livekit.agents import stt


class PocketSphinx(Provider):
    key = KEY
    label = "PocketSphinx (offline recogniser of low accuracy, English only)"
    kinds = frozenset({Kind.STT})
    options: ClassVar = {Kind.STT: PocketSphinxOptions}
    local = True
    last_resort = True

    def build_stt(self, *, options: Options, credentials: Credentials, persona: Persona) -> stt.STT[Any]:
        from projects.providers.pocketsphinx.stt import PocketSphinxSTT

        return PocketSphinxSTT()

    def readiness(self, kind: Kind, options: Options) -> Readiness:
        if importlib.util.find_spec("pocketsphinx"):
            return Readiness(True, "offline recogniser of low accuracy")
        return Readiness(False, "pocketsphinx is not installed", "Run `make setup`.")

    async def probe(self, kind: Kind, *, options: Options, credentials: Credentials) -> ProbeResult:
        from projects.providers.pocketsphinx.stt import Decoder

        async def start() -> str:
            decoder = Decoder()
            try:
                await decoder.recognise(bytes(16000))  # half a second of silence
            finally:
                await decoder.aclose()
            return "decoder started"

        return await timed_probe(start, timeout=LOAD_SECONDS)
