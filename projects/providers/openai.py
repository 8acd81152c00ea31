"""OpenAI's own service."""

from __future__ import annotations

from typing import ClassVar

from projects.providers.base import Kind
from projects.providers.openai_compatible.provider import OpenAICompatible


class OpenAI(OpenAICompatible):
    key = "openai"
    label = "OpenAI"
    needs_key = True
    default_base_url = "https://api.openai.com/v1"
    default_models: ClassVar = {
        Kind.STT: "gpt-4o-mini-transcribe",
        Kind.LLM: "gpt-4.1-mini",
        Kind.TTS: "gpt-4o-mini-tts",
    }
    default_voice = "ash"
    voices = (
        *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer"),
        "verse",
    )
    default_response_format = "pcm"  # 24 kHz by its documentation; the first sound comes soonest so
    max_tokens_name = "max_completion_tokens"
    strict_tools = True
