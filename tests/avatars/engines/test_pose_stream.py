"""What the stream yields, in which order, whatever is pushed, flushed, cleared or closed when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatars.engines import atlas as atlas_module
from avatars.engines.atlas import Atlas, open_atlas
from avatars.engines.base import AudioChunk, FaceState, PixelFormat, SegmentEnd, StreamItem, VideoFormat, VideoFrame
from avatars.engines.pose_plan import Grid
from avatars.engines.pose_stream import MAX_QUEUED, PoseStream, SpeechQueue
from molts.errors import BadInput
from tests.avatars.engines.artist import RoundFace
from tests.avatars.engines.speech import RATE, TEXT, best_lag, envelope, say

SIDE = 128
VIDEO = VideoFormat(SIDE, SIDE)
FRAME = 1.0 / VIDEO.fps
DEADLINE = 10.0


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atlas_module, "GRIDS", (Grid(5, 3),))
        return open_atlas(RoundFace(key="for streams"), SIDE, SIDE, folder=tmp_path_factory.mktemp("poses"))


def noise(count: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return np.random.default_rng(seed).integers(-9_000, 9_000, count).astype(np.int16)


def chunk(count: int, rate: int = 16_000, seed: int = 0) -> AudioChunk:
    return AudioChunk(noise(count, seed), rate)


def openness(frame: VideoFrame) -> int:
    """How high the dark of the open mouth is, in pixels; at most 2 when it is closed."""
    luma = np.asarray(frame.data)[: SIDE * SIDE].reshape(SIDE, SIDE)
    return int((luma[SIDE // 2 : SIDE * 4 // 5, SIDE // 3 : SIDE * 2 // 3] < 70).sum(axis=0).max())


@dataclass
class Seen:
    """What came out of a stream."""

    items: list[StreamItem] = field(default_factory=list)
    openness: list[int] = field(default_factory=list)

    @property
    def frames(self) -> list[VideoFrame]:
        return [item for item in self.items if isinstance(item, VideoFrame)]

    @property
    def ends(self) -> int:
        return sum(isinstance(item, SegmentEnd) for item in self.items)

    @property
    def audio(self) -> list[AudioChunk]:
        return [item for item in self.items if isinstance(item, AudioChunk)]

    def samples(self) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
        return np.concatenate([np.zeros(0, dtype=np.int16), *(item.samples for item in self.audio)])


async def read(
    items: AsyncIterator[StreamItem], *, ends: int | None = None, frames: int | None = None, seen: Seen | None = None
) -> Seen:
    """Read until so many utterances ended, or so many frames came, since the call."""
    seen = seen or Seen()
    async with asyncio.timeout(DEADLINE):
        while (ends is None or ends > 0) and (frames is None or frames > 0):
            item = await anext(items)
            seen.items.append(item)
            if isinstance(item, VideoFrame):
                seen.openness.append(openness(item))
                frames = frames - 1 if frames is not None else None
            elif isinstance(item, SegmentEnd):
                ends = ends - 1 if ends is not None else None
    return seen


# -- order and counts -------------------------------------------------------------------------------------------------
@given(
    sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=20),
    rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000]),
)
@settings(max_examples=40, deadline=None)
def test_sound_comes_out_as_it_went_in(atlas: Atlas, sizes: list[int], rate: int) -> None:
    async def run() -> None:
        stream = PoseStream(atlas, VIDEO)
        pushed = [chunk(size, rate, seed) for seed, size in enumerate(sizes)]
        for each in pushed:
            await stream.push_audio(each)
        await stream.flush()
        seen = await read(aiter(stream), ends=1)
        await stream.aclose()

        total = sum(sizes)
        assert np.array_equal(seen.samples(), np.concatenate([each.samples for each in pushed]))
        assert {each.sample_rate for each in seen.audio} <= {rate}
        assert len(seen.frames) == int(np.ceil(round(total / rate * VIDEO.fps, 6)))
        assert {frame.duration for frame in seen.frames} <= {FRAME}
        kinds = [type(item) for item in seen.items]
        assert kinds == [AudioChunk, VideoFrame] * len(seen.frames) + [SegmentEnd]
        # Sound and pictures never part by more than half a sample, however long the utterance is.
        heard = 0
        for number, each in enumerate(seen.audio[:-1], 1):
            heard += len(each.samples)
            assert abs(heard - number * rate / VIDEO.fps) <= 0.5

    asyncio.run(run())


ACTIONS = st.one_of(
    st.tuples(st.just("push"), st.integers(1, 4_000)),
    st.tuples(st.just("flush"), st.just(0)),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("read"), st.integers(1, 12)),
    st.tuples(st.just("state"), st.integers(0, 3)),
)


@given(st.lists(ACTIONS, max_size=25))
@settings(max_examples=60, deadline=None)
def test_any_course_of_events_keeps_the_order(atlas: Atlas, script: list[tuple[str, int]]) -> None:
    """What is not cleared comes out, once, in order; what is cleared never does. Ends stand where they were put."""

    async def run() -> None:
        stream = PoseStream(atlas, VIDEO)
        items = aiter(stream)
        waiting: list[int | None] = []  # values that were pushed and not yet seen; None: an end
        value = 0

        def take(item: StreamItem) -> None:
            if isinstance(item, AudioChunk):
                count = len(item.samples)
                assert item.samples.tolist() == waiting[:count]
                del waiting[:count]
            elif isinstance(item, SegmentEnd):
                assert waiting.pop(0) is None

        for action, argument in [*script, ("flush", 0)]:
            if action == "push":
                values = [(value + place) % 30_000 for place in range(argument)]
                value += argument
                await stream.push_audio(AudioChunk(np.array(values, dtype=np.int16), 16_000))
                waiting += values
            elif action == "flush":
                await stream.flush()
                waiting.append(None)
            elif action == "clear":
                stream.clear_buffer()
                waiting.clear()
            elif action == "state":
                stream.set_state(list(FaceState)[argument])
            else:
                for _ in range(argument):
                    take(await anext(items))
        async with asyncio.timeout(DEADLINE):
            while waiting:
                take(await anext(items))
        assert isinstance(await anext(items), VideoFrame)
        await stream.aclose()

    asyncio.run(run())


async def test_utterances_follow_each_other(atlas: Atlas) -> None:
    stream = PoseStream(atlas, VIDEO)
    for number in range(3):
        await stream.push_audio(chunk(1_000, seed=number))
        await stream.flush()
    seen = await read(aiter(stream), ends=3)
    assert [type(item).__name__[0] for item in seen.items] == list("AVAVS" * 3)
    assert [len(each.samples) for each in seen.audio] == [640, 360] * 3


async def test_a_flush_without_sound_ends_an_empty_utterance(atlas: Atlas) -> None:
    stream = PoseStream(atlas, VIDEO)
    await stream.flush()
    await stream.flush()
    assert (await read(aiter(stream), ends=2)).items == [SegmentEnd(), SegmentEnd()]


async def test_another_rate_in_mid_utterance_loses_nothing(atlas: Atlas) -> None:
    stream = PoseStream(atlas, VIDEO)
    pushed = [chunk(1_000, 16_000, 1), chunk(3_333, 24_000, 2), chunk(700, 8_000, 3)]
    for each in pushed:
        await stream.push_audio(each)
    await stream.flush()
    seen = await read(aiter(stream), ends=1)
    for rate, each in ((16_000, pushed[0]), (24_000, pushed[1]), (8_000, pushed[2])):
        out = np.concatenate([item.samples for item in seen.audio if item.sample_rate == rate])
        assert np.array_equal(out, each.samples)
    assert len(seen.frames) == int(np.ceil(sum(each.duration for each in pushed) * VIDEO.fps))


# -- the picture ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("voice", ["en-us", "en-us+f3", "en-gb+m3"])
async def test_the_mouth_that_is_seen_moves_with_the_sound(atlas: Atlas, voice: str) -> None:
    sound = say(TEXT, voice)
    stream = PoseStream(atlas, VIDEO)
    await stream.push_audio(AudioChunk(sound, RATE))
    await stream.flush()
    seen = await read(aiter(stream), ends=1)
    correlation, lag = best_lag(np.array(seen.openness, dtype=float), envelope(sound))
    assert correlation >= 0.7
    assert abs(lag) * FRAME <= 0.040


async def test_frames_are_i420_of_the_wanted_size(atlas: Atlas) -> None:
    frame = (await read(aiter(PoseStream(atlas, VIDEO)), frames=1)).frames[0]
    assert (frame.width, frame.height, frame.pixels) == (SIDE, SIDE, PixelFormat.I420)
    assert np.asarray(frame.data).nbytes == SIDE * SIDE * 3 // 2


async def test_idle_frames_are_slower_and_told_when_unchanged(atlas: Atlas) -> None:
    frames = (await read(aiter(PoseStream(atlas, VIDEO, seed=1)), frames=120)).frames
    assert not frames[0].unchanged
    assert {frame.duration for frame in frames[20:]} == {1.0 / VIDEO.idle_fps}
    assert 20 < sum(frame.unchanged for frame in frames) < 115, "mostly still, never frozen"


async def test_a_frame_that_is_told_unchanged_is(atlas: Atlas) -> None:
    stream, last = PoseStream(atlas, VIDEO, seed=2), b""
    await stream.push_audio(chunk(16_000))
    await stream.flush()
    items = aiter(stream)
    for _ in range(200):
        item = await anext(items)
        if isinstance(item, VideoFrame):
            data = np.asarray(item.data).tobytes()
            assert (data == last) == item.unchanged
            last = data


async def test_clearing_closes_the_mouth_with_the_next_frame(atlas: Atlas) -> None:
    sound = say("[[a:a:a:]]", "de")
    for cut_after in (AudioChunk, VideoFrame):
        stream = PoseStream(atlas, VIDEO)
        items = aiter(stream)
        await stream.push_audio(AudioChunk(sound, RATE))
        seen = await read(items, frames=8)
        assert seen.openness[-1] > 5
        while not isinstance(await anext(items), cut_after):
            pass
        stream.clear_buffer()
        after = await read(items, frames=10)
        assert max(after.openness) <= 2
        assert not after.audio
        assert not after.ends


async def test_speech_goes_on_after_a_clear(atlas: Atlas) -> None:
    stream = PoseStream(atlas, VIDEO)
    items = aiter(stream)
    await stream.push_audio(chunk(50_000, seed=1))
    await read(items, frames=3)
    stream.clear_buffer()
    stream.clear_buffer()
    await read(items, frames=3)
    fresh = chunk(2_000, seed=2)
    await stream.push_audio(fresh)
    await stream.flush()
    assert np.array_equal((await read(items, ends=1)).samples(), fresh.samples)


# -- pace -------------------------------------------------------------------------------------------------------------
async def test_the_first_sound_is_not_kept_for_more(atlas: Atlas) -> None:
    """With 10 ms of sound and no more to come the stream waits for a frame's time, and then shows what it has."""
    stream = PoseStream(atlas, VIDEO)
    items = aiter(stream)
    await read(items, frames=2)
    small = chunk(160)
    await stream.push_audio(small)
    started = asyncio.get_running_loop().time()
    seen = await read(items, frames=1)
    assert asyncio.get_running_loop().time() - started > FRAME * 0.9
    assert np.array_equal(seen.samples(), small.samples)


