"""The queue, over an engine that only notes what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import pytest_asyncio

from agent_runtime.speech import scheduler as module
from agent_runtime.speech.engine import FULL, Engine, Task, Window
from agent_runtime.speech.scheduler import FILES_AT_MOST, DeviceFailedError, Rank, Scheduler
from agent_runtime.speech.transcript import RecognisedSegment, Transcription
from molts.errors import Busy, Unavailable


class NotingEngine:
    """Answers when it is let; remembers what came together."""

    def __init__(self, device: str = "cpu") -> None:
        self.calls: list[list[str | None]] = []
        self.gate = asyncio.Event()
        self.device = device
        self.error: Exception | None = None
        self.loaded = ("small",)
        self.name = "small"

    def get(self, name: str) -> Any:
        return None if name == "missing" else self

    async def decode(self, model: object, tasks: Sequence[Task]) -> list[Transcription]:
        self.calls.append([task.language for task in tasks])
        await self.gate.wait()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return [Transcription("en", 1.0, 1.0, (RecognisedSegment(0, 1, task.language or ""),)) for task in tasks]


def task(name: str, seconds: float = 1.0, window: Window = FULL) -> Task:
    """A task that can be told by its prompt-free `language`, of one kin with others of its length."""
    return KinTask(np.zeros(int(seconds * 16_000), np.float32), window, language=name)


class KinTask(Task):
    @property
    def kin(self) -> tuple[object, ...]:
        return (self.samples.size,)


@pytest.fixture
def engine() -> NotingEngine:
    return NotingEngine()


@pytest_asyncio.fixture
async def queue(engine: NotingEngine) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(cast(Engine, engine))
    running = asyncio.create_task(scheduler.run())
    yield scheduler
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def occupied(queue: Scheduler, engine: NotingEngine) -> None:
    """The model works on something, so that what is asked now has to queue."""
    queue.ask(Rank.PARTIAL, lambda: task("first"))
    while not engine.calls:  # noqa: ASYNC110 - another task
        await asyncio.sleep(0)


async def test_finals_come_before_partials_and_those_before_files(queue: Scheduler, engine: NotingEngine) -> None:
    await occupied(queue, engine)
    asked = [
        queue.ask(rank, partial(task, rank.name, 1.0 + rank))
        for rank in (Rank.FILE, Rank.PARTIAL, Rank.EARLY, Rank.FINAL)
    ]
    engine.gate.set()
    await asyncio.gather(*(request.result for request in asked))
    assert engine.calls == [["first"], ["FINAL"], ["EARLY"], ["PARTIAL"], ["FILE"]]


async def test_what_is_alike_goes_together_and_partials_never_with_finals(
    queue: Scheduler, engine: NotingEngine
) -> None:
    await occupied(queue, engine)
    asked = [queue.ask(Rank.PARTIAL, lambda: task("p")) for _ in range(3)]
    asked += [queue.ask(Rank.FINAL, lambda: task("f")) for _ in range(3)]
    asked += [queue.ask(Rank.FINAL, lambda: task("other length", 9.0))]
    engine.gate.set()
    await asyncio.gather(*(request.result for request in asked))
    assert engine.calls[1:] == [["f", "f", "f"], ["other length"], ["p", "p"], ["p"]]


async def test_on_a_processor_a_recording_never_holds_up_more_than_its_piece(
    queue: Scheduler, engine: NotingEngine
) -> None:
    await occupied(queue, engine)
    asked = [queue.ask(Rank.FILE, lambda: task("piece")) for _ in range(3)]
    engine.gate.set()
    await asyncio.gather(*(request.result for request in asked))
    assert engine.calls[1:] == [["piece"]] * 3


async def test_on_a_gpu_everything_goes_together(engine: NotingEngine) -> None:
    engine.device = "cuda"
    queue = Scheduler(cast(Engine, engine))
    asked = [queue.ask(rank, lambda: task("x")) for rank in (Rank.FINAL, Rank.PARTIAL, Rank.FINAL)]
    engine.gate.set()
    running = asyncio.create_task(queue.run())
    await asyncio.gather(*(request.result for request in asked))
    running.cancel()
    assert engine.calls == [["x", "x", "x"]]


async def test_audio_is_taken_when_its_turn_comes_and_not_for_what_was_dropped(
    queue: Scheduler, engine: NotingEngine
) -> None:
    await occupied(queue, engine)
    newest = "old"
    request = queue.ask(Rank.PARTIAL, lambda: task(newest))
    dropped = queue.ask(Rank.PARTIAL, lambda: pytest.fail("nobody wants this any more"))
    over = queue.ask(Rank.PARTIAL, lambda: None)
    dropped.result.cancel()
    newest = "new"
    engine.gate.set()
    decoded = await request.result
    assert decoded is not None
    assert decoded.transcript.text == "new"
    assert await over.result is None
    assert queue.figures.dropped == 1
    assert queue.waiting == 0


async def test_an_early_decode_can_become_a_final_one(queue: Scheduler, engine: NotingEngine) -> None:
    await occupied(queue, engine)
    early = queue.ask(Rank.EARLY, lambda: task("mine", 2.0))
    other = queue.ask(Rank.FINAL, lambda: task("other", 3.0))
    queue.promote(early, Rank.FINAL)
    engine.gate.set()
    await asyncio.gather(early.result, other.result)
    assert engine.calls[1:] == [["mine"], ["other"]]


async def test_it_says_busy_instead_of_letting_the_wait_grow(queue: Scheduler, engine: NotingEngine) -> None:
    await occupied(queue, engine)
    queue._seconds[Rank.FINAL] = 1.5  # as with a large model on a small machine
    asked = [queue.ask(Rank.FINAL, lambda: task("f")) for _ in range(3)]
    with pytest.raises(Busy):
        queue.ask(Rank.FINAL, lambda: task("one too many"))
    files = [asyncio.create_task(queue.transcribe(np.zeros(16_000, np.float32))) for _ in range(FILES_AT_MOST + 1)]
    await asyncio.sleep(0.01)
    assert [isinstance(each.exception(), Busy) for each in files if each.done()] == [True]
    assert queue.figures.refused == 2
    engine.gate.set()
    await asyncio.gather(*(request.result for request in asked), *files[:-1])
    assert queue.waiting == 0


async def test_a_file_that_is_given_up_gives_its_place_up(queue: Scheduler, engine: NotingEngine) -> None:
    await occupied(queue, engine)
    asking = asyncio.create_task(queue.transcribe(np.zeros(16_000, np.float32)))
    await asyncio.sleep(0.01)
    assert queue.waiting == 1
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert queue.waiting == 0


async def test_a_file_does_not_wait_for_ever_behind_partials(
    queue: Scheduler, engine: NotingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_PATIENCE", 0.0)
    await occupied(queue, engine)
    file = queue.ask(Rank.FILE, lambda: task("file", 2.0))
    other = queue.ask(Rank.PARTIAL, lambda: task("partial"))
    engine.gate.set()
    await asyncio.gather(file.result, other.result)
    assert engine.calls[1:] == [["file"], ["partial"]]


async def test_a_long_recording_leaves_partials_their_share(
    queue: Scheduler, engine: NotingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_PATIENCE", 0.2)
    await occupied(queue, engine)
    asked = [queue.ask(Rank.FILE, lambda: task("file", 2.0)) for _ in range(3)]
    await asyncio.sleep(0.3)
    asked.append(queue.ask(Rank.PARTIAL, lambda: task("partial")))
    engine.gate.set()
    await asyncio.gather(*(request.result for request in asked))
    assert engine.calls[1:] == [["file"], ["partial"], ["file"], ["file"]]


async def test_a_decode_that_fails_fails_its_requests_and_no_others(queue: Scheduler, engine: NotingEngine) -> None:
    await occupied(queue, engine)
    engine.gate.set()
    await asyncio.sleep(0.01)
    engine.error = RuntimeError("cuBLAS failed")
    with pytest.raises(Unavailable, match="cuBLAS failed"):
        await queue.ask(Rank.FINAL, lambda: task("f")).result
    with pytest.raises(Unavailable, match="missing is not loaded"):
        await queue.ask(Rank.FINAL, lambda: task("f"), model="missing").result
    decoded = await queue.ask(Rank.FINAL, lambda: task("f")).result
    assert decoded is not None


async def test_out_of_memory_is_tried_again_once_there_is_room(engine: NotingEngine) -> None:
    rescued: list[bool] = []

    async def rescue() -> bool:
        rescued.append(True)
        return True

    queue = Scheduler(cast(Engine, engine), rescue=rescue)
    running = asyncio.create_task(queue.run())
    engine.error = RuntimeError("CUDA failed with error out of memory")
    engine.gate.set()
    decoded = await queue.ask(Rank.FINAL, lambda: task("f")).result
    running.cancel()
    assert decoded is not None
    assert rescued == [True]
    assert engine.calls == [["f"], ["f"]]


async def test_a_model_that_was_asked_for_by_name_is_not_replaced_by_a_smaller_one(engine: NotingEngine) -> None:
    async def rescue() -> bool:
        pytest.fail("another model would not help this conversation")

    queue = Scheduler(cast(Engine, engine), rescue=rescue)
    running = asyncio.create_task(queue.run())
    engine.error = RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED")
    engine.gate.set()
    with pytest.raises(Unavailable, match="ALLOC_FAILED"):
        await queue.ask(Rank.FINAL, lambda: task("f"), model="named").result
    running.cancel()


async def test_a_broken_gpu_ends_the_queue(engine: NotingEngine) -> None:
    engine.error = RuntimeError("CUDA failed with error an illegal memory access was encountered")
    engine.gate.set()
    queue = Scheduler(cast(Engine, engine))
    running = asyncio.create_task(queue.run())
    with pytest.raises(Unavailable, match="starts again"):
        await queue.ask(Rank.FINAL, lambda: task("f")).result
    with pytest.raises(DeviceFailedError, match="illegal memory access"):
        await running


async def test_a_decode_that_never_comes_back_ends_the_queue(
    engine: NotingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DECODE_SECONDS", 0.05)
    queue = Scheduler(cast(Engine, engine))
    running = asyncio.create_task(queue.run())
    with pytest.raises(Unavailable, match="does not answer"):
        await queue.ask(Rank.FINAL, lambda: task("f")).result
    with pytest.raises(DeviceFailedError):
        await running
