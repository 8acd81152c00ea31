"""A vLLM server."""

from __future__ import annotations

from projects.providers.base import Kind
from projects.providers.openai_compatible.provider import OpenAICompatible


class VLLM(OpenAICompatible):
    key = "vllm"
    label = "vLLM"
    kinds = frozenset({Kind.STT, Kind.LLM})
