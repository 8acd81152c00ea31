from __future__ import annotations

import asyncio
import time

import numpy as np
import psutil
import pytest
from livekit import rtc
from livekit.agents import APIConnectionError
from livekit.agents.types import APIConnectOptions

from projects.providers import get_provider
from projects.providers.base import Credentials, Kind
from tests.projects.providers.conftest import Speak, build, resampled

ONCE = APIConnectOptions(max_retry=0)


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "pocketsphinx/child" in " ".join(child.cmdline())]


async def test_it_hears_words_and_the_loop_runs_on(speak: Speak) -> None:
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.perf_counter())
            await asyncio.sleep(0.01)

    recogniser = build("pocketsphinx", Kind.STT)
    ticking = asyncio.create_task(tick())
    try:
        heard = await recogniser.recognize(resampled(await speak("what is the price"), 24000))
        again = await recogniser.recognize(resampled(await speak("where are you"), 24000))
    finally:
        ticking.cancel()
        await recogniser.aclose()

    assert {"what", "is", "the"} <= set(heard.alternatives[0].text.split())
    assert "where" in again.alternatives[0].text
    assert 0 < heard.alternatives[0].confidence <= 1
    assert np.diff(ticks).max() < 0.5
    assert children() == []


async def test_it_hears_nothing_in_silence_and_noise() -> None:
    recogniser = build("pocketsphinx", Kind.STT)
    noise = np.random.default_rng(3).normal(0, 2000, 32000).astype(np.int16)
    try:
        for samples in (np.zeros(32000, dtype=np.int16), noise):
            heard = await recogniser.recognize(rtc.AudioFrame(samples.tobytes(), 16000, 1, samples.size))
            assert heard.alternatives[0].text == ""
    finally:
        await recogniser.aclose()


async def test_it_survives_the_death_of_its_child(speak: Speak) -> None:
    recogniser = build("pocketsphinx", Kind.STT)
    frame = await speak("what is the price")
    try:
        await recogniser.recognize(frame)
        call = asyncio.create_task(recogniser.recognize(frame, conn_options=ONCE))
        await asyncio.sleep(0.1)
        children()[0].kill()
        with pytest.raises(APIConnectionError):
            await call
        assert "what" in (await recogniser.recognize(frame)).alternatives[0].text
    finally:
        await recogniser.aclose()


async def test_a_cancelled_call_does_not_answer_the_next_one(speak: Speak) -> None:
    recogniser = build("pocketsphinx", Kind.STT)
    try:
        await recogniser.recognize(await speak("hello"))
        call = asyncio.create_task(recogniser.recognize(await speak("what is the price of the room for two")))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        heard = await recogniser.recognize(await speak("where are you"))
        assert "where" in heard.alternatives[0].text
    finally:
        await recogniser.aclose()


async def test_it_says_openly_what_it_is() -> None:
    provider = get_provider("pocketsphinx")
    assert "low accuracy" in provider.label
    assert provider.readiness(Kind.STT, provider.parse_options(Kind.STT, {})).ready
    assert (await provider.probe(Kind.STT, options=provider.parse_options(Kind.STT, {}), credentials=Credentials())).ok
    assert children() == []
