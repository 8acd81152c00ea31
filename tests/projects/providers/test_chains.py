from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import APIError, inference, llm
from livekit.agents.stt import SpeechEventType

from molts.errors import BadConfiguration
from projects.providers.base import Credentials, KeyedRung, Kind, Persona
from projects.providers.chains import AvailabilityChange, Chain, build_chain
from tests.projects.providers.conftest import FakeVendor, Speak, resampled
from tests.projects.providers.test_openai_compatible import asked, wav

PERSONA = Persona(answers=(("What is the price?", "Ten dollars."),))
KEY = "sk-canary-1234567890"


def afar(vendor: FakeVendor, **options: Any) -> KeyedRung:
    return KeyedRung(
        "openai_compatible", {"model": "some-model", **options}, Credentials(api_key=KEY, base_url=vendor.url)
    )


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def taken_back(chain: Chain, ask: Callable[[], Awaitable[object]]) -> None:
    """Ask until the first rung is back: each request tries it again in the background, once at a time."""
    async with asyncio.timeout(20):
        while chain.fell_back:
            await ask()
            await asyncio.sleep(0.1)


async def answer_of(chain: Chain, text: str) -> str:
    async with chain.component.chat(chat_ctx=asked(text)) as stream:
        return "".join([chunk.delta.content or "" async for chunk in stream if chunk.delta])


def test_one_rung_is_the_component_itself() -> None:
    chain = build_chain(Kind.LLM, [KeyedRung("scripted")], PERSONA)
    assert chain.component is chain.rungs[0].component
    assert not chain.fell_back
    assert chain.active is chain.rungs[0]


