"""What may be set of a server behind OpenAI's protocol."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from projects.providers.base import Options


class LLMOptions(Options):
    """Settings of a language model behind OpenAI's protocol."""

    model: str = Field(default="", description="empty: the provider's usual model, where it has one")
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="0 is sober, higher is freer; empty: the model's own"
    )
    max_tokens: int | None = Field(default=None, ge=1, le=100_000, description="longest answer")
    reasoning_effort: Literal["", "none", "minimal", "low", "medium", "high"] = Field(
        default="", description="how long a reasoning model thinks first; empty: its own"
    )
    first_chunk_timeout: float = Field(
        default=20.0, ge=0.5, le=120, description="seconds without a word until it failed"
    )


class STTOptions(Options):
    """Settings of a recogniser behind OpenAI's protocol."""

    model: str = Field(default="", description="empty: the provider's usual model, where it has one")
    language: str = Field(default="", description='language code, "auto" to detect it; empty: the agent\'s language')
    prompt: str = Field(default="", max_length=1000, description="names and terms to expect")
    timeout: float = Field(default=10.0, ge=0.5, le=120, description="seconds until an utterance counts as failed")


class TTSOptions(Options):
    """Settings of a voice behind OpenAI's protocol."""

    model: str = Field(default="", description="empty: the provider's usual model, where it has one")
    voice: str = Field(default="", description="empty: the provider's usual voice")
    speed: float = Field(default=1.0, ge=0.25, le=4, description="1 is the voice's own pace")
    instructions: str = Field(default="", max_length=1000, description="how to speak, where the model takes it")
    response_format: Literal["", "mp3", "opus", "aac", "flac", "wav", "pcm"] = Field(
        default="", description="form of the sound; empty: what the provider does best; pcm must be 24 kHz"
    )
    first_audio_timeout: float = Field(
        default=4.0, ge=0.5, le=60, description="seconds without a sound until it failed"
    )
