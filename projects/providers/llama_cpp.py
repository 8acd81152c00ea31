"""A llama.cpp server."""

from __future__ import annotations

from typing import ClassVar

from projects.providers.base import Kind
from projects.providers.openai_compatible.provider import OpenAICompatible


class LlamaCpp(OpenAICompatible):
    key = "llama_cpp"
    label = "llama.cpp server"
    kinds = frozenset({Kind.LLM})
    default_base_url = "http://127.0.0.1:8080/v1"
    default_models: ClassVar = {Kind.LLM: "default"}  # it serves the model it was started with, whatever the name
