"""Cuts utterances out of a conversation's sound and has each recognised; a recogniser that can hears them live.

Where LiveKit's stream adapter hands over an utterance when it is over, this one gives a recogniser with a `begin`
method the sound as it comes: it can show words meanwhile, and has the final ones ready when the voice activity
detector says that the end has come. Everything else stays as it is with the adapter: `recognize` is called with the
whole utterance, so retries and fallback chains work, whoever heard it live.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Callable
from typing import Any, Protocol

from livekit import rtc
from livekit.agents import stt, utils, vad
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr
from livekit.agents.utils import AudioBuffer

from projects.providers.shared.livekit_private import next_recogniser

PAUSE_SECONDS = 0.06
"""Silence after which the final words are worked out, in case it stays silent until the detector says so.

It is noticed one window of the detector (32 ms) later."""


class Hearing(Protocol):
    """An utterance that is being heard."""

    def push(self, frame: rtc.AudioFrame) -> None: ...

    def pause(self) -> None:
        """No voice for a moment. More sound takes it back."""

    def cancel(self) -> None: ...


class LiveSTT(Protocol):
    """What a recogniser has that can hear while somebody speaks."""

    def begin(self, *, silence: float, on_interim: Callable[[stt.SpeechData], None]) -> Hearing | None:
        """Hear an utterance from now on; None when that is not possible now."""

    def claim(self, hearing: Hearing, buffer: AudioBuffer) -> None:
        """The next `recognize(buffer)` is about what `hearing` heard."""


class LiveAdapter(stt.StreamAdapter):
    """A stream adapter with interim results, for a recogniser or a fallback adapter over several."""

    def __init__(self, *, stt: stt.STT[Any], vad: vad.VAD) -> None:
        super().__init__(stt=stt, vad=vad)
        self._capabilities.interim_results = True
        self.on_waiting: Callable[[bool], None] = lambda waits: None
        """Told when an utterance is over and its words are waited for, and when that wait is over."""

    def live(self) -> LiveSTT | None:
        """The recogniser that serves next, if it can hear live."""
        serving: Any = next_recogniser(self._stt) if isinstance(self._stt, stt.FallbackAdapter) else self._stt
        recogniser = getattr(serving, "wrapped_stt", serving)  # a fallback adapter wants its rungs wrapped
        return recogniser if hasattr(recogniser, "begin") else None

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        return LiveStream(self, vad=self._vad, language=language, conn_options=conn_options)


class LiveStream(stt.RecognizeStream):
    """The sound of one conversation."""

    def __init__(
        self, adapter: LiveAdapter, *, vad: vad.VAD, language: NotGivenOr[str], conn_options: APIConnectOptions
    ) -> None:
        super().__init__(stt=adapter, conn_options=APIConnectOptions(max_retry=0, timeout=conn_options.timeout))
        self._adapter = adapter
        self._vad = vad
        self._language = language
        self._recognize_options = conn_options
        self._utterance: _Live | None = None
        self._quiet_since = 0.0

    async def _metrics_monitor_task(self, event_aiter: AsyncIterable[stt.SpeechEvent]) -> None:
        async for _ in event_aiter:  # whoever recognises reports
            pass

    async def _run(self) -> None:
        detector = self._vad.stream()
        tasks = [asyncio.create_task(self._feed(detector)), asyncio.create_task(self._follow(detector))]
        try:
            await asyncio.gather(*tasks)
        finally:
            await utils.aio.cancel_and_wait(*tasks)
            self._forget()
            await detector.aclose()

    async def _feed(self, detector: vad.VADStream) -> None:
        async for item in self._input_ch:
            if isinstance(item, rtc.AudioFrame):
                detector.push_frame(item)
            else:
                detector.flush()
                self._forget()
        detector.end_input()

    async def _follow(self, detector: vad.VADStream) -> None:
        async for event in detector:
            match event.type:
                case vad.VADEventType.START_OF_SPEECH:
                    self._begin(event)
                case vad.VADEventType.INFERENCE_DONE if self._utterance is not None:
                    self._utterance.hear(event)
                case vad.VADEventType.END_OF_SPEECH:
                    await self._end(event)

    def _begin(self, event: vad.VADEvent) -> None:
        self._event_ch.send_nowait(stt.SpeechEvent(stt.SpeechEventType.START_OF_SPEECH))
        self._forget()
        live = self._adapter.live()
        silence = max(0.0, event.timestamp - _seconds(event.frames) - self._quiet_since)
        hearing = live.begin(silence=silence, on_interim=self._on_interim) if live else None
        if live is not None and hearing is not None:
            self._utterance = _Live(live, hearing)
            self._utterance.push(event.frames)

    async def _end(self, event: vad.VADEvent) -> None:
        ended_at = time.time() - event.silence_duration - event.inference_duration
        self._event_ch.send_nowait(stt.SpeechEvent(type=stt.SpeechEventType.END_OF_SPEECH, speech_end_time=ended_at))
        buffer = utils.merge_frames(event.frames)
        utterance, self._utterance = self._utterance, None
        self._quiet_since = event.timestamp
        if utterance is not None:
            utterance.live.claim(utterance.hearing, buffer)
        self._adapter.on_waiting(True)
        try:
            heard = await self._adapter.wrapped_stt.recognize(
                buffer=buffer, language=self._language, conn_options=self._recognize_options
            )
        except Exception as error:
            # One utterance is lost; ending the stream would lose what is said meanwhile too. The session counts.
            self._emit_error(error, recoverable=False)
            return
        finally:
            self._adapter.on_waiting(False)
        if heard.alternatives and heard.alternatives[0].text:
            began = self.start_time_offset + max(0.0, event.timestamp - _seconds(event.frames))
            self._event_ch.send_nowait(
                stt.SpeechEvent(
                    type=stt.SpeechEventType.FINAL_TRANSCRIPT,
                    request_id=heard.request_id,
                    alternatives=[_moved(heard.alternatives[0], began)],
                    speech_end_time=heard.speech_end_time or ended_at,
                )
            )

    def _on_interim(self, data: stt.SpeechData) -> None:
        if not self._event_ch.closed:
            self._event_ch.send_nowait(
                stt.SpeechEvent(type=stt.SpeechEventType.INTERIM_TRANSCRIPT, alternatives=[data])
            )

    def _forget(self) -> None:
        if self._utterance is not None:
            self._utterance.hearing.cancel()
            self._utterance = None


class _Live:
    """Gives sound to a hearing, but keeps silence back.

    So no partial is begun that the final words would have to wait for, and those that were worked out early stay true.
    """

    def __init__(self, live: LiveSTT, hearing: Hearing) -> None:
        self.live = live
        self.hearing = hearing
        self._held: list[rtc.AudioFrame] = []
        self._paused = False

    def push(self, frames: list[rtc.AudioFrame]) -> None:
        for frame in frames:
            self.hearing.push(frame)

    def hear(self, event: vad.VADEvent) -> None:
        if event.raw_accumulated_silence == 0:
            self.push([*self._held, *event.frames])
            self._held, self._paused = [], False
            return
        self._held += event.frames
        if not self._paused and event.raw_accumulated_silence >= PAUSE_SECONDS:
            self.push(self._held)
            self._held, self._paused = [], True
            self.hearing.pause()


def _seconds(frames: list[rtc.AudioFrame]) -> float:
    return sum(frame.duration for frame in frames)


def _moved(data: stt.SpeechData, seconds: float) -> stt.SpeechData:
    """Times from the start of the stream instead of the start of the utterance."""
    data.start_time += seconds
    data.end_time += seconds
    for word in data.words or []:
        word.start_time = word.start_time + seconds if utils.is_given(word.start_time) else NOT_GIVEN
        word.end_time = word.end_time + seconds if utils.is_given(word.end_time) else NOT_GIVEN
    return data
