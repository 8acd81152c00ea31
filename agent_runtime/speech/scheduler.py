"""Who is heard next: requests of all conversations and files share one model.

Ended utterances come first, then those that seem to end, then partials, then files. What is alike goes through the
model in one call. A conversation has at most one partial waiting, and its audio is taken when its turn comes, so no
partial is ever old. Where the wait would grow too long a request is refused at once instead.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING

from agent_runtime.speech.engine import Engine, LoadedWhisper, Task
from agent_runtime.speech.transcript import Transcription
from molts.errors import Busy, MoltsError, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

LONGEST_WAIT = 4.0
"""Seconds of work before a final; more is answered with Busy."""
FILES_AT_MOST = 8
FILE_PATIENCE = 3.0
"""So many seconds after the last piece of a file the next one counts as much as a partial: both get their share."""
DECODE_SECONDS = 300.0
"""No decode takes so long: the device hangs, and only a new process helps."""


class DeviceFailedError(Exception):
    """A decode does not come back, or the GPU answers with nothing but errors: only a new process helps."""


class Rank(IntEnum):
    """The order of service."""

    FINAL = 0
    EARLY = 1  # the final words of an utterance that seems to end
    PARTIAL = 2
    FILE = 3


TOGETHER_ON_GPU = 16
TOGETHER_ON_CPU = {Rank.FINAL: 4, Rank.EARLY: 4, Rank.PARTIAL: 2, Rank.FILE: 1}
"""Requests in one call. On a processor each takes as long as alone, and a final that comes meanwhile waits for all."""


@dataclass(eq=False)
class DecodeRequest:
    """A wish for a decode. `take` gives the audio when its turn has come; None: no longer wanted."""

    rank: Rank
    take: Callable[[], Task | None]
    model: str = ""
    number: int = 0
    asked_at: float = field(default_factory=time.monotonic)
    result: asyncio.Future[Decoded | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def importance(self, now: float, *, file_served_at: float) -> tuple[int, int]:
        aged = self.rank is Rank.FILE and now - max(self.asked_at, file_served_at) > FILE_PATIENCE
        return (Rank.PARTIAL if aged else self.rank, self.number)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What came of a request, and its share of the model's time."""

    task: Task
    transcript: Transcription
    model: str
    seconds: float


@dataclass
class Figures:
    """What has been done so far, for metrics."""

    decodes: dict[str, int] = field(default_factory=lambda: {rank.name.lower(): 0 for rank in Rank})
    calls: int = 0
    refused: int = 0
    dropped: int = 0


