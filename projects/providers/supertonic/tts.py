"""The Supertonic voice as a LiveKit component."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from livekit.agents import APIConnectionError, APIConnectOptions, tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

from molts.errors import BadConfiguration
from projects.providers.shared.sentences import split_sentences
from projects.providers.supertonic.options import KEY, MODEL, SupertonicOptions
from projects.providers.supertonic.voice import SAMPLE_RATE, load_voice, prewarm, voice_language


class SupertonicTTS(tts.TTS[Any]):
    """Speaks sentence by sentence in the engine's own thread. PCM16 mono, 44.1 kHz."""

    def __init__(self, *, options: SupertonicOptions, language: str) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=SAMPLE_RATE, num_channels=1)
        self.options = options
        self.language = voice_language(language)

    @property
    def model(self) -> str:
        return MODEL

    @property
    def provider(self) -> str:
        return KEY

    def prewarm(self) -> None:
        threading.Thread(target=prewarm, name="supertonic-load", daemon=True).start()

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _SupertonicStream(tts=self, input_text=text, conn_options=conn_options)


class _SupertonicStream(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        assert isinstance(self._tts, SupertonicTTS)
        options, language = self._tts.options, self._tts.language
        output_emitter.initialize(
            request_id=utils.shortuuid("supertonic_"), sample_rate=SAMPLE_RATE, num_channels=1, mime_type="audio/pcm"
        )
        loop = asyncio.get_running_loop()
        try:
            voice = await asyncio.to_thread(load_voice)
            sentences = [text for text in split_sentences(self._input_text) if any(c.isalnum() for c in text)]
            for sentence in sentences:
                output_emitter.push(
                    await loop.run_in_executor(voice.executor, voice.speak, sentence, options, language)
                )
        except (BadConfiguration, RuntimeError, ValueError, OSError) as error:
            raise APIConnectionError(f"Supertonic failed: {error}", retryable=False) from error
        if not sentences:  # nothing to pronounce: a moment of silence, for no audio at all counts as a failure
            output_emitter.push(bytes(SAMPLE_RATE // 20 * 2))