async def test_a_whole_frame_of_sound_comes_out_at_once(atlas: Atlas) -> None:
    stream = PoseStream(atlas, VIDEO)
    items = aiter(stream)
    await read(items, frames=2)
    await stream.push_audio(chunk(640))
    first, second = await anext(items), await anext(items)
    assert isinstance(first, AudioChunk)
    assert len(first.samples) == 640
    assert isinstance(second, VideoFrame)


@pytest.mark.parametrize("fps", [12, 24, 25, 30])
def test_speech_that_came_late_is_not_made_up_for_in_one_frame(fps: int) -> None:
    """The mouth would stand still for all the time that was missing before."""
    queue = SpeechQueue(fps)
    for _ in range(30):  # a voice that is slower than its speech
        queue.push(noise(640), 16_000)
        while queue.has_frame:
            queue.take()
        queue.take()
    queue.push(noise(16_000), 16_000)
    heard, _, _ = queue.take()
    assert sum(each.duration for each in heard) == pytest.approx(1 / fps, abs=1e-4)


async def test_a_pause_within_an_utterance_is_filled_with_frames(atlas: Atlas) -> None:
    stream = PoseStream(atlas, VIDEO)
    items = aiter(stream)
    await stream.push_audio(chunk(640))
    seen = await read(items, frames=6)
    assert len(seen.audio) == 1
    assert {frame.duration for frame in seen.frames} == {FRAME}, "the next sentence must not wait for an idle frame"
    assert seen.openness[-1] <= 2
    await stream.push_audio(chunk(640))
    await stream.flush()
    await read(items, ends=1, seen=seen)
    assert len(seen.audio) == 2


