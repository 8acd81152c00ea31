"""A hosted face is believed as far as it is heard. The clock is turned by hand."""

from __future__ import annotations

import pytest
from livekit import rtc
from livekit.agents.voice.io import AudioOutput, AudioOutputCapabilities

from agent_runtime.face import heard
from agent_runtime.face.heard import SILENT_SECONDS, HeardOutput

RATE = 24_000


class Plugin(AudioOutput):
    """A vendor's output: says that it plays as soon as it is given something."""

    def __init__(self) -> None:
        super().__init__(label="plugin", capabilities=AudioOutputCapabilities(pause=False), sample_rate=RATE)
        self.calls: list[str] = []

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        self.calls.append("frame")
        self.on_playback_started(created_at=0.0)

    def flush(self) -> None:
        super().flush()
        self.calls.append("flush")

    def clear_buffer(self) -> None:
        self.calls.append("clear")


class Clock:
    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(heard, "time", clock)
    return clock


class Face:
    """The output under test with what it says."""

    def __init__(self) -> None:
        self.plugin = Plugin()
        self.output = HeardOutput(self.plugin)
        self.started: list[float] = []
        self.finished: list[tuple[float, bool]] = []
        self.output.on("playback_started", lambda event: self.started.append(event.created_at))
        self.output.on(
            "playback_finished", lambda event: self.finished.append((event.playback_position, event.interrupted))
        )

    async def say(self, seconds: float) -> None:
        samples = round(RATE * seconds)
        await self.output.capture_frame(rtc.AudioFrame(bytes(2 * samples), RATE, 1, samples))

    def sound_for(self, clock: Clock, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            clock.now += 0.1
            self.output.note_sound()


async def test_it_begins_when_it_is_heard_not_when_it_is_given_the_words(clock: Clock) -> None:
    face = Face()
    face.output.note_sound()  # of what was before
    await face.say(2.0)
    assert face.started == []
    clock.now += 0.7
    face.output.note_sound()
    face.sound_for(clock, 1.0)
    assert face.started == [1000.7]


async def test_it_passes_on_what_it_is_given_and_told(clock: Clock) -> None:
    face = Face()
    await face.say(1.0)
    face.output.flush()
    face.output.clear_buffer()
    face.plugin.on_playback_finished(playback_position=0.4, interrupted=True)
    assert face.plugin.calls == ["frame", "flush", "clear"]
    assert face.finished == [(0.4, True)]
    assert not face.output.is_talking


async def test_silence_in_mid_sentence_is_found_with_when_it_was_last_heard(clock: Clock) -> None:
    face = Face()
    await face.say(10.0)
    face.output.flush()
    face.sound_for(clock, 4.0)
    last = clock.now
    clock.now += SILENT_SECONDS - 0.1
    assert not face.output.is_silent
    clock.now += 0.2
    assert face.output.is_silent
    assert face.output.heard_at == last


async def test_who_has_said_all_may_be_silent(clock: Clock) -> None:
    face = Face()
    await face.say(2.0)
    face.output.flush()
    face.sound_for(clock, 2.0)
    face.plugin.on_playback_finished(playback_position=2.0, interrupted=False)
    clock.now += 60
    assert not face.output.is_silent


async def test_who_waits_for_more_words_may_be_silent(clock: Clock) -> None:
    face = Face()
    await face.say(2.0)
    face.sound_for(clock, 2.1)
    clock.now += 20  # the voice is slow
    assert not face.output.is_silent
    await face.say(5.0)
    clock.now += 1
    assert not face.output.is_silent
    clock.now += SILENT_SECONDS
    assert face.output.is_silent


async def test_one_that_does_not_begin_is_left_to_the_route(clock: Clock) -> None:
    face = Face()
    await face.say(10.0)
    clock.now += 60
    assert not face.output.is_silent
