"""espeak-ng: the voice that is always there.

It runs as a program in a child process, so its licence (GPL-3.0) stays on its own side of a pipe and a crash costs one
sentence. Where the program is missing, the wheel `espeakng-loader` (extra `espeak`) is used, also in a child process.
Samples leave as they are made: the first sound of a long text is there after some 30 ms.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from projects.providers.base import Credentials, Kind, Options, Persona, ProbeResult, Provider, Readiness
from projects.providers.espeak.options import KEY, EspeakOptions
from projects.providers.espeak.program import MEND, espeak_command
from projects.providers.shared.probing import timed_probe

if TYPE_CHECKING:
    from livekit.agents import tts


class Espeak(Provider):
    key = KEY
    label = "espeak-ng (simple local voice)"
    kinds = frozenset({Kind.TTS})
    options: ClassVar = {Kind.TTS: EspeakOptions}
    local = True
    last_resort = True

    def build_tts(self, *, options: Options, credentials: Credentials, persona: Persona) -> tts.TTS[Any]:
        from projects.providers.espeak.tts import EspeakTTS

        assert isinstance(options, EspeakOptions)
        return EspeakTTS(options=options, language=persona.language)

    def readiness(self, kind: Kind, options: Options) -> Readiness:
        command = espeak_command(voice="en", rate=165, pitch=50)
        return Readiness(True, command[0]) if command else Readiness(False, "espeak-ng is not installed", MEND)

    async def offers(self, kind: Kind, *, credentials: Credentials) -> Mapping[str, Sequence[str]]:
        program = shutil.which("espeak-ng")
        if program is None:
            return {}
        listing = await asyncio.create_subprocess_exec(program, "--voices", stdout=subprocess.PIPE)
        try:
            said, _ = await listing.communicate()
        finally:
            if listing.returncode is None:
                listing.kill()
                await listing.wait()
        lines = said.decode(errors="replace").splitlines()[1:]
        return {"voice": [columns[1] for line in lines if len(columns := line.split()) > 1]}

    async def probe(self, kind: Kind, *, options: Options, credentials: Credentials) -> ProbeResult:
        voice = self.build_tts(options=options, credentials=credentials, persona=Persona())

        async def speak() -> str:
            frame = await voice.synthesize("hello").collect()
            return f"spoke {frame.duration:.1f} s"

        return await timed_probe(speak)
