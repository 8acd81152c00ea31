"""espeak-ng: the voice that is always there.

It runs as a program in a child process, so its licence (GPL-3.0) stays on its own side of a pipe and a crash costs one
sentence. Where the program is missing, the wheel `espeakng-loader` (extra `espeak`) is used, also in a child process.
Samples leave as they are made: the first sound of a long text is there after some 30 ms.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from projects.providers.base import Credentials, Kind, Options, Persona, ProbeResult, Provider, Readiness
from projects.providers.shared.probing import timed_probe

if TYPE_CHECKING:
    from livekit.agents import tts

SAMPLE_RATE = 22050
MEND = "Install the program (Debian: apt install espeak-ng) or the extra: uv sync --extra espeak."
_CHILD = Path(__file__).with_name("espeak_child.py")
_DEFAULT_VOICES = {"en": "en-us"}


class EspeakOptions(Options):
    """Settings of the espeak-ng voice."""

    voice: str = Field(
        "", pattern=r"^[A-Za-z0-9_+-]*$", description="espeak-ng voice such as en-us; empty: by language"
    )
    rate: int = Field(default=165, ge=80, le=400, description="words per minute")
    pitch: int = Field(default=50, ge=0, le=99, description="0 is lowest")


class Espeak(Provider):
    key = "espeak"
    label = "espeak-ng (simple local voice)"
    kinds = frozenset({Kind.TTS})
    options: ClassVar = {Kind.TTS: EspeakOptions}
    local = True

    def build_tts(self, *, options: Options, credentials: Credentials, persona: Persona) -> tts.TTS[Any]:
        from projects.providers.components.espeak import EspeakTTS

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


def espeak_command(*, voice: str, rate: int, pitch: int) -> list[str]:
    """Command that reads text on stdin and writes a WAV stream to stdout; [] when espeak-ng is not on this machine."""
    settings = ["-v", voice, "-s", str(rate), "-p", str(pitch)]
    if program := shutil.which("espeak-ng"):
        return [program, "--stdin", "--stdout", "-b", "1", *settings]
    if importlib.util.find_spec("espeakng_loader"):
        # -I: the folder of the script must not shadow installed packages with provider modules of the same name
        return [sys.executable, "-I", str(_CHILD), *settings]
    return []


def default_voice(language: str) -> str:
    """espeak-ng voice for a language tag: "en" -> "en-us", "pt-BR" -> "pt-br"."""
    tag = language.strip().lower().replace("_", "-") or "en"
    return _DEFAULT_VOICES.get(tag, tag)


def speakable(text: str) -> str:
    """Text without what espeak-ng would read as phoneme commands (`[[...]]`) or as the end of its input (NUL)."""
    return text.replace("[[", "[ [").replace("\0", " ")
