"""Supertonic: a natural voice on this machine (ONNX Runtime).

The code is an optional extra (MIT). The weights are fetched once, after their terms (OpenRAIL-M, use restrictions) have
been shown and accepted. A text is spoken sentence by sentence, so the first sound does not wait for the last word.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from molts.errors import BadConfiguration
from projects.providers.base import Credentials, Kind, Options, Persona, ProbeResult, Provider, Readiness, Weights
from projects.providers.shared.probing import LOAD_SECONDS, timed_probe
from projects.providers.supertonic.options import KEY, SupertonicOptions
from projects.providers.supertonic.voice import prewarm
from projects.providers.supertonic.weights import (
    FETCH,
    INSTALL,
    TERMS,
    ask_terms,
    download,
    model_path,
    terms_accepted,
)

if TYPE_CHECKING:
    from livekit.agents import tts


class Supertonic(Provider):
    key = KEY
    label = "Supertonic (natural local voice)"
    kinds = frozenset({Kind.TTS})
    options: ClassVar = {Kind.TTS: SupertonicOptions}
    local = True

    def build_tts(self, *, options: Options, credentials: Credentials, persona: Persona) -> tts.TTS[Any]:
        from projects.providers.supertonic.tts import SupertonicTTS

        assert isinstance(options, SupertonicOptions)
        readiness = self.readiness(Kind.TTS, options)
        if not readiness.ready:
            raise BadConfiguration(f"{readiness.text}. {readiness.fix}")
        return SupertonicTTS(options=options, language=options.language or persona.language)

    def readiness(self, kind: Kind, options: Options) -> Readiness:
        if not importlib.util.find_spec("supertonic"):
            return Readiness(False, "Supertonic is not installed", INSTALL)
        folder = model_path()
        if folder is None:
            return Readiness(False, "The weights of Supertonic are not here", FETCH)
        return Readiness(True, str(folder))

    def prewarm(self) -> None:
        prewarm()

    def missing_weights(self) -> Weights | None:
        if model_path():
            return None
        return Weights("natural voice", download, TERMS, terms_accepted(), ask_terms)

    async def offers(self, kind: Kind, *, credentials: Credentials) -> Mapping[str, Sequence[str]]:
        return {"voice": [f"{letter}{number}" for letter in "FM" for number in range(1, 6)]}

    async def probe(self, kind: Kind, *, options: Options, credentials: Credentials) -> ProbeResult:
        assert isinstance(options, SupertonicOptions)

        async def speak() -> str:
            voice = self.build_tts(options=options, credentials=credentials, persona=Persona())
            frame = await voice.synthesize("Hello.").collect()
            return f"spoke {frame.duration:.1f} s"

        return await timed_probe(speak, timeout=LOAD_SECONDS)
