"""One conversation's utterances: partial words while somebody speaks, the final words as soon as they stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent_runtime.speech.agreement import Agreement, joined, units
from agent_runtime.speech.engine import Task, Window
from agent_runtime.speech.scheduler import Decoded, DecodeRequest, Rank, Scheduler
from agent_runtime.speech.transcript import MAX_PIECE_SECONDS, SAMPLE_RATE, Transcription
from molts.errors import Busy, MoltsError
from projects.providers.faster_whisper.credibility import Gates
from projects.providers.faster_whisper.protocol import (
    MAX_UTTERANCE_SECONDS,
    Final,
    Message,
    Open,
    Partial,
    Refused,
    TimedWord,
)

logger = logging.getLogger(__name__)

PART_SECONDS = MAX_PIECE_SECONDS - 4.0
"""A longer utterance is decoded in parts, cut where it is quietest."""
PART_SAMPLES = int(PART_SECONDS * SAMPLE_RATE)
SEARCH_SAMPLES = 5 * SAMPLE_RATE
FIRST_SECONDS = 0.8  # half a second of it is what came before the voice


@dataclass(frozen=True, slots=True)
class DecodingPace:
    """How often partials are decoded, and what the encoder looks at. Floors are seconds; None: by the device."""

    seconds: float = 0.3
    partial_floor: float | None = None
    final_floor: float | None = None
    share: float = 0.5
    """Partials of one conversation take at most this share of a core."""

    def window(self, rank: Rank, device: str) -> Window:
        given, on_cpu = (self.partial_floor, 10.0) if rank is Rank.PARTIAL else (self.final_floor, 15.0)
        floor = on_cpu if device == "cpu" else MAX_PIECE_SECONDS
        return Window(floor if given is None else given)


@dataclass
class StreamFigures:
    """Sums over all conversations, for metrics."""

    utterances: int = 0
    speech_seconds: float = 0.0
    silence_seconds: float = 0.0
    partials: int = 0
    agreed_words: int = 0
    revised_words: int = 0
    final_lags: deque[float] = field(default_factory=lambda: deque(maxlen=1000))


class RecognitionStream:
    """Hears what one client sends. Messages for it go to `send`."""

    def __init__(
        self,
        *,
        opening: Open,
        scheduler: Scheduler,
        pace: DecodingPace,
        figures: StreamFigures,
        send: Callable[[Message], None],
    ) -> None:
        self.opening = opening
        self.scheduler = scheduler
        self.pace = pace
        self.figures = figures
        self.send = send
        self._current: HeardUtterance | None = None
        self._ending: dict[asyncio.Task[None], int] = {}  # with the number of its utterance

    def start(self, number: int, silence: float) -> None:
        self.figures.silence_seconds += silence
        self._drop_current()
        self._current = HeardUtterance(number, self)

    def hear(self, sound: bytes) -> None:
        if self._current is not None:
            self._current.hear(sound)

    def pause(self, number: int) -> None:
        if (utterance := self._known(number)) is not None:
            utterance.decode_early()

    def end(self, number: int) -> None:
        if (utterance := self._known(number)) is None:
            self.send(Refused(utterance=number, code="bad", detail="no such utterance"))
            return
        self._current = None
        ending = asyncio.create_task(utterance.finish())
        self._ending[ending] = number
        ending.add_done_callback(self._ending.pop)

    def cancel(self, number: int) -> None:
        """Drop the utterance, be it still spoken or waiting for its final words."""
        if self._known(number) is not None:
            self._drop_current()
        for ending, its_number in self._ending.items():
            if its_number == number:
                ending.cancel()

    def close(self) -> None:
        self._drop_current()
        for ending in self._ending:
            ending.cancel()

    def _known(self, number: int) -> HeardUtterance | None:
        return self._current if self._current is not None and self._current.number == number else None

    def _drop_current(self) -> None:
        if self._current is not None:
            self._current.drop()
            self._current = None


@dataclass
class UtterancePart:
    """A stretch of an utterance that is decoded as one, and what is known of its words."""

    begins: int  # samples from the start of the utterance
    agreement: Agreement = field(default_factory=Agreement)
    final: asyncio.Future[Decoded | None] | None = None

    @property
    def text(self) -> str:
        """Its final words, or until they are there those that were agreed on."""
        if self.final is not None and self.final.done() and not self.final.cancelled() and not self.final.exception():
            decoded = self.final.result()
            return decoded.transcript.text if decoded else ""
        return "".join(self.agreement.agreed)


class HeardUtterance:
    """The sound of one utterance so far, and what is known of its words."""

    def __init__(self, number: int, stream: RecognitionStream) -> None:
        self.number = number
        self._stream = stream
        self._scheduler, self._pace, self._figures = stream.scheduler, stream.pace, stream.figures
        self._sound = bytearray()
        self._parts: list[UtterancePart] = []  # those that are full
        self._part = UtterancePart(0)
        self._partial: DecodeRequest | None = None
        self._early: tuple[int, DecodeRequest] | None = None
        self._next_partial_at = FIRST_SECONDS
        self._told = ""

    @property
    def samples(self) -> int:
        return len(self._sound) // 2

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE

    @property
    def _part_is_full(self) -> bool:
        return self.samples - self._part.begins >= PART_SAMPLES

    def hear(self, sound: bytes) -> None:
        if self.seconds > MAX_UTTERANCE_SECONDS:
            return
        self._sound += sound
        if self._early is not None and self._early[0] != self.samples:
            self._drop_early()  # somebody goes on speaking
        if self._part_is_full:
            with contextlib.suppress(Busy):  # it is tried again with the next sound
                self._begin_part()
        if self._partial is None and self._early is None and self.seconds >= self._next_partial_at:
            self._ask_partial()

    def decode_early(self) -> None:
        """The final words are on their way in case nothing more is said."""
        if self._early is None:
            try:
                self._early = (self.samples, self._ask(Rank.EARLY))
            except Busy:
                logger.debug("no early decode: busy")
            else:
                self._drop_partial()

    async def finish(self) -> None:
        """Say the final words. Whatever happens, the client gets an answer."""
        began = time.monotonic()
        self._drop_partial()
        try:
            while self._part_is_full:
                self._begin_part()
            self._part.final = self._last_request().result
            self._parts.append(self._part)
            heard = [(part.begins / SAMPLE_RATE, await _transcript(part)) for part in self._parts]
        except MoltsError as error:
            code: Literal["busy", "failed"] = "busy" if isinstance(error, Busy) else "failed"
            self._stream.send(Refused(utterance=self.number, code=code, detail=error.detail))
            return
        finally:
            self.drop()  # what nobody waits for any more
        self._figures.utterances += 1
        self._figures.speech_seconds += self.seconds
        self._figures.final_lags.append(time.monotonic() - began)
        self._stream.send(self._final(heard))

    def drop(self) -> None:
        self._drop_partial()
        self._drop_early()
        for part in self._parts:
            if part.final is not None:
                part.final.cancel()

    # -- asking for decodes --------------------------------------------------------------------------------------------
    def _ask(self, rank: Rank) -> DecodeRequest:
        return self._scheduler.ask(rank, lambda: self._task(rank), model=self._stream.opening.model)

    def _last_request(self) -> DecodeRequest:
        """The final decode of the last part: the early one, when nothing was said since."""
        if self._early is None or self._early[0] != self.samples:
            return self._ask(Rank.FINAL)
        self._scheduler.promote(self._early[1], Rank.FINAL)
        return self._early[1]

    def _task(self, rank: Rank, *, until: int | None = None) -> Task:
        opening = self._stream.opening
        model = self._scheduler.engine.get(opening.model)
        is_partial = rank is Rank.PARTIAL
        return Task(
            self._audio(self._part.begins, self.samples if until is None else until),
            self._pace.window(rank, model.device if model else "cpu"),
            language=opening.language or None,
            prompt=opening.prompt,
            hotwords=opening.hotwords,
            words=opening.words and not is_partial,
            beam_size=1 if is_partial else opening.beam_size,
            gates=Gates(opening.no_speech_threshold, opening.log_prob_threshold, opening.compression_ratio_threshold),
        )

    def _audio(self, begin: int, end: int) -> NDArray[np.float32]:
        pcm = np.frombuffer(bytes(self._sound[begin * 2 : end * 2]), dtype="<i2")
        return pcm.astype(np.float32) / 32768.0

    def _begin_part(self) -> None:
        """Somebody speaks for longer than Whisper listens: what is there is decoded, the rest is a part of its own.

        Raises Busy.
        """
        full = self._part.begins + PART_SAMPLES
        place = full - quietest(self._audio(full - SEARCH_SAMPLES, full))
        task = self._task(Rank.FINAL, until=place)
        self._part.final = self._scheduler.ask(Rank.FINAL, lambda: task, model=self._stream.opening.model).result
        self._drop_partial()
        self._drop_early()
        self._parts.append(self._part)
        self._part = UtterancePart(place)

    def _ask_partial(self) -> None:
        try:
            self._partial = self._ask(Rank.PARTIAL)
        except Busy:
            self._next_partial_at = self.seconds + self._pace.seconds
            return
        part = self._part
        self._partial.result.add_done_callback(lambda result: self._take_partial(result, part))

    def _take_partial(self, result: asyncio.Future[Decoded | None], part: UtterancePart) -> None:
        self._partial = None
        decoded = None if result.cancelled() or result.exception() else result.result()
        if decoded is None or part is not self._part:
            self._next_partial_at = self.seconds + self._pace.seconds
            return
        heard = part.begins / SAMPLE_RATE + decoded.transcript.duration
        self._next_partial_at = heard + max(self._pace.seconds, decoded.seconds / self._pace.share)
        self._figures.partials += 1
        shown = part.agreement.update(units(decoded.transcript.text))
        before = [each.text for each in self._parts]
        text, agreed = joined([*before, "".join(shown)]), joined([*before, part.text])
        if text and text != self._told:
            self._told = text
            language = decoded.transcript.language
            self._stream.send(Partial(utterance=self.number, text=text, agreed=len(agreed), language=language))

    def _drop_partial(self) -> None:
        if self._partial is not None:
            self._partial.result.cancel()

    def _drop_early(self) -> None:
        if self._early is not None:
            self._early[1].result.cancel()
            self._early = None

    # -- the final words -----------------------------------------------------------------------------------------------
    def _final(self, heard: list[tuple[float, Transcription]]) -> Final:
        segments = [(offset, segment) for offset, transcript in heard for segment in transcript.segments]
        revised = 0
        for part, (_, transcript) in zip(self._parts, heard, strict=True):
            revised += part.agreement.revised_by(units(transcript.text))
            self._figures.agreed_words += len(part.agreement.agreed)
        self._figures.revised_words += revised
        if not segments:
            return Final(utterance=self.number, text="", revised=revised)
        return Final(
            utterance=self.number,
            text=joined([segment.text for _, segment in segments]),
            language=heard[-1][1].language or heard[0][1].language,
            start=segments[0][0] + segments[0][1].start,
            end=segments[-1][0] + segments[-1][1].end,
            confidence=math.exp(sum(segment.avg_logprob for _, segment in segments) / len(segments)),
            words=[
                TimedWord(
                    start=offset + word.start, end=offset + word.end, text=word.text, probability=word.probability
                )
                for offset, segment in segments
                for word in segment.words
            ],
            revised=revised,
        )


async def _transcript(part: UtterancePart) -> Transcription:
    decoded = await part.final if part.final is not None else None
    assert decoded is not None
    return decoded.transcript


def quietest(samples: NDArray[np.float32]) -> int:
    """Where a cut does least harm: how many samples before the end the quietest moment is."""
    size = SAMPLE_RATE // 50
    energy = np.square(samples[: samples.size // size * size]).reshape(-1, size).mean(axis=1)
    around = np.convolve(energy, np.ones(5), "same")
    return int(samples.size - (int(around.argmin()) + 0.5) * size)
