"""One conversation's utterances: partial words while somebody speaks, the final words as soon as they stop."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent_runtime.speech.agreement import Agreement
from agent_runtime.speech.engine import Task, Window
from agent_runtime.speech.scheduler import Decoded, Rank, Request, Scheduler
from agent_runtime.speech.transcript import MAX_PIECE_SECONDS, SAMPLE_RATE, Transcript
from molts.errors import Busy, MoltsError
from projects.providers.faster_whisper import Gates
from projects.providers.speech_protocol import Final, Message, Open, Partial, Refused, TimedWord

logger = logging.getLogger(__name__)

PART_SECONDS = MAX_PIECE_SECONDS - 4.0
"""A longer utterance is decoded in parts, cut where it is quietest."""
SEARCH_SECONDS = 5.0
FIRST_SECONDS = 0.8  # half a second of it is what came before the voice


@dataclass(frozen=True, slots=True)
class Pace:
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
    final_lags: list[float] = field(default_factory=list)


class Stream:
    """Hears what one client sends. Messages for it go to `send`."""

    def __init__(
        self,
        *,
        opening: Open,
        scheduler: Scheduler,
        pace: Pace,
        figures: StreamFigures,
        send: Callable[[Message], None],
    ) -> None:
        self._opening = opening
        self._scheduler = scheduler
        self._pace = pace
        self._figures = figures
        self._send = send
        self._current: Utterance | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def start(self, number: int, silence: float) -> None:
        self._figures.silence_seconds += silence
        self._drop_current()
        self._current = Utterance(number, self)

    def hear(self, sound: bytes) -> None:
        if self._current is not None:
            self._current.hear(sound)

    def pause(self, number: int) -> None:
        if (utterance := self._known(number)) is not None:
            utterance.decode_early()

    def end(self, number: int) -> None:
        if (utterance := self._known(number)) is None:
            self._send(Refused(utterance=number, code="bad", detail="no such utterance"))
            return
        self._current = None
        ending = asyncio.create_task(utterance.finish())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def cancel(self, number: int) -> None:
        if self._known(number) is not None:
            self._drop_current()

    def close(self) -> None:
        self._drop_current()
        for ending in self._ending:
            ending.cancel()

    def _known(self, number: int) -> Utterance | None:
        return self._current if self._current is not None and self._current.number == number else None

    def _drop_current(self) -> None:
        if self._current is not None:
            self._current.drop()
            self._current = None


class Utterance:
    """The sound of one utterance so far, and what is known of its words."""

    def __init__(self, number: int, stream: Stream) -> None:
        self.number = number
        self._stream = stream
        self._scheduler, self._pace, self._figures = stream._scheduler, stream._pace, stream._figures
        self._sound = bytearray()
        self._agreement = Agreement()
        self._partial: Request | None = None
        self._early: tuple[int, Request] | None = None
        self._next_partial_at = FIRST_SECONDS  # of sound
        self._parts: list[tuple[float, Transcript]] = []
        self._cut = 0  # samples that are in parts already
        self._cutting: asyncio.Task[None] | None = None

    @property
    def samples(self) -> int:
        return len(self._sound) // 2

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE

    def hear(self, sound: bytes) -> None:
        self._sound += sound
        if self._early is not None and self._early[0] != self.samples:
            self._early[1].result.cancel()  # somebody goes on speaking
            self._early = None
        if self._partial is None and self.seconds >= self._next_partial_at and self._early is None:
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
            decoded = await self._decode_rest()
        except MoltsError as error:
            refused = Refused(
                utterance=self.number, code="busy" if isinstance(error, Busy) else "failed", detail=error.detail
            )
            self._send(refused)
            return
        self._figures.utterances += 1
        self._figures.speech_seconds += self.seconds
        self._figures.final_lags = [*self._figures.final_lags[-999:], time.monotonic() - began]
        self._send(self._final([*self._parts, (self._cut / SAMPLE_RATE, decoded)]))

    def drop(self) -> None:
        self._drop_partial()
        if self._early is not None:
            self._early[1].result.cancel()

    # -- inside --------------------------------------------------------------------------------------------------------
    def _send(self, message: Message) -> None:
        self._stream._send(message)

    def _ask(self, rank: Rank) -> Request:
        return self._scheduler.ask(rank, lambda: self._task(rank), model=self._stream._opening.model)

    def _task(self, rank: Rank) -> Task:
        opening = self._stream._opening
        is_partial = rank is Rank.PARTIAL
        model = self._scheduler.engine.get(opening.model)
        return Task(
            self._audio(),
            self._pace.window(rank, model.device if model else "cpu"),
            language=opening.language or None,
            prompt=opening.prompt,
            hotwords=opening.hotwords,
            words=opening.words and not is_partial,
            beam_size=1 if is_partial else opening.beam_size,
            gates=Gates(opening.no_speech_threshold, opening.log_prob_threshold, opening.compression_ratio_threshold),
        )

    def _audio(self) -> NDArray[np.float32]:
        pcm = np.frombuffer(bytes(self._sound[self._cut * 2 :]), dtype="<i2")
        return pcm.astype(np.float32) / 32768.0

    async def _decode_rest(self) -> Transcript:
        if self._early is not None and self._early[0] == self.samples:
            request = self._early[1]
            self._scheduler.promote(request, Rank.FINAL)
        else:
            request = self._ask(Rank.FINAL)
        decoded = await request.result
        assert decoded is not None
        return decoded.transcript

    def _ask_partial(self) -> None:
        try:
            self._partial = self._ask(Rank.PARTIAL)
        except Busy:
            self._next_partial_at = self.seconds + self._pace.seconds
            return
        self._partial.result.add_done_callback(self._take_partial)

    def _take_partial(self, result: asyncio.Future[Decoded | None]) -> None:
        self._partial = None
        if result.cancelled() or result.exception() is not None or (decoded := result.result()) is None:
            self._next_partial_at = self.seconds + self._pace.seconds
            return
        heard = self._cut / SAMPLE_RATE + decoded.transcript.duration
        self._next_partial_at = heard + max(self._pace.seconds, decoded.seconds / self._pace.share)
        self._figures.partials += 1
        shown = self._agreement.update(_words(decoded.transcript.text))
        text, agreed = " ".join(shown), " ".join(self._agreement.agreed)
        if text:
            language = decoded.transcript.language
            self._send(Partial(utterance=self.number, text=text, agreed=len(agreed), language=language))

    def _drop_partial(self) -> None:
        if self._partial is not None:
            self._partial.result.cancel()

    def _final(self, parts: list[tuple[float, Transcript]]) -> Final:
        segments = [(offset, segment) for offset, transcript in parts for segment in transcript.segments]
        text = " ".join(segment.text.strip() for _, segment in segments)
        revised = self._agreement.revised_by(_words(text))
        self._figures.agreed_words += len(self._agreement.agreed)
        self._figures.revised_words += revised
        if not segments:
            return Final(utterance=self.number, text="", revised=revised)
        return Final(
            utterance=self.number,
            text=text,
            language=parts[-1][1].language,
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


def _words(text: str) -> list[str]:
    return text.split()
