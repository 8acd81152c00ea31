"""Groq's service."""

from __future__ import annotations

from typing import ClassVar

from projects.providers.base import Kind
from projects.providers.openai_compatible.provider import OpenAICompatible


class Groq(OpenAICompatible):
    key = "groq"
    label = "Groq"
    needs_key = True
    default_base_url = "https://api.groq.com/openai/v1"
    default_models: ClassVar = {
        Kind.STT: "whisper-large-v3-turbo",
        Kind.LLM: "llama-3.3-70b-versatile",
        Kind.TTS: "canopylabs/orpheus-v1-english",
    }
    default_voice = "autumn"
    voices = ("austin", "autumn", "daniel", "diana", "hannah", "troy")
    default_response_format = "wav"
    max_tokens_name = "max_completion_tokens"
