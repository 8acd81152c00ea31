"""Local Whisper as a LiveKit component."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livekit.agents import APIConnectionError, APIConnectOptions, LanguageCode, stt, utils
from livekit.agents.types import NOT_GIVEN, NotGivenOr
from livekit.agents.utils import AudioBuffer, is_given

from molts.errors import BadConfiguration
from projects.providers.audio import is_silent, mono_16k
from projects.providers.faster_whisper import (
    FasterWhisper,
    LoadedModel,
    WhisperOptions,
    is_credible,
    load_model,
    model_key,
    require_model,
    whisper_language,
)

if TYPE_CHECKING:
    import faster_whisper
    from faster_whisper.transcribe import Segment


class WhisperSTT(stt.STT[Any]):
    """Recognises one utterance at a time, in the model's own thread."""

    def __init__(self, *, options: WhisperOptions, language: str) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._options = options
        self._language = language
        self._model_key = model_key(options)
        self._loaded: LoadedModel | None = None
        require_model(self._model_key[0])

    @property
    def model(self) -> str:
        return Path(self._model_key[0]).name

    @property
    def provider(self) -> str:
        return FasterWhisper.key

    async def _load(self) -> LoadedModel:
        try:
            self._loaded = await asyncio.to_thread(load_model, *self._model_key)
        except BadConfiguration as error:
            raise APIConnectionError(error.detail, retryable=False) from error
        return self._loaded

    def prewarm(self) -> None:
        """Start loading the model in the background; an error shows up at the first recognition."""
        threading.Thread(target=self._load_quietly, name="whisper-load", daemon=True).start()

    def _load_quietly(self) -> None:
        with contextlib.suppress(BadConfiguration):
            load_model(*self._model_key)

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        model = self._loaded or await self._load()
        cancelled = threading.Event()
        wanted = language if is_given(language) else self._language
        loop = asyncio.get_running_loop()
        try:
            heard = await loop.run_in_executor(
                model.executor, _transcribe, model.whisper, buffer, wanted, self._options, cancelled
            )
        except RuntimeError as error:  # CTranslate2 reports everything so, out of memory included
            raise APIConnectionError(f"Whisper failed: {error}") from error
        finally:
            cancelled.set()  # a decode nobody waits for any more stops at its next segment
        return stt.SpeechEvent(
            type=stt.SpeechEventType.FINAL_TRANSCRIPT, request_id=utils.shortuuid("whisper_"), alternatives=[heard]
        )


def _transcribe(
    whisper: faster_whisper.WhisperModel,
    buffer: AudioBuffer,
    language: str,
    options: WhisperOptions,
    cancelled: threading.Event,
) -> stt.SpeechData:
    samples = mono_16k(buffer)
    nothing = stt.SpeechData(language=LanguageCode(language if language != "auto" else ""), text="")
    if cancelled.is_set() or is_silent(samples):
        return nothing
    segments, info = whisper.transcribe(
        samples,
        language=whisper_language(language, whisper.supported_languages),
        beam_size=options.beam_size,
        temperature=0.0,  # a warmer second try is a guess, and costs the visitor another wait
        condition_on_previous_text=False,
        without_timestamps=False,
        initial_prompt=options.initial_prompt or None,
        no_speech_threshold=options.no_speech_threshold,
        log_prob_threshold=options.log_prob_threshold,
        compression_ratio_threshold=options.compression_ratio_threshold,
        vad_filter=False,  # the voice activity detector has cut this piece out already
    )
    kept: list[Segment] = []
    for segment in segments:
        if cancelled.is_set():
            return nothing
        if is_credible(segment, options):
            kept.append(segment)
    if not kept:
        return nothing
    return stt.SpeechData(
        language=LanguageCode(info.language),
        text=" ".join(segment.text.strip() for segment in kept),
        start_time=kept[0].start,
        end_time=kept[-1].end,
        confidence=math.exp(sum(segment.avg_logprob for segment in kept) / len(kept)),
    )
