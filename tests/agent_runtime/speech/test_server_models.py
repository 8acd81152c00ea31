"""Which models the server holds, and what it does when the device is out of memory: models that only pretend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent_runtime.speech import engine as engine_module
from agent_runtime.speech import ladder as ladder_module
from agent_runtime.speech import scheduler as scheduler_module
from agent_runtime.speech import server as module
from agent_runtime.speech.engine import Engine, Task
from agent_runtime.speech.http_api import UploadLimits
from agent_runtime.speech.ladder import LadderSettings, Load
from agent_runtime.speech.places import ListeningPlaces
from agent_runtime.speech.scheduler import DeviceFailedError
from agent_runtime.speech.server import SpeechServer
from agent_runtime.speech.stream import DecodingPace
from agent_runtime.speech.transcript import RecognisedSegment, Transcription
from agent_runtime.speech.whole_file import AT_ONCE
from molts.errors import BadConfiguration, Busy
from projects.providers.faster_whisper import weights
from projects.providers.faster_whisper.protocol import (
    End,
    Final,
    Message,
    Open,
    Partial,
    Pause,
    Ready,
    Refused,
    UtteranceStart,
)
from tests.agent_runtime.speech.live_server import Talker, talking, until

NO_MEMORY = RuntimeError("CUDA failed with error out of memory")


@dataclass
class PretendedModel:
    """Hears its own name in everything; out of memory when it is too large."""

    name: str
    fits: Callable[[str], bool]
    device: str = "cuda"
    compute_type: str = "float16"

    def decode(self, tasks: Sequence[Task]) -> list[Transcription]:
        if not self.fits(self.name):
            raise NO_MEMORY
        return [Transcription("en", 1.0, 1.0, (RecognisedSegment(0, 1, f" {self.name}"),)) for _ in tasks]


class PretendingEngine(Engine):
    """A real engine whose models are pretended. `fits`: whose decodes the memory is enough for; `missing`: not here."""

    def __init__(self) -> None:
        super().__init__()
        self.fits: Callable[[str], bool] = lambda name: True
        self.missing: set[str] = set()
        self.slow: set[str] = set()
        self.loads: list[str] = []

    def _load(self, name: str) -> Any:
        self.loads.append(name)
        if name in self.slow:
            time.sleep(0.3)
        if name in self.missing:
            raise BadConfiguration(f"{name} cannot be loaded: out of memory")
        return PretendedModel(name, self.fits)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> PretendingEngine:
    monkeypatch.setattr(module, "model_path", lambda name: Path(name))
    monkeypatch.setattr(module, "read_gpu", lambda: Load(0.65))
    return PretendingEngine()


@asynccontextmanager
async def running(engine: PretendingEngine, path: Path) -> AsyncIterator[SpeechServer]:
    ladder = LadderSettings(("tiny", "base", "small"))
    server = SpeechServer(engine=engine, model="small", pace=DecodingPace(), ladder_settings=ladder)
    serving = asyncio.create_task(server.run(ListeningPlaces(sockets=(path,))))
    try:
        await until(lambda: server.listening and engine.active)
        yield server
    finally:
        server.stop()
        await asyncio.wait({serving}, timeout=10)


async def words(talker: Talker, number: int = 1) -> Message:
    await talker.say(UtteranceStart(utterance=number), np.full(8000, 9000, np.int16).tobytes(), End(utterance=number))
    return await talker.hear()


async def test_out_of_memory_the_next_size_hears_the_same_utterance(engine: PretendingEngine, tmp_path: Path) -> None:
    engine.fits = lambda name: name == "tiny"
    async with running(engine, tmp_path / "s") as server, talking(tmp_path / "s") as talker:
        assert await talker.hear() == Ready(model="small")
        final = await words(talker)
        assert isinstance(final, Final)
        assert final.text == "tiny"  # base was tried too, and was too large
        state, ladder = server.state(), server.state()["ladder"]
        assert (state["model"], state["wanted"], engine.loaded) == ("tiny", "small", ("tiny",))
        assert (ladder["reason"], ladder["moves"], ladder["below"]) == ("out of memory", 2, 2)


async def test_where_nothing_fits_it_says_so_and_goes_on(engine: PretendingEngine, tmp_path: Path) -> None:
    engine.fits = lambda name: False
    async with running(engine, tmp_path / "s"), talking(tmp_path / "s") as talker:
        await talker.hear()
        refused = await words(talker)
        assert isinstance(refused, Refused)
        assert (refused.code, "out of memory" in refused.detail) == ("failed", True)
        engine.fits = lambda name: True
        engine._loaded["tiny"].fits = engine.fits  # type: ignore[attr-defined]
        assert isinstance(await words(talker, 2), Final)


async def test_a_chosen_model_that_does_not_fit_is_told_with_its_stand_in(
    engine: PretendingEngine, tmp_path: Path
) -> None:
    engine.missing = {"small"}
    async with running(engine, tmp_path / "s") as server:
        await until(lambda: server.ladder)
        ladder = server.state()["ladder"]
        assert (ladder["current"], ladder["below"], ladder["reason"]) == ("base", 1, "small could not be loaded")


async def test_while_the_chosen_model_is_fetched_a_smaller_one_hears(
    engine: PretendingEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder_module, "LOOK_SECONDS", 0.05)
    here = {"tiny", "base"}
    monkeypatch.setattr(module, "model_path", lambda name: Path(name) if name in here else None)
    async with running(engine, tmp_path / "s") as server, talking(tmp_path / "s") as talker:
        assert await talker.hear() == Ready(model="base")
        await until(lambda: server.ladder)
        assert server.state()["ladder"]["reason"] == "small is not here yet"
        here.add("small")
        await until(lambda: server.state()["model"] == "small")
        final = await words(talker)
        assert isinstance(final, Final)
        assert (final.text, server.state()["ladder"]["reason"]) == ("small", "")


async def test_a_model_that_takes_for_ever_to_load_is_given_up(
    engine: PretendingEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    async with running(engine, path):
        monkeypatch.setattr(engine_module, "LOAD_SECONDS", 0.1)
        engine.slow = {"large"}
        async with talking(path, opening=Open(model="large")) as talker:
            refused = await talker.hear()
            assert isinstance(refused, Refused)
            assert "took too long to load" in refused.detail
        assert engine.loaded == ("small",)


async def test_it_tries_again_when_no_model_could_be_loaded(
    engine: PretendingEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRY_MODEL_AGAIN_SECONDS", 0.3)
    engine.missing = {"tiny", "base", "small"}

    async def give_back() -> None:
        await until(lambda: "tiny" in engine.loads)
        await asyncio.sleep(0.05)
        engine.missing.clear()

    giving_back = asyncio.create_task(give_back())
    async with running(engine, tmp_path / "s") as server:
        assert server.state()["model"] == "small"
    await giving_back
    assert engine.loads == ["small", "base", "tiny", "small"]


async def test_who_names_the_chosen_model_gets_whichever_size_of_it_serves(
    engine: PretendingEngine, tmp_path: Path
) -> None:
    async with (
        running(engine, tmp_path / "s") as server,
        talking(tmp_path / "s", opening=Open(model="small")) as talker,
    ):
        await talker.hear()
        await until(lambda: server.ladder)
        assert server.ladder is not None
        assert await server.ladder.fall("load 95%")
        final = await words(talker)
        assert isinstance(final, Final)
        assert final.text == "base"


@pytest.mark.parametrize(("here", "serves"), [({"tiny"}, "tiny"), ({"tiny", "small"}, "small"), ({"medium"}, "medium")])
async def test_who_names_a_model_that_is_not_here_gets_the_next_smaller_one(
    engine: PretendingEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: set[str], serves: str
) -> None:
    monkeypatch.setattr(weights, "model_path", lambda name: Path(name) if name in here else None)
    async with running(engine, tmp_path / "s"), talking(tmp_path / "s", opening=Open(model="medium")) as talker:
        assert await talker.hear() == Ready(model=serves)
        final = await words(talker)
        assert isinstance(final, Final)
        assert final.text == serves


async def test_a_change_of_size_in_mid_utterance_costs_no_words(engine: PretendingEngine, tmp_path: Path) -> None:
    sound = np.full(16_000, 9000, np.int16).tobytes()
    async with running(engine, tmp_path / "s") as server, talking(tmp_path / "s") as talker:
        await talker.hear()
        await until(lambda: server.ladder)
        assert server.ladder is not None
        await talker.say(UtteranceStart(utterance=1), sound)
        assert isinstance(partial := await talker.hear(), Partial)
        assert partial.text == "small"
        assert await server.ladder.fall("load 95%")
        await talker.say(sound, Pause(utterance=1))
        await until(lambda: server.scheduler.figures.decodes["early"])
        await talker.say(End(utterance=1))
        _, final = await talker.until_final()
        assert (final.text, engine.loaded) == ("base", ("base",))


async def test_other_models_stay_while_they_are_used_and_make_room_after(
    engine: PretendingEngine, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    async with running(engine, path) as server:
        async with talking(path, opening=Open(model="one")) as one, talking(path, opening=Open(model="two")) as two:
            assert (await one.hear(), await two.hear()) == (Ready(model="one"), Ready(model="two"))
            async with talking(path, opening=Open(model="three")) as three:
                refused = await three.hear()
                assert isinstance(refused, Refused)
                assert (refused.code, "one, two" in refused.detail) == ("no_model", True)
            heard = [await words(one), await words(two)]
            assert [final.text for final in heard if isinstance(final, Final)] == ["one", "two"]
        await until(lambda: server.streams == 0)
        async with talking(path, opening=Open(model="three")) as three:
            assert await three.hear() == Ready(model="three")
        assert engine.loaded == ("small", "two", "three")


async def test_a_model_that_hangs_ends_the_server(
    engine: PretendingEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever watches over it starts another."""
    monkeypatch.setattr(scheduler_module, "DECODE_SECONDS", 0.05)

    async def hang(*_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(engine, "decode", hang)
    server = SpeechServer(engine=engine, model="small", pace=DecodingPace())
    serving = asyncio.create_task(server.run(ListeningPlaces(sockets=(tmp_path / "s",))))
    await until(lambda: server.listening and engine.active)
    async with talking(tmp_path / "s") as talker:
        await talker.hear()
        refused = await words(talker)
        assert isinstance(refused, Refused)
        async with asyncio.timeout(10):
            with pytest.raises(DeviceFailedError):
                await serving


async def test_recordings_that_were_taken_in_find_room_for_all_their_pieces() -> None:
    server = SpeechServer(engine=PretendingEngine(), model="small", pace=DecodingPace(), limits=UploadLimits(at_once=5))
    waiting = [asyncio.create_task(server.scheduler.transcribe(np.zeros(10, np.float32))) for _ in range(5 * AT_ONCE)]
    await asyncio.sleep(0)
    assert server.scheduler.waiting == len(waiting)
    with pytest.raises(Busy):
        await server.scheduler.transcribe(np.zeros(10, np.float32))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
