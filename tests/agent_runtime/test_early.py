from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from livekit.rtc._proto.track_pb2 import AudioTrackFeature

from agent_runtime import early
from agent_runtime.early import hear_early_words


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ARRIVAL_SECONDS", "VOICE_SECONDS", "SENTENCE_SECONDS", "RECOGNISER_SECONDS"):
        monkeypatch.setattr(early, name, 0.3)


class Scene:
    """A visitor with a microphone that was, or was not, recorded before the agent came."""

    def __init__(self, *, recorded: bool) -> None:
        features = [AudioTrackFeature.TF_PRECONNECT_BUFFER] if recorded else []
        microphone = SimpleNamespace(sid="TR_1", audio_features=features)
        self.visitor: Any = SimpleNamespace(identity="visitor-1", track_publications={"TR_1": microphone})
        self.arrived: set[tuple[str, str]] = set()
        audio = SimpleNamespace(_pre_connect_audio_publications=self.arrived)
        self.session: Any = SimpleNamespace(user_state="listening", room_io=SimpleNamespace(audio_input=audio))
        self.recorder: Any = SimpleNamespace(has_noticed_voice=False, visitor_has_spoken=False)

    async def wait(self, *events: tuple[float, Any]) -> float:
        """Seconds that it took; `events` happen at their times."""
        loop = asyncio.get_running_loop()
        for at, event in events:
            loop.call_later(at, event)
        begun = time.monotonic()
        await hear_early_words(self.session, self.visitor, self.recorder)
        return time.monotonic() - begun

    def arrive(self) -> None:
        self.arrived.add(("visitor-1", "TR_1"))

    def begin_to_speak(self) -> None:
        self.recorder.has_noticed_voice, self.session.user_state = True, "speaking"

    def fall_silent(self) -> None:
        self.session.user_state = "listening"

    def be_understood(self) -> None:
        self.recorder.visitor_has_spoken = True


async def test_a_visitor_who_was_not_recorded_and_is_silent_is_greeted_at_once() -> None:
    assert await Scene(recorded=False).wait() < 0.1


async def test_it_waits_until_the_recorded_words_are_understood() -> None:
    scene = Scene(recorded=True)
    await scene.wait(
        (0.05, scene.arrive), (0.1, scene.begin_to_speak), (0.15, scene.fall_silent), (0.25, scene.be_understood)
    )
    assert scene.recorder.visitor_has_spoken


async def test_a_recording_without_a_voice_delays_the_greeting_by_a_moment_only() -> None:
    scene = Scene(recorded=True)
    assert 0.25 < await scene.wait((0.0, scene.arrive)) < 0.8


async def test_a_recording_that_never_arrives_does_not_keep_the_agent_silent() -> None:
    assert await Scene(recorded=True).wait() < 1.5


async def test_noise_does_not_keep_the_agent_silent() -> None:
    scene = Scene(recorded=True)
    took = await scene.wait((0.0, scene.arrive), (0.05, scene.begin_to_speak), (0.1, scene.fall_silent))
    assert took < 1.5
    assert not scene.recorder.visitor_has_spoken
