"""What every engine promises, on each that this machine can run: the neural ones on stand-ins with the models' real
interfaces and shapes, in processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from avatars.engines import get_engine
from avatars.engines.base import (
    AudioChunk,
    EngineFailed,
    Face,
    LipSyncEngine,
    LipSyncStream,
    SegmentEnd,
    StreamItem,
    VideoFormat,
    VideoFrame,
)
from avatars.engines.config import EngineConfig, configure, engine_config
from tests.avatars.engines.contract import push, read_utterance, take
from tests.avatars.engines.hosts import HostProcess, fault, lay_out, running, speech
from tests.avatars.engines.portraits import SMILING
from tests.fixtures.engines.common import faults

VIDEO = VideoFormat(width=128, height=128)
DRAWN = ("portrait",)  # `puppet` has the same stream; its poses take half a minute to draw
HOSTED = ("wav2lip", "synctalk", "synctalk_2d", "ditto", "musetalk", "sadtalker")
OFTEN = ("wav2lip", "synctalk", "sadtalker")
"""One hears a spectrum, one sound, one is too slow to talk; the others differ in their adapters (test_adapters.py)."""
LEVELS = [0.05, 0.3, 0.05, 0.3, 0.3, 0.05]


@dataclass
class Subject:
    """An engine, and a face for it."""

    engine: LipSyncEngine
    face: Face
    host: HostProcess | None

    async def open(self) -> LipSyncStream:
        return await self.engine.open_stream(self.face, VIDEO)


@pytest.fixture(
    scope="module",
    params=[*DRAWN, *OFTEN, *(pytest.param(key, marks=pytest.mark.soak) for key in HOSTED if key not in OFTEN)],
)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    key = request.param
    folder = tmp_path_factory.mktemp(key)
    before = engine_config()
    if key in DRAWN:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("avatars.engines.cache._folder", folder)
            yield Subject(get_engine(key), Face(key="1", portrait=SMILING if key == "portrait" else None), None)
        return
    with contextlib.ExitStack() as stack:
        cwd, env = lay_out(key, folder)
        host = stack.enter_context(running(folder, key, "--slots", "4", cwd=cwd, env=env))
        configure(EngineConfig(run_dir=folder, addresses={key: host.address}))
        stack.callback(configure, before)
        yield Subject(get_engine(key), Face(key="1", portrait=SMILING), host)


async def test_it_is_ready_and_says_how_many_it_serves(subject: Subject) -> None:
    health = await asyncio.to_thread(subject.engine.health)
    assert health.ready
    if subject.host is not None:
        assert health.slots == 4


@pytest.mark.parametrize("rate", [16_000, 24_000])
async def test_speech_comes_out_unchanged_with_a_frame_for_each_of_its_fortieths(subject: Subject, rate: int) -> None:
    samples = speech(LEVELS, rate=rate)[:-37]  # ends inside a frame
    stream = await subject.open()
    try:
        await push(stream, samples, rate)
        await stream.flush()
        heard = await read_utterance(aiter(stream))
    finally:
        await stream.aclose()
    assert heard.sample_rate == rate
    assert np.array_equal(heard.samples, samples)
    assert len(heard.bright) == math.ceil(len(samples) * VIDEO.fps / rate)


async def test_the_mouth_follows_the_sound(subject: Subject) -> None:
    if subject.host is None:
        pytest.skip("a drawn mouth is no lamp: it is measured in tests of its own")
    stream = await subject.open()
    try:
        await push(stream, speech(LEVELS))
        await stream.flush()
        heard = await read_utterance(aiter(stream))
    finally:
        await stream.aclose()
    loud = np.repeat(LEVELS, 5)
    lags = range(-2, 3)
    bright = np.array(heard.bright)
    fits = [float(np.corrcoef(np.roll(bright, -lag)[2:-2], loud[2:-2])[0, 1]) for lag in lags]
    assert max(fits) > 0.7
    assert abs(lags[int(np.argmax(fits))]) <= 1, f"best at a lag of {lags[int(np.argmax(fits))]} frames: {fits}"


async def test_between_utterances_it_shows_the_face_at_rest(subject: Subject) -> None:
    stream = await subject.open()
    try:
        items = aiter(stream)
        for item in await take(items, 5):
            assert isinstance(item, VideoFrame)
            assert (item.width, item.height) == (128, 128)
            assert np.frombuffer(item.data, np.uint8).size in (128 * 128 * 3, 128 * 128 * 3 // 2)
            assert item.duration > 0
        for _ in range(2):
            await push(stream, speech([0.3, 0.1]))
            await stream.flush()
            heard = await read_utterance(items)
            assert len(heard.bright) == 10
            assert heard.ended
            assert all(isinstance(item, VideoFrame) for item in await take(items, 8))
    finally:
        await stream.aclose()


async def test_an_interruption_drops_what_has_not_come_out(subject: Subject) -> None:
    stream = await subject.open()
    try:
        items = aiter(stream)
        await push(stream, speech([0.3] * 10))
        if not subject.engine.live:
            await stream.flush()
        spoken: list[StreamItem] = []
        async with asyncio.timeout(20):
            while sum(isinstance(item, AudioChunk) for item in spoken) < 3:
                spoken.append(await anext(items))
        stream.clear_buffer()
        after = await take(items, 10)
        assert not any(isinstance(item, (AudioChunk, SegmentEnd)) for item in after[1:]), "frames at rest only"
        second = speech([0.1, 0.3, 0.1])
        await push(stream, second)
        await stream.flush()
        heard = await read_utterance(items)
        assert np.array_equal(heard.samples, second)
        assert len(heard.bright) == 15
    finally:
        await stream.aclose()


async def test_conversations_at_once_are_not_mixed_up(subject: Subject) -> None:
    """Each says something else; each gets its own frames: loud is bright where it was loud itself."""
    patterns = [[0.3, 0.05] * 3, [0.05, 0.3] * 3, [0.3, 0.3, 0.05] * 2]

    async def talk(pattern: list[float]) -> list[float]:
        stream = await subject.open()
        try:
            items = aiter(stream)
            for _ in range(2):
                await push(stream, speech(pattern))
                await stream.flush()
                heard = await read_utterance(items)
                assert np.array_equal(heard.samples, speech(pattern))
            return heard.bright
        finally:
            await stream.aclose()

    talks = await asyncio.gather(*map(talk, patterns))
    if subject.host is None:
        return
    for pattern, bright in zip(patterns, talks, strict=True):
        middles = [bright[5 * n + 2] for n in range(6)]
        loud = [value for value, level in zip(middles, pattern, strict=True) if level > 0.2]
        quiet = [value for value, level in zip(middles, pattern, strict=True) if level < 0.2]
        assert min(loud) > max(quiet) + 5, (pattern, middles)


async def test_it_ends_when_it_is_closed(subject: Subject) -> None:
    stream = await subject.open()
    items = aiter(stream)
    await take(items, 2)
    await stream.aclose()
    await stream.aclose()
    assert [item async for item in items] == []


async def test_an_utterance_without_sound_has_an_end_too(subject: Subject) -> None:
    """Whoever flushes may wait for it."""
    stream = await subject.open()
    try:
        items = aiter(stream)
        await stream.push_audio(AudioChunk(np.zeros(0, np.int16), 16_000))
        await stream.flush()
        heard = await read_utterance(items)
        assert heard.ended
        assert len(heard.samples) == 0
        await push(stream, speech([0.1]))
        await stream.flush()
        assert len((await read_utterance(items)).bright) == 5
    finally:
        await stream.aclose()


@pytest.mark.parametrize("seconds", [0.001, 0.05, 0.21])
async def test_a_short_sound_comes_out_whole(subject: Subject, seconds: float) -> None:
    samples = speech([0.3], seconds=seconds)
    stream = await subject.open()
    try:
        await push(stream, samples)
        await stream.flush()
        heard = await read_utterance(aiter(stream))
        assert np.array_equal(heard.samples, samples)
        assert len(heard.bright) == math.ceil(seconds * 25)
    finally:
        await stream.aclose()


# -- What goes wrong in the model --------------------------------------------------------------------------------------
def hears_faults(subject: Subject) -> None:
    if subject.host is None:
        pytest.skip("it has no model")
    if subject.engine.key in ("wav2lip", "synctalk_2d"):
        pytest.skip("its stand-in hears a spectrum; its faults are in test_host.py")


async def test_a_frame_of_the_wrong_shape_is_named(subject: Subject) -> None:
    hears_faults(subject)
    stream = await subject.open()
    try:
        await push(stream, np.concatenate([fault(faults.SHAPE, seconds=2), speech([0.1] * 10)]))
        await stream.flush()
        with pytest.raises(EngineFailed) as failure:
            await read_utterance(aiter(stream))
        expected = {"sadtalker": "found no face"}.get(subject.engine.key, "shape")
        assert expected in failure.value.detail
        assert subject.engine.label in failure.value.detail
    finally:
        await stream.aclose()


async def test_a_failed_conversation_leaves_the_others_alone(subject: Subject) -> None:
    hears_faults(subject)
    good, bad = await subject.open(), await subject.open()
    try:
        await push(bad, np.concatenate([fault(faults.RAISE, seconds=2), speech([0.1] * 10)]))
        await bad.flush()
        await push(good, speech(LEVELS))
        await good.flush()
        with pytest.raises(EngineFailed, match="CUDA out of memory"):
            await read_utterance(aiter(bad))
        assert len((await read_utterance(aiter(good))).bright) == 30
    finally:
        await good.aclose()
        await bad.aclose()


async def test_a_slow_chunk_loses_nothing(subject: Subject) -> None:
    hears_faults(subject)
    samples = np.concatenate([speech([0.1] * 3), fault(faults.SLOW, seconds=0.08), speech([0.1] * 3)])
    stream = await subject.open()
    try:
        await push(stream, samples)
        await stream.flush()
        heard = await read_utterance(aiter(stream))
        assert np.array_equal(heard.samples, samples)
        assert len(heard.bright) == 32
    finally:
        await stream.aclose()


async def test_a_crash_in_mid_sentence_is_told_and_the_host_comes_back(subject: Subject) -> None:
    """Last: the host is another one afterwards."""
    if subject.host is None:
        pytest.skip("it has no host")
    pid = subject.host.health()["pid"]
    stream = await subject.open()
    try:
        items = aiter(stream)
        await push(stream, speech(LEVELS))
        if subject.engine.key in ("wav2lip", "synctalk_2d"):
            subject.host.kill()
        else:
            await push(stream, np.concatenate([fault(faults.CRASH, seconds=2), speech([0.1] * 10)]))
            await stream.flush()
        with pytest.raises(EngineFailed, match="is gone"):
            await read_utterance(items)
    finally:
        await stream.aclose()
    await asyncio.to_thread(subject.host.wait_ready, not_pid=pid)
    stream = await subject.open()
    await push(stream, speech(LEVELS))
    await stream.flush()
    assert len((await read_utterance(aiter(stream))).bright) == 30
    await stream.aclose()
