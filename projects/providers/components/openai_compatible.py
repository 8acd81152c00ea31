"""LiveKit's OpenAI plugin with what it lacks: deadlines of its own, our provider keys, and clients that are closed."""

from __future__ import annotations

import asyncio
from typing import Any

from livekit.agents import APIConnectOptions, APITimeoutError, stt, tts
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.utils import AudioBuffer
from livekit.plugins.openai import llm as openai_llm
from livekit.plugins.openai import stt as openai_stt
from livekit.plugins.openai import tts as openai_tts

from projects.providers.components.deadline import first_audio_within


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


class CompatibleTTS(openai_tts.TTS):
    """LiveKit's plugin with a deadline for the first sound (the plugin waits 30 s) that closes its client."""

    def __init__(self, *, key: str, seconds: float, **settings: Any) -> None:
        super().__init__(**settings)
        self._key = key
        self.seconds = seconds

    @property
    def provider(self) -> str:
        return self._key

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _CompatibleSpeech(tts=self, input_text=text, conn_options=conn_options)

    async def aclose(self) -> None:
        await super().aclose()
        await self._client.close()


class _CompatibleSpeech(openai_tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        assert isinstance(self._tts, CompatibleTTS)
        await first_audio_within(self._tts.seconds, output_emitter, super()._run)
