"""A language model behind OpenAI's protocol: LiveKit's plugin with our key and a client that is closed."""

from __future__ import annotations

from typing import Any

from livekit.plugins.openai import llm as openai_llm

from projects.providers.shared.livekit_private import watch_deltas

APART = ("reasoning_content", "reasoning", "reasoning_details")
"""Where vendors put thoughts beside an answer's words: DeepSeek, vLLM, SGLang and llama.cpp; Ollama, Groq and newer
vLLM; OpenRouter."""


class CompatibleLLM(openai_llm.LLM):
    """LiveKit's plugin that names its provider by our key, closes its client, and sees thoughts that come apart."""

    def __init__(self, *, key: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._key = key
        self.thinks_apart = False
        """Whether thoughts have come beside the words of the answer that is being sent: then none stand among them."""

    @property
    def provider(self) -> str:
        return self._key

    def chat(self, **options: Any) -> openai_llm.LLMStream:
        self.thinks_apart = False  # a router may ask another server each time
        stream = super().chat(**options)
        watch_deltas(stream, self._note_delta)
        return stream

    def _note_delta(self, delta: Any) -> None:
        self.thinks_apart = self.thinks_apart or any(getattr(delta, name, None) for name in APART)

    async def aclose(self) -> None:
        await super().aclose()
        await self._client.close()
