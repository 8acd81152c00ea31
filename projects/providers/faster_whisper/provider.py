"""Whisper on this machine (faster-whisper on CTranslate2).

The voice activity detector cuts utterances out. Where MOLTS_SPEECH_URL names a speech server, that hears them live, and
one model serves every conversation; without one, or while it is away, the process of the conversation loads the model
itself, once, however many components use it. The settings are chosen against inventions: no conditioning on earlier
text, and segments that look like silence, guesswork or a loop are dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from projects.providers.base import Credentials, Kind, Options, Persona, ProbeResult, Provider, Readiness, Weights
from projects.providers.faster_whisper import weights
from projects.providers.faster_whisper.model import decode_silence, load_model, prewarm
from projects.providers.faster_whisper.options import KEY, WhisperOptions, default_model, model_key
from projects.providers.faster_whisper.weights import MEND, at_hand, model_path
from projects.providers.shared.probing import LOAD_SECONDS, timed_probe

if TYPE_CHECKING:
    from livekit.agents import stt


class FasterWhisper(Provider):
    key = KEY
    label = "Whisper on this machine (faster-whisper)"
    kinds = frozenset({Kind.STT})
    options: ClassVar = {Kind.STT: WhisperOptions}
    local = True

    def build_stt(self, *, options: Options, credentials: Credentials, persona: Persona) -> stt.STT[Any]:
        from projects.providers.faster_whisper.stt import WhisperSTT

        assert isinstance(options, WhisperOptions)
        return WhisperSTT(options=options, language=options.language or persona.language)

    def readiness(self, kind: Kind, options: Options) -> Readiness:
        assert isinstance(options, WhisperOptions)
        name = options.model or default_model()
        serving = at_hand(name)
        folder = model_path(serving)
        if folder is None:
            return Readiness(False, f"Whisper model {name} is not here", MEND)
        return Readiness(True, str(folder) if serving == name else f"{folder}, until {name} is here")

    def libraries(self) -> Sequence[str]:
        from django.conf import settings

        # The speech server has it, where there is one, and a conversation needs it only while that is away.
        return () if settings.MOLTS_SPEECH_URL else ("faster_whisper",)

    def prewarm(self) -> None:
        prewarm()

    def missing_weights(self) -> Weights | None:
        name = default_model()
        if model_path(name):
            return None
        return Weights(f"recogniser ({name})", lambda progress: weights.download(name, progress))

    def defaults(self, kind: Kind) -> Mapping[str, str]:
        name = default_model()
        return {"model": Path(name).name if Path(name).is_absolute() else name}

    async def probe(self, kind: Kind, *, options: Options, credentials: Credentials) -> ProbeResult:
        """Load the model and run it once over a second of silence (which must give no words)."""
        assert isinstance(options, WhisperOptions)

        async def decode() -> str:
            model = await asyncio.to_thread(load_model, *model_key(options))
            await asyncio.to_thread(decode_silence, model.whisper)
            return f"model loaded from {model.folder}"

        return await timed_probe(decode, timeout=LOAD_SECONDS)
