"""A recogniser behind OpenAI's protocol: LiveKit's plugin with a deadline and a client that is closed."""

from __future__ import annotations

import asyncio
from typing import Any

from livekit.agents import APIConnectOptions, APITimeoutError, stt
from livekit.agents.types import NOT_GIVEN, NotGivenOr
from livekit.agents.utils import AudioBuffer
from livekit.plugins.openai import stt as openai_stt


class CompatibleSTT(openai_stt.STT):
    """LiveKit's plugin with a deadline of its own (the plugin waits 30 s) that closes its client."""

    def __init__(self, *, key: str, seconds: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._key = key
        self._seconds = seconds

    @property
    def provider(self) -> str:
        return self._key

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str | list[str]] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        try:
            async with asyncio.timeout(self._seconds):
                return await super()._recognize_impl(buffer, language=language, conn_options=conn_options)
        except TimeoutError:
            text = f"the recogniser did not answer within {self._seconds:g} s"
            raise APITimeoutError(text, retryable=False) from None

    async def aclose(self) -> None:
        await super().aclose()
        await self._client.close()
