"""A speaches server."""

from __future__ import annotations

from typing import ClassVar

from projects.providers.base import Kind
from projects.providers.openai_compatible.provider import OpenAICompatible


class Speaches(OpenAICompatible):
    key = "speaches"
    label = "speaches"
    kinds = frozenset({Kind.STT, Kind.TTS})
    default_models: ClassVar = {
        Kind.STT: "Systran/faster-distil-whisper-small.en",
        Kind.TTS: "speaches-ai/Kokoro-82M-v1.0-ONNX",
    }
    default_voice = "af_heart"