class Scheduler:
    """The one queue in front of the engine. `run` it as a task."""

    def __init__(
        self,
        engine: Engine,
        *,
        rescue: Callable[[], Awaitable[bool]] | None = None,
        files_at_most: int = FILES_AT_MOST,
    ) -> None:
        """`rescue` makes room when the device is out of memory; True: try again."""
        self.engine = engine
        self._files_at_most = files_at_most
        self.figures = Figures()
        self._rescue = rescue
        self._waiting: list[DecodeRequest] = []
        self._numbers = itertools.count()
        self._work = asyncio.Event()
        self._seconds: dict[Rank, float] = dict.fromkeys(Rank, 0.1)
        self._file_served_at = 0.0

    @property
    def models(self) -> tuple[str, ...]:
        return self.engine.loaded

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def ask(self, rank: Rank, take: Callable[[], Task | None], *, model: str = "") -> DecodeRequest:
        """Queue a request. Its `result` is a Decoded, or None when `take` had nothing any more.

        Raises Busy when it would have to wait too long.
        """
        self._make_room(rank)
        request = DecodeRequest(rank, take, model, next(self._numbers))
        request.result.add_done_callback(lambda _: self._forget(request))
        self._waiting.append(request)
        self._work.set()
        return request

    def promote(self, request: DecodeRequest, rank: Rank) -> None:
        """Serve a waiting request as if it had been asked with `rank`."""
        request.rank = rank

    async def transcribe(
        self,
        samples: NDArray[np.float32],
        *,
        language: str | None = None,
        prompt: str = "",
        hotwords: str = "",
        words: bool = False,
        temperature: float = 0.0,
    ) -> Transcription:
        """Hear a piece of a file: see `Recogniser`."""
        task = Task(
            samples,
            language=language,
            prompt=prompt,
            hotwords=hotwords,
            words=words,
            temperature=temperature,
        )
        request = self.ask(Rank.FILE, lambda: task)
        try:
            decoded = await request.result
        finally:
            request.result.cancel()
        assert decoded is not None
        return decoded.transcript

    async def run(self) -> None:
        """Serve until cancelled. Raises DeviceFailedError."""
        while True:
            await self._work.wait()
            chosen = self._choose()
            if not chosen:
                self._work.clear()
                continue
            await self._serve(chosen)

    # -- inside --------------------------------------------------------------------------------------------------------
    def _make_room(self, rank: Rank) -> None:
        if rank is Rank.FILE:
            too_many = sum(request.rank is Rank.FILE for request in self._waiting) >= self._files_at_most
        else:
            before = [request.rank for request in self._waiting if request.rank <= Rank.EARLY]
            too_many = sum(self._seconds[each] for each in before) > LONGEST_WAIT
        if too_many:
            self.figures.refused += 1
            raise Busy("Speech recognition has more to do than it can. Try again in a moment.")

    def _forget(self, request: DecodeRequest) -> None:
        if request in self._waiting:
            self.figures.dropped += 1
            self._waiting.remove(request)

    def _choose(self) -> list[tuple[DecodeRequest, Task]]:
        """The next requests that go through the model together, with their audio."""
        now = time.monotonic()
        chosen: list[tuple[DecodeRequest, Task]] = []
        by_importance = partial(DecodeRequest.importance, now=now, file_served_at=self._file_served_at)
        for request in sorted(self._waiting, key=by_importance):
            if chosen and not self._fits(chosen[0][0], request, len(chosen)):
                continue
            task = request.take()
            if task is None:
                self._waiting.remove(request)
                request.result.set_result(None)
            elif not chosen or task.kin == chosen[0][1].kin:
                chosen.append((request, task))
        for request, _ in chosen:
            self._waiting.remove(request)
        return chosen

    def _fits(self, first: DecodeRequest, other: DecodeRequest, count: int) -> bool:
        """Whether `other` may go with `first`: whoever waits for a final shall not wait for others' partials."""
        model, urgent = self.engine.get(first.model), first.rank <= Rank.EARLY
        on_cpu = model is None or model.device == "cpu"
        room = TOGETHER_ON_CPU[first.rank] if on_cpu else TOGETHER_ON_GPU
        return count < room and other.model == first.model and (not on_cpu or urgent == (other.rank <= Rank.EARLY))

    async def _serve(self, chosen: list[tuple[DecodeRequest, Task]]) -> None:
        requests, tasks = [request for request, _ in chosen], [task for _, task in chosen]
        began = time.perf_counter()
        try:
            model, transcripts = await self._decode(requests[0].model, tasks)
        except MoltsError as error:
            _fail(requests, error)
        except DeviceFailedError:
            _fail(requests, Unavailable("Whisper does not answer. The speech server starts again."))
            raise
        except Exception as error:  # CTranslate2 reports everything so, out of memory included
            logger.exception("decode failed")
            _fail(requests, Unavailable(f"Whisper failed: {error}"))
        else:
            seconds = (time.perf_counter() - began) / len(requests)
            self._note(requests, seconds)
            for request, task, transcript in zip(requests, tasks, transcripts, strict=True):
                if not request.result.done():
                    request.result.set_result(Decoded(task, transcript, model.name, seconds))

    async def _decode(self, name: str, tasks: list[Task]) -> tuple[LoadedWhisper, list[Transcription]]:
        """The words of `tasks` by the model `name`; without a name by ever smaller ones while memory is short."""
        while True:
            model = self._model(name)
            try:
                async with asyncio.timeout(DECODE_SECONDS):
                    return model, await self.engine.decode(model, tasks)
            except TimeoutError:
                raise DeviceFailedError(f"{model.name} gave no words in {DECODE_SECONDS:.0f} s") from None
            except RuntimeError as error:
                if _is_broken_device(error):
                    raise DeviceFailedError(str(error)) from error
                if name or not _is_out_of_memory(error) or self._rescue is None or not await self._rescue():
                    raise

    def _model(self, name: str) -> LoadedWhisper:
        model = self.engine.get(name)
        if model is None:
            raise Unavailable(f"Whisper model {name} is not loaded." if name else "No Whisper model is loaded yet.")
        return model

    def _note(self, requests: list[DecodeRequest], seconds: float) -> None:
        self.figures.calls += 1
        if any(request.rank is Rank.FILE for request in requests):
            self._file_served_at = time.monotonic()
        for request in requests:
            self.figures.decodes[request.rank.name.lower()] += 1
            self._seconds[request.rank] += 0.2 * (seconds - self._seconds[request.rank])


def _is_out_of_memory(error: RuntimeError) -> bool:
    """CTranslate2 tells it by its text alone, cuBLAS with words of its own."""
    return "out of memory" in str(error) or "ALLOC_FAILED" in str(error)


def _is_broken_device(error: RuntimeError) -> bool:
    """After such an error CUDA gives the same one to every later call of the process."""
    return str(error).startswith("CUDA failed") and not _is_out_of_memory(error)


def _fail(requests: list[DecodeRequest], error: MoltsError) -> None:
    for request in requests:
        if not request.result.done():
            request.result.set_exception(error)
