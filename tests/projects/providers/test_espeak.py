from __future__ import annotations

import asyncio
import sys
import time

import psutil
import pytest
from livekit.agents import APIError
from livekit.agents.types import APIConnectOptions

from molts.errors import BadConfiguration
from projects.providers import get_provider
from projects.providers.base import Credentials, Kind
from projects.providers.espeak.program import MEND, SAMPLE_RATE, default_voice, espeak_command
from projects.providers.espeak.tts import _speak
from tests.projects.providers.conftest import Speak, build, resampled

ONCE = APIConnectOptions(max_retry=0, timeout=10)
LONG_TEXT = "The harbour lies in the morning light and the boats go out to sea. " * 60


@pytest.mark.parametrize(
    "text", ["hello what is the time please", "tell me about the video avatar", "book a table for two"]
)
async def test_it_speaks_words_a_recogniser_understands(speak: Speak, micro_whisper: object, text: str) -> None:
    frame = await speak(text)

    assert frame.sample_rate == SAMPLE_RATE
    heard = await build("faster_whisper", Kind.STT).recognize(frame)
    assert heard.alternatives[0].text == text


async def test_it_streams_a_long_text_long_before_it_is_all_spoken() -> None:
    voice = build("espeak", Kind.TTS)
    durations: list[float] = []

    async with voice.synthesize(LONG_TEXT) as stream:
        async for audio in stream:
            durations.append(audio.frame.duration)

    assert sum(durations) > 120
    assert durations[0] < 1  # came alone, not with the whole text
    assert len(durations) > 50


async def test_it_ends_the_child_when_cancelled() -> None:
    voice = build("espeak", Kind.TTS)
    stream = voice.synthesize(LONG_TEXT * 20)
    await anext(stream)

    await stream.aclose()

    children = [child for child in psutil.Process().children() if "espeak" in " ".join(child.cmdline())]
    assert children == []


@pytest.mark.parametrize("turns", range(8))
async def test_who_cancels_it_does_not_wait_for_the_rest_of_the_text(turns: int) -> None:
    """At whatever turn of the loop, also when the next sound is there already."""
    heard = asyncio.Event()

    async def listen() -> None:
        async for _ in _speak(espeak_command(voice="en-us", rate=150, pitch=50), LONG_TEXT * 20, timeout=10):
            heard.set()

    listening = asyncio.create_task(listen())
    await heard.wait()
    time.sleep(0.1)  # noqa: ASYNC251 - as on a busy machine: the program goes on meanwhile
    for _ in range(turns):
        await asyncio.sleep(0)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening


async def test_it_speaks_from_the_wheel_when_the_program_is_missing(
    monkeypatch: pytest.MonkeyPatch, speak: Speak, micro_whisper: object
) -> None:
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr("shutil.which", lambda name: None)
    command = espeak_command(voice="en-us", rate=150, pitch=50)
    assert command[0] == sys.executable

    heard = await build("faster_whisper", Kind.STT).recognize(await speak("what is the price"))

    assert heard.alternatives[0].text == "what is the price"


async def test_it_says_how_to_get_it_when_nothing_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    provider = get_provider("espeak")

    assert provider.readiness(Kind.TTS, provider.parse_options(Kind.TTS, {})).fix == MEND
    with pytest.raises(APIError, match="apt install espeak-ng"):
        await build("espeak", Kind.TTS).synthesize("hello", conn_options=ONCE).collect()


async def test_it_gives_a_moment_of_silence_for_text_without_words() -> None:
    frame = await build("espeak", Kind.TTS).synthesize("...", conn_options=ONCE).collect()
    assert 0 < frame.duration < 1


async def test_it_takes_text_with_odd_characters_and_dashes_as_text() -> None:
    frame = await build("espeak", Kind.TTS).synthesize("--help [[_^_]] \0 \ud83d", conn_options=ONCE).collect()
    assert frame.duration > 0.3


async def test_it_names_a_voice_that_does_not_exist() -> None:
    with pytest.raises(APIError, match="voice"):
        await build("espeak", Kind.TTS, voice="xx-nowhere").synthesize("hello", conn_options=ONCE).collect()


async def test_it_gives_up_on_a_silent_child() -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(30)"]
    started = asyncio.get_running_loop().time()

    with pytest.raises(APIError, match="no sound in time"):
        async for _ in _speak(sleeper, "hello", timeout=0.3):
            pass

    assert asyncio.get_running_loop().time() - started < 5


@pytest.mark.parametrize("options", [{"rate": 10}, {"voice": "a; rm -rf"}, {"speed": 1}])
def test_it_refuses_bad_options_by_name(options: dict[str, object]) -> None:
    with pytest.raises(BadConfiguration, match=next(iter(options))):
        get_provider("espeak").parse_options(Kind.TTS, options)


def test_its_voice_follows_the_language() -> None:
    assert default_voice("en") == "en-us"
    assert default_voice("pt_BR") == "pt-br"
    assert default_voice("de") == "de"


async def test_it_probes_by_speaking() -> None:
    provider = get_provider("espeak")
    result = await provider.probe(Kind.TTS, options=provider.parse_options(Kind.TTS, {}), credentials=Credentials())
    assert result.ok
    assert "spoke" in result.text


def test_resampled_frames_keep_their_length() -> None:
    from livekit import rtc

    frame = rtc.AudioFrame(bytes(22050 * 2), 22050, 1, 22050)
    assert sum(piece.duration for piece in resampled(frame, 24000)) == pytest.approx(1.0, abs=0.02)
