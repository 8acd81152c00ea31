"""A voice behind OpenAI's protocol: LiveKit's plugin with a request and a deadline of its own."""

from __future__ import annotations

from functools import partial

import openai
from livekit.agents import (
    APIConnectionError,
    APIConnectOptions,
    APIError,
    APIStatusError,
    APITimeoutError,
    tts,
    utils,
)
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS
from livekit.plugins.openai import tts as openai_tts

from projects.providers.openai_compatible.speech import SAMPLE_RATE, SpeechRequest, ask_for_speech
from projects.providers.shared.deadline import sound_within
from projects.providers.shared.probing import describe
from projects.providers.shared.sound import UnusableSound
from projects.providers.shared.sound_reader import SoundReader


class CompatibleTTS(openai_tts.TTS):
    """LiveKit's plugin with a request of our own, which has deadlines for the first sound and each after it (the plugin
    waits 30 s) and plays what the server really sent (the plugin believes what it calls it)."""

    def __init__(self, *, key: str, seconds: float, request: SpeechRequest, client: openai.AsyncClient) -> None:
        super().__init__(model=request.model, voice=request.voice, client=client)
        self._key = key
        self.seconds = seconds
        self.request = request
        self.client = client

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


class _CompatibleSpeech(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        assert isinstance(self._tts, CompatibleTTS)
        try:
            await sound_within(self._tts.seconds, output_emitter, partial(self._speak, self._tts))
        except APIError:
            raise
        except UnusableSound as error:
            raise APIConnectionError(str(error), retryable=False) from None
        except openai.APITimeoutError:
            raise APITimeoutError() from None
        except openai.APIStatusError as error:
            raise APIStatusError(
                error.message, status_code=error.status_code, request_id=error.request_id, body=error.body
            ) from None
        except Exception as error:  # whatever it is, the next rung is asked
            raise APIConnectionError(describe(error)) from error

    async def _speak(self, voice: CompatibleTTS, emitter: tts.AudioEmitter) -> None:
        timeout = self._conn_options.timeout
        async with ask_for_speech(voice.client, voice.request, self._input_text, connect_seconds=timeout) as answer:
            emitter.initialize(
                request_id=answer.request_id or utils.shortuuid("speech_"),
                sample_rate=SAMPLE_RATE,
                num_channels=1,
                mime_type="audio/pcm",
            )
            asked = voice.request.response_format
            reader = SoundReader(emitter, asked=asked, content_type=answer.content_type, rate=SAMPLE_RATE)
            try:
                async for data in answer.sound():
                    reader.push(data)
                await reader.finish()
            finally:
                reader.close()
            if answer.tokens:
                self._set_token_usage(input_tokens=answer.tokens[0], output_tokens=answer.tokens[1])
            emitter.flush()