def test_rungs_that_cannot_be_built_are_left_out_with_a_reason(
    own_data_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        chain = build_chain(
            Kind.TTS,
            [
                KeyedRung("supertonic"),
                KeyedRung("openai"),
                KeyedRung("elevenlips"),
                KeyedRung("espeak", {"speed": 3}),
                KeyedRung("espeak"),
            ],
            PERSONA,
        )

    assert [rung.provider for rung in chain.rungs] == ["espeak"]
    assert [skip.index for skip in chain.skipped] == [0, 1, 2, 3]
    reasons = [skip.reason for skip in chain.skipped]
    assert "weights" in reasons[0] or "not installed" in reasons[0]
    assert "needs an API key" in reasons[1]
    assert "no provider 'elevenlips'" in reasons[2]
    assert "speed" in reasons[3]
    assert chain.fell_back
    assert len([record for record in caplog.records if record.message == "provider skipped"]) == 4


def test_nothing_left_is_an_error_with_every_reason(own_data_folder: Path) -> None:
    with pytest.raises(
        BadConfiguration, match=r"Speech recognition: nothing can serve\. faster_whisper: Whisper model base"
    ):
        build_chain(Kind.STT, [KeyedRung("faster_whisper")], PERSONA)
    with pytest.raises(BadConfiguration, match="Nothing is chosen"):
        build_chain(Kind.LLM, [], PERSONA)
    with pytest.raises(BadConfiguration, match="cannot be used for llm"):
        build_chain(Kind.LLM, [KeyedRung("espeak")], PERSONA)


@pytest.mark.parametrize("mood", ["hang", "refuse", "busy", "wrong_json", "page"])
async def test_a_language_model_that_fails_is_passed_over_and_taken_back(vendor: FakeVendor, mood: str) -> None:
    vendor.mood = mood
    chain = build_chain(Kind.LLM, [afar(vendor, first_chunk_timeout=0.5), KeyedRung("scripted")], PERSONA)
    changes: list[AvailabilityChange] = []
    chain.on_change(changes.append)

    started = time.perf_counter()
    answer = await answer_of(chain, "what is the price")
    waited = time.perf_counter() - started

    assert answer == "Ten dollars."
    assert waited < 3
    assert [(change.rung.provider, change.available) for change in changes] == [("openai_compatible", False)]
    assert changes[0].active is not None
    assert changes[0].active.provider == "scripted"
    assert chain.fell_back

    vendor.mood = "well"
    await taken_back(chain, lambda: answer_of(chain, "what is the price"))
    assert changes[-1].available
    assert await answer_of(chain, "what is the price") == "hello from afar"
    await chain.aclose()


async def test_a_language_model_that_stops_midway_does_not_start_anew_with_another(vendor: FakeVendor) -> None:
    vendor.mood = "hang_midway"
    chain = build_chain(Kind.LLM, [afar(vendor, first_chunk_timeout=0.5), KeyedRung("scripted")], PERSONA)
    async with chain.component.chat(chat_ctx=asked("what is the price")) as stream:
        first = await anext(stream)
        with pytest.raises(APIError):
            await anext(stream)
    assert first.delta.content == "hello"
    await chain.aclose()


@pytest.mark.parametrize("mood", ["hang", "refuse"])
async def test_a_voice_that_fails_is_passed_over(vendor: FakeVendor, mood: str) -> None:
    vendor.mood = mood
    vendor.audio = wav(24000, 0.3)
    chain = build_chain(Kind.TTS, [afar(vendor, first_audio_timeout=0.5), KeyedRung("espeak")], PERSONA)
    changes: list[AvailabilityChange] = []
    chain.on_change(changes.append)

    started = time.perf_counter()
    async with chain.component.stream() as stream:
        stream.push_text("Hello, this is the other voice.")
        stream.end_input()
        first = await anext(stream)
        assert time.perf_counter() - started < 3.5
        duration = first.frame.duration + sum([audio.frame.duration async for audio in stream])

    assert duration > 1
    assert first.frame.sample_rate == 24000
    assert [(change.rung.provider, change.available) for change in changes] == [("openai_compatible", False)]
    assert chain.active is not None
    assert chain.active.provider == "espeak"
    await chain.aclose()


async def test_a_voice_that_sends_noise_is_passed_over_before_any_of_it_is_heard(vendor: FakeVendor) -> None:
    vendor.audio, vendor.audio_type = np.random.default_rng(1).bytes(48_000), "application/octet-stream"
    chain = build_chain(Kind.TTS, [afar(vendor, response_format="pcm"), KeyedRung("espeak")], PERSONA)
    changes: list[AvailabilityChange] = []
    chain.on_change(changes.append)
    async with chain.component.stream() as stream:
        stream.push_text("Hello, this is the other voice.")
        stream.end_input()
        frames = [audio.frame async for audio in stream]
    assert sum(frame.duration for frame in frames) > 1
    assert max(np.abs(np.frombuffer(frame.data, dtype=np.int16)).mean() for frame in frames) < 10_000
    assert [(change.rung.provider, change.available) for change in changes] == [("openai_compatible", False)]
    await chain.aclose()


async def listen(chain: Chain, frames: list[rtc.AudioFrame], *, pause: float = 1.0) -> list[str]:
    """Final transcripts of frames followed by silence, pushed as fast as they come."""
    silence = rtc.AudioFrame(bytes(int(24000 * pause) * 2), 24000, 1, int(24000 * pause))
    finals: list[str] = []
    async with chain.component.stream() as stream:
        for frame in [silence, *frames, silence]:
            stream.push_frame(frame)
        stream.end_input()
        async for event in stream:
            if event.type == SpeechEventType.FINAL_TRANSCRIPT:
                finals.append(event.alternatives[0].text)
    return finals


async def test_a_recogniser_is_wrapped_with_the_voice_activity_detector(speak: Speak, micro_whisper: Path) -> None:
    chain = build_chain(Kind.STT, [KeyedRung("faster_whisper")], PERSONA, vad=inference.VAD(min_silence_duration=0.25))
    assert chain.component.capabilities.streaming
    frames = resampled(await speak("what is the price"), 24000)

    assert await listen(chain, frames) == ["what is the price"]

    assert chain.active is not None
    assert chain.active.provider == "faster_whisper"
    await chain.aclose()


async def test_an_utterance_that_one_recogniser_fails_to_hear_goes_to_the_next(
    vendor: FakeVendor, speak: Speak, micro_whisper: Path
) -> None:
    vendor.mood = "hang"
    chain = build_chain(
        Kind.STT,
        [afar(vendor, timeout=2), KeyedRung("faster_whisper"), KeyedRung("pocketsphinx")],
        PERSONA,
        vad=inference.VAD(min_silence_duration=0.25),
    )
    changes: list[AvailabilityChange] = []
    metrics: list[Any] = []
    chain.on_change(changes.append)
    chain.component.on("metrics_collected", metrics.append)
    frames = resampled(await speak("book a table for two"), 24000)

    assert await listen(chain, frames) == ["book a table for two"]

    assert [(change.rung.provider, change.available) for change in changes] == [("openai_compatible", False)]
    assert chain.active is not None
    assert chain.active.provider == "faster_whisper"
    used = [metric for metric in metrics if metric.audio_duration > 0]
    assert [metric.metadata.model_provider for metric in used] == ["faster_whisper"]  # counted once

    vendor.mood = "well"
    await taken_back(chain, lambda: listen(chain, frames))
    assert await listen(chain, frames) == ["hello from afar"]
    await chain.aclose()


def test_recognisers_without_a_detector_cannot_be_chained(micro_whisper: Path) -> None:
    with pytest.raises(BadConfiguration, match="voice activity detector"):
        build_chain(Kind.STT, [KeyedRung("faster_whisper"), KeyedRung("pocketsphinx")], PERSONA)


async def test_closing_ends_children(speak: Speak) -> None:
    import psutil

    chain = build_chain(Kind.STT, [KeyedRung("pocketsphinx")], PERSONA, vad=inference.VAD(min_silence_duration=0.25))
    chain.component.prewarm()
    await until(lambda: _sphinxes(psutil.Process()))
    await chain.aclose()
    assert _sphinxes(psutil.Process()) == []


def _sphinxes(process: Any) -> list[Any]:
    return [child for child in process.children() if "pocketsphinx/child" in " ".join(child.cmdline())]


async def test_a_chain_takes_part_in_a_whole_answer(speak: Speak, micro_whisper: Path) -> None:
    """Speech in, words, answer, speech out, words again: every local rung of the kinds that molts starts with."""
    ears = build_chain(Kind.STT, [KeyedRung("faster_whisper")], PERSONA, vad=inference.VAD(min_silence_duration=0.25))
    mind = build_chain(
        Kind.LLM, [KeyedRung("scripted")], Persona(answers=(("What is the price?", "the price is ten"),))
    )
    mouth = build_chain(Kind.TTS, [KeyedRung("espeak", {"rate": 150})], PERSONA)

    heard = await listen(ears, resampled(await speak("what is the price please"), 24000))
    answer = await answer_of(mind, heard[0])
    spoken = await mouth.component.synthesize(answer).collect()
    pause = rtc.AudioFrame(np.zeros(22050, dtype=np.int16).tobytes(), 22050, 1, 22050)
    again = await listen(ears, resampled(rtc.combine_audio_frames([spoken, pause]), 24000))

    assert heard == ["what is the price please"]
    assert again == ["the price is ten"]
    for chain in (ears, mind, mouth):
        await chain.aclose()


async def test_context_is_passed_through_the_deadline(vendor: FakeVendor) -> None:
    chain = build_chain(Kind.LLM, [afar(vendor)], PERSONA)
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="Be brief.")
    context.add_message(role="user", content="hello")
    async with chain.component.chat(chat_ctx=context) as stream:
        async for _ in stream:
            pass
    assert [message["role"] for message in vendor.bodies[-1]["messages"]] == ["system", "user"]
    await chain.aclose()
