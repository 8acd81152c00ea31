"""Where the speech goes, with sinks that play in real time as LiveKit's do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio
from livekit import rtc
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities, PlaybackFinishedEvent

from agent_runtime.face import route as route_module
from agent_runtime.face.route import SpeechRoute, beginning_before

RATE = 24_000
PIECE = 0.02  # seconds of a frame


class Sink(AudioOutput):
    """Plays in real time; a dead one takes everything and says nothing."""

    def __init__(self, label: str) -> None:
        super().__init__(label=label, sample_rate=RATE, capabilities=AudioOutputCapabilities(pause=False))
        self.dead = False
        self.refuses = False
        self.taking = 0.0  # seconds that it takes to take a frame
        self.needs = 0.0  # seconds of speech before it begins
        self.played: list[float] = []  # the number that each frame it was given consists of
        self.began: float | None = None
        self._seconds = 0.0
        self._end: asyncio.TimerHandle | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        if self.refuses:
            raise ConnectionError("no room")
        await asyncio.sleep(self.taking)
        await super().capture_frame(frame)
        self.played.append(float(np.frombuffer(frame.data, dtype=np.int16)[0]))
        if self.dead:
            return
        self._seconds += frame.duration
        if self.began is None and self._seconds > self.needs:
            self.began = time.time()
            self.on_playback_started(created_at=self.began)

    def flush(self) -> None:
        super().flush()
        if not self.dead and self.began is not None:
            left = self.began + self._seconds - time.time()
            self._end = asyncio.get_running_loop().call_later(left, self._finish, False)

    def clear_buffer(self) -> None:
        if not self.dead and self.began is not None:
            asyncio.get_running_loop().call_later(0.01, self._finish, True)

    def _finish(self, interrupted: bool) -> None:
        if self._end is not None:
            self._end.cancel()
        if self.began is None or self.dead:
            return
        position = min(self._seconds, time.time() - self.began) if interrupted else self._seconds
        self.began, self._seconds = None, 0.0
        self.on_playback_finished(playback_position=position, interrupted=interrupted)


class Talk:
    """A route between two sinks, with what it reported."""

    def __init__(self) -> None:
        self.room, self.face = Sink("room"), Sink("face")
        self.route = SpeechRoute(self.room)
        self.failures: list[str] = []
        self.ends: list[PlaybackFinishedEvent] = []
        self.begins = 0
        self.route.on_face_failed = self.failures.append
        self.route.on("playback_finished", self.ends.append)
        self.route.on("playback_started", self._on_started)

    def _on_started(self, _: object) -> None:
        self.begins += 1

    async def say(self, seconds: float, *, complete: bool = True) -> None:
        """Frames numbered 1, 2, 3 ... handed over faster than they play."""
        for number in range(1, round(seconds / PIECE) + 1):
            samples = np.full(round(PIECE * RATE), number, dtype=np.int16)
            await self.route.capture_frame(rtc.AudioFrame(samples.tobytes(), RATE, 1, len(samples)))
        if complete:
            self.route.flush()

    async def end(self) -> PlaybackFinishedEvent:
        async with asyncio.timeout(3):
            return await self.route.wait_for_playout()


@pytest_asyncio.fixture
async def talk() -> AsyncIterator[Talk]:
    talk = Talk()
    yield talk
    talk.route.clear_buffer()


async def test_without_a_face_the_room_speaks_and_with_one_the_face(talk: Talk) -> None:
    await talk.say(0.2)
    talk.route.use_face(talk.face)  # in mid-sentence: from the next one on
    first = await talk.end()
    await talk.say(0.1)
    second = await talk.end()
    assert (len(talk.room.played), len(talk.face.played)) == (10, 5)
    assert [round(end.playback_position, 3) for end in (first, second)] == [0.2, 0.1]
    assert talk.begins == 2
    assert not talk.failures


async def test_a_face_lost_in_mid_sentence_costs_no_word(talk: Talk) -> None:
    talk.route.use_face(talk.face)
    await talk.say(1.0)
    await asyncio.sleep(0.6)
    talk.face.dead = True
    talk.route.drop_face(time.time())
    end = await talk.end()
    assert not end.interrupted
    assert end.playback_position == pytest.approx(1.0)
    assert talk.room.played[-1] == 50
    assert 10 <= talk.room.played[0] <= 20  # from 0.3 s before 0.6 s on
    assert talk.room.played == sorted(talk.room.played)
    assert (talk.begins, len(talk.ends)) == (1, 1)


async def test_a_face_is_trusted_only_as_long_as_it_gave_a_sign_of_life(talk: Talk) -> None:
    talk.route.use_face(talk.face)
    await talk.say(1.0)
    await asyncio.sleep(0.1)
    well_at = time.time()
    await asyncio.sleep(0.7)
    talk.face.dead = True
    talk.route.drop_face(well_at)
    await talk.end()
    assert talk.room.played == list(range(1, 51))


async def test_a_sentence_that_a_face_never_began_is_said_again_in_full(talk: Talk) -> None:
    talk.face.dead = True
    talk.route.use_face(talk.face)
    await talk.say(0.2, complete=False)
    await asyncio.sleep(0.05)
    talk.route.drop_face(time.time())
    await asyncio.sleep(0.05)
    talk.route.flush()
    end = await talk.end()
    assert talk.room.played == list(range(1, 11))
    assert end.playback_position == pytest.approx(0.2)
    assert not end.interrupted


async def test_nothing_is_said_again_that_was_heard_to_its_end(talk: Talk) -> None:
    talk.route.use_face(talk.face)
    await talk.say(0.2)
    await asyncio.sleep(0.19)
    talk.face.dead = True
    talk.route.drop_face(time.time())
    assert (await talk.end()).playback_position == pytest.approx(0.2)
    assert talk.room.played == []


async def test_the_face_that_comes_back_speaks_from_the_next_sentence_on(talk: Talk) -> None:
    talk.route.use_face(talk.face)
    await talk.say(0.3)
    talk.route.drop_face(time.time())
    other = Sink("other")
    talk.route.use_face(other)
    await talk.end()
    assert talk.room.played[-1] == 15
    await talk.say(0.1)
    await talk.end()
    assert other.played == list(range(1, 6))


async def test_an_interruption_says_how_much_was_heard(talk: Talk) -> None:
    talk.route.use_face(talk.face)
    await talk.say(1.0)
    await asyncio.sleep(0.3)
    talk.route.clear_buffer()
    end = await talk.end()
    assert end.interrupted
    assert end.playback_position == pytest.approx(0.3, abs=0.08)


async def test_an_interruption_of_a_dead_face_ends_all_the_same(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_module, "CUT_SECONDS", 0.1)
    talk.route.use_face(talk.face)
    await talk.say(1.0)
    await asyncio.sleep(0.2)
    talk.face.dead = True
    talk.route.clear_buffer()
    end = await talk.end()
    assert end.interrupted
    assert end.playback_position == pytest.approx(0.2, abs=0.08)
    assert talk.failures == ["does not say where it was cut"]


async def test_an_interruption_while_the_first_sound_is_sent_leaves_nothing_of_it(talk: Talk) -> None:
    talk.face.taking = 0.05
    talk.route.use_face(talk.face)
    await talk.say(0.1)
    await asyncio.sleep(0.02)
    talk.route.clear_buffer()
    first = await talk.end()
    assert first.interrupted
    assert first.playback_position < PIECE
    assert talk.face.played == [1]
    talk.face.taking = 0.0
    await talk.say(0.1)
    second = await talk.end()
    assert second.playback_position == pytest.approx(0.1)
    assert not second.interrupted
    assert talk.face.played == [1, 1, 2, 3, 4, 5]
    assert talk.failures == []


async def test_an_interruption_before_the_first_sound_ends_at_zero(talk: Talk) -> None:
    talk.route.use_face(talk.face)
    await talk.say(0.1, complete=False)
    talk.route.flush()
    talk.route.clear_buffer()
    end = await talk.end()
    assert (end.playback_position, end.interrupted) == (0.0, True)


@pytest.mark.parametrize("with_face", [False, True])
async def test_a_pause_loses_nothing(talk: Talk, *, with_face: bool) -> None:
    sink = talk.room
    if with_face:
        talk.route.use_face(talk.face)
        sink = talk.face
    await talk.say(0.6)
    await asyncio.sleep(0.2)
    talk.route.pause()
    await asyncio.sleep(0.2)
    assert not talk.ends
    said_before = len(sink.played)
    talk.route.resume()
    end = await talk.end()
    assert not end.interrupted
    assert end.playback_position == pytest.approx(0.6)
    rest = sink.played[said_before:]
    assert 8 <= rest[0] <= 13
    assert rest == list(range(int(rest[0]), 31))


async def test_a_pause_that_ends_at_once_loses_nothing_either(talk: Talk) -> None:
    talk.route.use_face(talk.face)
    await talk.say(0.4)
    await asyncio.sleep(0.1)
    talk.route.pause()
    talk.route.resume()
    end = await talk.end()
    assert end.playback_position == pytest.approx(0.4)
    assert not end.interrupted
    assert talk.face.played[-1] == 20


async def test_what_is_said_during_a_pause_waits(talk: Talk) -> None:
    talk.route.pause()
    await talk.say(0.1)
    await asyncio.sleep(0.1)
    assert talk.room.played == []
    talk.route.resume()
    assert (await talk.end()).playback_position == pytest.approx(0.1)


async def test_a_face_lost_while_paused_is_followed_by_the_room(talk: Talk) -> None:
    talk.route.use_face(talk.face)
    await talk.say(0.5)
    await asyncio.sleep(0.2)
    talk.route.pause()
    await asyncio.sleep(0.05)
    talk.route.drop_face(time.time())
    await asyncio.sleep(0.1)
    assert talk.room.played == []
    talk.route.resume()
    assert (await talk.end()).playback_position == pytest.approx(0.5)
    assert talk.room.played[-1] == 25


async def test_an_interruption_after_a_pause_ends_where_it_was_cut(talk: Talk) -> None:
    talk.route.use_face(talk.face)
    await talk.say(0.5)
    await asyncio.sleep(0.2)
    talk.route.pause()
    await asyncio.sleep(0.1)
    talk.route.clear_buffer()
    end = await talk.end()
    assert end.interrupted
    assert end.playback_position == pytest.approx(0.2, abs=0.08)


async def test_a_face_is_sent_little_more_than_is_heard(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_module, "LEAD_SECONDS", 0.2)
    monkeypatch.setattr(route_module, "LEAD_LOOK_SECONDS", 0.01)
    talk.route.use_face(talk.face)
    await talk.say(1.0)
    await asyncio.sleep(0.3)
    assert talk.face.began is not None
    heard = time.time() - talk.face.began
    assert heard < len(talk.face.played) * PIECE < heard + 0.2 + 2 * PIECE
    assert (await talk.end()).playback_position == pytest.approx(1.0)
    assert talk.face.played == list(range(1, 51))


async def test_a_face_that_has_not_begun_is_sent_only_the_beginning(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route_module, "LEAD_SECONDS", 0.2)
    talk.face.dead = True
    talk.route.use_face(talk.face)
    await talk.say(1.0)
    await asyncio.sleep(0.3)
    assert 0.2 <= len(talk.face.played) * PIECE <= 0.2 + 2 * PIECE
    talk.route.drop_face(time.time())
    await talk.end()
    assert talk.room.played == list(range(1, 51))


async def test_a_face_that_does_not_begin_has_failed(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_module, "START_SECONDS", 0.1)
    talk.face.dead = True
    talk.route.use_face(talk.face)
    await talk.say(1.0)
    await asyncio.sleep(0.2)
    assert talk.failures == ["does not begin to speak"]


async def test_a_face_that_needs_more_speech_than_there_was_yet_is_waited_for(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route_module, "START_SECONDS", 0.2)
    talk.face.needs = 0.25
    talk.route.use_face(talk.face)
    for _ in range(3):  # a slow language model
        await talk.say(0.1, complete=False)
        await asyncio.sleep(0.15)
    talk.route.flush()
    assert (await talk.end()).playback_position == pytest.approx(0.3)
    assert talk.failures == []
    assert talk.room.played == []


async def test_a_face_that_does_not_end_has_failed(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_module, "END_SECONDS", 0.1)
    talk.route.use_face(talk.face)
    await talk.say(0.2)
    await asyncio.sleep(0.05)
    talk.face.dead = True
    await asyncio.sleep(0.4)
    assert talk.failures == ["does not end an utterance"]


async def test_a_face_that_refuses_speech_has_failed(talk: Talk) -> None:
    talk.face.refuses = True
    talk.route.use_face(talk.face)
    await talk.say(0.1)
    await asyncio.sleep(0.05)
    assert talk.failures == ["takes no speech"]
    talk.route.drop_face(time.time())
    assert (await talk.end()).playback_position == pytest.approx(0.1)


def sound(*parts: tuple[float, int]) -> list[rtc.AudioFrame]:
    """A frame for each (seconds, loudness)."""
    frames = []
    for seconds, level in parts:
        samples = (level * np.sin(np.arange(round(seconds * RATE)) / 5)).astype(np.int16)
        frames.append(rtc.AudioFrame(samples.tobytes(), RATE, 1, len(samples)))
    return frames


def test_it_goes_on_from_the_last_pause() -> None:
    frames = sound((1.0, 8000), (0.2, 0), (1.0, 8000))
    assert 1.0 <= beginning_before(frames, 1.8) <= 1.2


@pytest.mark.parametrize(("position", "begins"), [(0.0, 0.0), (0.2, 0.0), (1.5, 1.2)])
def test_without_a_pause_it_goes_a_little_back(position: float, begins: float) -> None:
    assert beginning_before(sound((2.0, 8000)), position) == pytest.approx(begins)
