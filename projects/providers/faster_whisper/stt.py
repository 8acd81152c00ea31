"""Local Whisper as a LiveKit component."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from livekit.agents import APIConnectionError, APIConnectOptions, LanguageCode, stt, utils
from livekit.agents.types import NOT_GIVEN, NotGivenOr, TimedString
from livekit.agents.utils import AudioBuffer, is_given

from molts.errors import BadConfiguration
from projects.providers.faster_whisper.credibility import is_credible
from projects.providers.faster_whisper.languages import plain_language, whisper_language
from projects.providers.faster_whisper.link import (
    HURRIED_BUSY_SECONDS,
    SentUtterance,
    SpeechLink,
    SpeechRefused,
    SpeechServerAway,
)
from projects.providers.faster_whisper.model import LoadedModel, load_model, prompt_tokens
from projects.providers.faster_whisper.options import KEY, WhisperOptions, model_key, uses_server
from projects.providers.faster_whisper.protocol import Final, Open, Partial, is_elsewhere
from projects.providers.faster_whisper.weights import at_hand, model_path, require_model
from projects.providers.shared.audio import is_silent, mono_16k

if TYPE_CHECKING:
    import faster_whisper
    from faster_whisper.transcribe import Segment


class WhisperSTT(stt.STT[Any]):
    """Recognises one utterance at a time: at the speech server, live, or in this process, in the model's thread."""

    def __init__(self, *, options: WhisperOptions, language: str) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._options = options
        self._language = language
        key = model_key(options)
        self._model_key = (at_hand(key[0]), *key[1:])
        self._loaded: LoadedModel | None = None
        self._link = _link(options, language, on_away=self._load_in_background)
        self._claimed: tuple[AudioBuffer, SentUtterance] | None = None
        if self._link is None or not is_elsewhere(settings.MOLTS_SPEECH_URL):
            require_model(self._model_key[0])

    @property
    def model(self) -> str:
        return (self._link.model if self._link else "") or Path(self._model_key[0]).name

    @property
    def provider(self) -> str:
        return KEY

    def prewarm(self) -> None:
        """Connect, or start loading the model in the background; an error shows up at the first recognition."""
        if self._link is not None:
            self._link.connect()
        else:
            self._load_in_background()

    def hurry(self) -> None:
        """Another recogniser hears what this one has no time for: let it have the words soon."""
        if self._link is not None:
            self._link.busy_seconds = HURRIED_BUSY_SECONDS

    async def aclose(self) -> None:
        if self._link is not None:
            await self._link.aclose()

    # -- live ----------------------------------------------------------------------------------------------------------
    def begin(self, *, silence: float, on_interim: Callable[[stt.SpeechData], None]) -> SentUtterance | None:
        """Hear an utterance while it is spoken; None when only whole ones can be recognised now."""
        if self._link is None or self._link.is_away:
            return None
        return self._link.begin(silence=silence, on_partial=lambda partial: on_interim(_interim(partial)))

    def claim(self, hearing: SentUtterance, buffer: AudioBuffer) -> None:
        """`hearing` has heard what `recognize(buffer)` will be about."""
        self._claimed = (buffer, hearing)

    # -- whole utterances ----------------------------------------------------------------------------------------------
    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        if self._link is not None:
            try:
                heard = _speech_data(await self._link.hear(self._utterance(self._link, buffer)), self._language)
            except (SpeechRefused, SpeechServerAway) as error:
                # Where the server has too much to do already, a second model on the machine would make it worse.
                too_busy = isinstance(error, SpeechRefused) and error.code == "busy"
                if too_busy or model_path(self._model_key[0]) is None:
                    raise APIConnectionError(f"No words of the speech server: {error}", retryable=False) from error
                heard = await self._recognize_here(buffer, language)
        else:
            heard = await self._recognize_here(buffer, language)
        return stt.SpeechEvent(
            type=stt.SpeechEventType.FINAL_TRANSCRIPT, request_id=utils.shortuuid("whisper_"), alternatives=[heard]
        )

    def _utterance(self, link: SpeechLink, buffer: AudioBuffer) -> SentUtterance:
        """What has heard `buffer` live, or a new one that is given all of it at once."""
        claimed, self._claimed = self._claimed, None
        if claimed is not None and claimed[0] is buffer:
            return claimed[1]
        utterance = link.begin()
        for frame in buffer if isinstance(buffer, list) else [buffer]:
            utterance.push(frame)
        return utterance

    async def _recognize_here(self, buffer: AudioBuffer, language: NotGivenOr[str]) -> stt.SpeechData:
        model = self._loaded or await self._load()
        cancelled = threading.Event()
        wanted = language if is_given(language) else self._language
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                model.executor, _transcribe, model.whisper, buffer, wanted, self._options, cancelled
            )
        except RuntimeError as error:  # CTranslate2 reports everything so, out of memory included
            raise APIConnectionError(f"Whisper failed: {error}") from error
        finally:
            cancelled.set()  # a decode nobody waits for any more stops at its next segment

    async def _load(self) -> LoadedModel:
        try:
            self._loaded = await asyncio.to_thread(load_model, *self._model_key)
        except BadConfiguration as error:
            raise APIConnectionError(error.detail, retryable=False) from error
        return self._loaded

    def _load_in_background(self) -> None:
        """While the speech server is away too: the next utterance shall not wait for the model."""
        if model_path(self._model_key[0]) is not None:
            threading.Thread(target=self._load_quietly, name="whisper-load", daemon=True).start()

    def _load_quietly(self) -> None:
        with contextlib.suppress(BadConfiguration):
            load_model(*self._model_key)


def _link(options: WhisperOptions, language: str, *, on_away: Callable[[], None]) -> SpeechLink | None:
    """A link to the speech server, where there is one that can do what the options ask for."""
    if not uses_server(options):
        return None
    opening = Open(
        model=options.model,
        language=plain_language(language),
        prompt=options.initial_prompt,
        hotwords=options.hotwords,
        beam_size=options.beam_size,
        no_speech_threshold=options.no_speech_threshold,
        log_prob_threshold=options.log_prob_threshold,
        compression_ratio_threshold=options.compression_ratio_threshold,
    )
    return SpeechLink(
        url=settings.MOLTS_SPEECH_URL, secret=settings.MOLTS_SPEECH_SECRET, opening=opening, on_away=on_away
    )


def _interim(partial: Partial) -> stt.SpeechData:
    return stt.SpeechData(language=LanguageCode(partial.language), text=partial.text)


def _speech_data(final: Final, language: str) -> stt.SpeechData:
    return stt.SpeechData(
        language=LanguageCode(final.language or (language if language != "auto" else "")),
        text=final.text,
        start_time=final.start,
        end_time=final.end,
        confidence=final.confidence,
        words=[
            TimedString(word.text.strip(), start_time=word.start, end_time=word.end, confidence=word.probability)
            for word in final.words
        ],
        metadata={"revised": final.revised},
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
        initial_prompt=prompt_tokens(whisper, options.initial_prompt, options.hotwords) or None,
        hotwords=options.hotwords or None,
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
        text="".join(segment.text for segment in kept).strip(),  # with a space before it where its script writes one
        start_time=kept[0].start,
        end_time=kept[-1].end,
        confidence=math.exp(sum(segment.avg_logprob for segment in kept) / len(kept)),
    )
