"""A language model behind OpenAI's protocol: LiveKit's plugin with our key and a client that is closed."""

from __future__ import annotations

from typing import Any

from livekit.plugins.openai import llm as openai_llm


class CompatibleLLM(openai_llm.LLM):
    """LiveKit's plugin that names its provider by our key and closes its client."""

    def __init__(self, *, key: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._key = key

    @property
    def provider(self) -> str:
        return self._key

    async def aclose(self) -> None:
        await super().aclose()
        await self._client.close()