async def test_speech_pushed_in_real_time_has_no_gap(atlas: Atlas) -> None:
    """20 ms at a time and no more ahead, as a realtime model sends it, with frames read as they come."""
    stream = PoseStream(atlas, VIDEO)
    items = aiter(stream)

    async def push() -> None:
        for _ in range(20):
            await stream.push_audio(chunk(320))
            await asyncio.sleep(0.001)
        await stream.flush()

    pushing = asyncio.create_task(push())
    await asyncio.sleep(0)
    seen = await read(items, ends=1)
    await pushing
    kinds = [type(item) for item in seen.items[:-1]]
    assert all(kinds[place] is AudioChunk for place in range(0, len(kinds), 2)), "no frame without sound in between"


async def test_whoever_pushes_too_much_waits(atlas: Atlas) -> None:
    stream = PoseStream(atlas, VIDEO)
    second = chunk(16_000)
    for _ in range(int(MAX_QUEUED)):
        await asyncio.wait_for(stream.push_audio(second), 1)
    late = asyncio.create_task(stream.push_audio(second))
    await asyncio.sleep(0.01)
    assert not late.done()
    await read(aiter(stream), frames=2)
    await asyncio.wait_for(late, 1)


async def test_a_push_that_waits_is_dropped_by_a_clear(atlas: Atlas) -> None:
    stream = PoseStream(atlas, VIDEO)
    await stream.push_audio(chunk(16_000 * 30))
    late = asyncio.create_task(stream.push_audio(chunk(1_000, seed=9)))
    await asyncio.sleep(0.01)
    stream.clear_buffer()
    await asyncio.wait_for(late, 1)
    assert not (await read(aiter(stream), frames=3)).audio


async def test_reading_leaves_the_loop_to_others(atlas: Atlas) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    await read(aiter(PoseStream(atlas, VIDEO)), frames=50)
    other.cancel()
    assert turns >= 50


# -- the end ----------------------------------------------------------------------------------------------------------
async def test_closing_ends_the_reading(atlas: Atlas) -> None:
    stream = PoseStream(atlas, VIDEO)
    await stream.push_audio(chunk(640 + 10))
    seen = []

    async def reader() -> None:
        async for item in stream:
            seen.append(item)
            await asyncio.sleep(0.001)

    reading = asyncio.create_task(reader())
    await asyncio.sleep(0.02)
    await stream.aclose()
    await stream.aclose()
    await asyncio.wait_for(reading, 1)
    assert seen
    await asyncio.wait_for(stream.push_audio(chunk(100)), 1)  # too late, and no harm


async def test_closing_frees_who_waits_to_push_and_who_waits_for_sound(atlas: Atlas) -> None:
    stream = PoseStream(atlas, VIDEO)
    await stream.push_audio(chunk(16_000 * 30))
    late = asyncio.create_task(stream.push_audio(chunk(1_000)))
    await asyncio.sleep(0.01)
    await stream.aclose()
    await asyncio.wait_for(late, 1)

    stream = PoseStream(atlas, VIDEO)
    await stream.push_audio(chunk(10))
    waiting = asyncio.create_task(read(aiter(stream), frames=1))
    await asyncio.sleep(0.005)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 1)


@pytest.mark.parametrize(
    "audio",
    [
        AudioChunk(np.zeros((10, 2), dtype=np.int16), 16_000),
        AudioChunk(np.zeros(10, dtype=np.float32), 16_000),
        AudioChunk(np.zeros(10, dtype=np.int16), 0),
    ],
)
async def test_what_is_no_speech_is_refused(atlas: Atlas, audio: AudioChunk) -> None:
    with pytest.raises(BadInput):
        await PoseStream(atlas, VIDEO).push_audio(audio)
