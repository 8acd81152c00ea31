"""From a conversation's sound to its words: voice detector, live adapter, link, and a real speech server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from livekit import rtc
from livekit.agents import inference, stt
from livekit.agents.stt import SpeechEventType
from pytest_django import Settings

from agent_runtime.speech.agreement import Agreement
from agent_runtime.speech.engine import Task
from agent_runtime.speech.places import ListeningPlaces
from agent_runtime.speech.scheduler import Rank
from projects.providers.base import KeyedRung, Kind, Persona
from projects.providers.chains import AvailabilityChange, Chain, build_chain
from projects.providers.faster_whisper import link as speech_link
from projects.providers.faster_whisper import stt as whisper_stt
from projects.providers.faster_whisper.link import SpeechLink
from projects.providers.faster_whisper.model import load_model
from projects.providers.faster_whisper.protocol import Open
from projects.providers.faster_whisper.stt import WhisperSTT
from tests.agent_runtime.speech import micro_server
from tests.agent_runtime.speech.live_server import serving, until
from tests.agent_runtime.stack import ROOT, end, free_port
from tests.projects.providers.conftest import Speak

RATE = 24_000
TABLE = "i would like to book a table for two"
TIME = "hello what is the time please"


class Ear:
    """A conversation that listens; its events are kept."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.events: list[stt.SpeechEvent] = []
        self.changes: list[AvailabilityChange] = []
        chain.on_change(self.changes.append)
        self.stream = chain.component.stream()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in self.stream:
            self.events.append(event)

    async def say(self, frame: rtc.AudioFrame) -> None:
        """As a microphone hands it out: pieces of 50 ms, in real time."""
        resampler = rtc.AudioResampler(frame.sample_rate, RATE)
        pieces = [np.frombuffer(piece.data, np.int16) for piece in [*resampler.push(frame), *resampler.flush()]]
        samples = np.concatenate([np.zeros(RATE // 2, np.int16), *pieces, np.zeros(RATE * 3 // 4, np.int16)])
        size = RATE // 20
        for begin in range(0, len(samples) - size, size):
            self.stream.push_frame(rtc.AudioFrame(samples[begin : begin + size].tobytes(), RATE, 1, size))
            await asyncio.sleep(0.05)

    async def final(self, number: int = 1, *, seconds: float = 30) -> stt.SpeechEvent:
        await until(lambda: len(self.finals) >= number, seconds=seconds)
        return self.finals[number - 1]

    @property
    def whisper(self) -> WhisperSTT:
        component = self.chain.rungs[0].component
        assert isinstance(component, WhisperSTT)
        return component

    @property
    def finals(self) -> list[stt.SpeechEvent]:
        return [event for event in self.events if event.type is SpeechEventType.FINAL_TRANSCRIPT]

    @property
    def texts(self) -> list[str]:
        return [event.alternatives[0].text for event in self.finals]

    async def aclose(self) -> None:
        await self.stream.aclose()
        self._reader.cancel()
        await self.chain.aclose()


class Box:
    """The machine: a speech server that can be started and killed."""

    def __init__(self, path: Path) -> None:
        self.places = ListeningPlaces(sockets=(path,))
        self._running = AsyncExitStack()

    async def start(self) -> Any:
        return await self._running.enter_async_context(serving(self.places))

    async def kill(self) -> None:
        await self._running.aclose()


@pytest_asyncio.fixture
async def box(tmp_path: Path, settings: Settings, micro_whisper: Path) -> AsyncIterator[Box]:
    settings.MOLTS_SPEECH_URL = f"unix://{tmp_path / 'speech.sock'}"
    box = Box(tmp_path / "speech.sock")
    yield box
    await box.kill()


@pytest_asyncio.fixture
async def listen(box: Box) -> AsyncIterator[Any]:
    ears: list[Ear] = []

    def listen(*rungs: KeyedRung) -> Ear:
        detector = inference.VAD(min_silence_duration=0.25)
        chain = build_chain(Kind.STT, rungs or [KeyedRung("faster_whisper")], Persona(language="en"), vad=detector)
        ears.append(Ear(chain))
        return ears[-1]

    yield listen
    for ear in ears:
        await ear.aclose()


async def test_words_appear_while_one_speaks_and_the_final_ones_with_the_end(
    box: Box, listen: Any, speak: Speak
) -> None:
    server = await box.start()
    ear = listen()
    metrics: list[Any] = []
    ear.chain.component.on("metrics_collected", metrics.append)
    await ear.say(await speak(TABLE))
    final = await ear.final()

    assert ear.texts == [TABLE]
    kinds = [event.type for event in ear.events]
    assert kinds[0] is SpeechEventType.START_OF_SPEECH
    assert kinds[-2:] == [SpeechEventType.END_OF_SPEECH, SpeechEventType.FINAL_TRANSCRIPT]
    interims = [event for event in ear.events if event.type is SpeechEventType.INTERIM_TRANSCRIPT]
    assert len(interims) >= 2
    assert TABLE.startswith(interims[0].alternatives[0].text)
    ended = next(event for event in ear.events if event.type is SpeechEventType.END_OF_SPEECH)
    assert final.created_at - ended.created_at < 0.2
    heard = final.alternatives[0]
    assert [str(word) for word in heard.words or []] == TABLE.split()
    assert 0.3 < heard.start_time < heard.end_time < 4
    assert heard.language == "en"
    assert server.figures.utterances == 1
    assert [round(each.audio_duration) for each in metrics if each.audio_duration] == [3]


async def test_an_utterance_survives_the_death_of_its_server(box: Box, listen: Any, speak: Speak) -> None:
    await box.start()
    ear = listen()
    talking = asyncio.create_task(ear.say(await speak(TABLE)))
    await until(lambda: any(event.type is SpeechEventType.INTERIM_TRANSCRIPT for event in ear.events))
    await box.kill()
    await box.start()
    await talking
    assert (await ear.final()).alternatives[0].text == TABLE
    await ear.say(await speak(TIME))
    await ear.final(2)
    assert ear.texts == [TABLE, TIME]


async def test_without_a_server_the_conversation_hears_by_itself_until_there_is_one(
    box: Box, listen: Any, speak: Speak, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech_link, "PATIENCE_SECONDS", 0.5)
    ear = listen()
    await ear.say(await speak(TABLE))
    await ear.final()
    assert ear.texts == [TABLE]
    assert not any(event.type is SpeechEventType.INTERIM_TRANSCRIPT for event in ear.events)

    server = await box.start()
    await until(lambda: server.streams == 1)
    await asyncio.sleep(0.1)
    await ear.say(await speak(TIME))
    await ear.final(2)
    assert ear.texts == [TABLE, TIME]
    assert server.figures.utterances == 1


@pytest.mark.soak
async def test_without_server_and_model_the_next_rung_hears_and_says_so(
    box: Box, listen: Any, speak: Speak, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech_link, "PATIENCE_SECONDS", 0.5)
    settings.MOLTS_SPEECH_URL = "ws://127.0.0.1:9"  # on another machine, so that the model need not be here
    settings.MOLTS_WHISPER_MODEL = "base"
    ear = listen(KeyedRung("faster_whisper"), KeyedRung("pocketsphinx"))
    await ear.say(await speak(TABLE))
    await ear.final(seconds=30)
    assert [(change.rung.provider, change.available) for change in ear.changes] == [("faster_whisper", False)]
    assert ear.changes[0].active is not None
    assert ear.changes[0].active.provider == "pocketsphinx"


@pytest.mark.soak
async def test_in_a_chain_the_first_rung_hears_live_and_comes_back_by_itself(
    box: Box, listen: Any, speak: Speak, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech_link, "PATIENCE_SECONDS", 0.5)
    ear = listen(KeyedRung("faster_whisper"), KeyedRung("pocketsphinx"))
    settings.MOLTS_WHISPER_MODEL = "base"  # the server's fault alone shall count
    monkeypatch.setattr("projects.providers.faster_whisper.stt.model_path", lambda name: None)
    await ear.say(await speak(TABLE))
    await ear.final(seconds=30)
    assert [change.available for change in ear.changes] == [False]

    server = await box.start()
    await until(lambda: server.streams >= 1)
    await ear.say(await speak(TABLE))  # the second rung answers, the first one shows that it is back
    await until(lambda: [change.available for change in ear.changes] == [False, True])
    heard = 2
    async with asyncio.timeout(60):  # a server that is short of processor time leaves words out that are not settled
        while not any(event.type is SpeechEventType.INTERIM_TRANSCRIPT for event in ear.events):
            await ear.say(await speak(TIME))
            await ear.final(heard := heard + 1)
            assert ear.texts[-1] == TIME


async def test_the_model_is_loaded_here_once_the_server_is_known_to_be_away(
    box: Box, listen: Any, speak: Speak, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the start of the conversation, for its memory; and before somebody has to wait for it."""
    monkeypatch.setattr(speech_link, "PATIENCE_SECONDS", 0.5)
    loaded: list[str] = []

    def noting(*key: Any) -> Any:
        loaded.append(threading.current_thread().name)
        return load_model(*key)

    monkeypatch.setattr(whisper_stt, "load_model", noting)
    server = await box.start()
    ear = listen()
    ear.whisper.prewarm()
    await until(lambda: server.streams == 1)
    assert loaded == []
    await box.kill()
    await until(lambda: loaded, seconds=5)
    assert loaded == ["whisper-load"]
    await ear.say(await speak(TABLE))
    assert (await ear.final()).alternatives[0].text == TABLE


@pytest.fixture
def server_process(settings: Settings, micro_whisper: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A speech server that can be stopped."""
    port = free_port()
    settings.MOLTS_SPEECH_URL, settings.MOLTS_SPEECH_SECRET = f"ws://127.0.0.1:{port}", micro_server.SECRET
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", micro_server.__name__, str(port)], cwd=ROOT, env=environment)
    yield process
    process.send_signal(signal.SIGCONT)
    end(process)


async def test_a_server_that_stands_still_costs_seconds_and_no_words(
    box: Box, server_process: subprocess.Popen[bytes], listen: Any, speak: Speak, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, and takes connections, but answers nothing: as a process that is stopped or swapped out."""
    monkeypatch.setattr(speech_link, "HEARTBEAT_SECONDS", 0.6)
    ear = listen()
    ear.whisper.prewarm()
    await until(lambda: ear.whisper._link.model, seconds=60)
    monkeypatch.setattr(speech_link, "PATIENCE_SECONDS", 1000)
    server_process.send_signal(signal.SIGSTOP)
    await ear.say(await speak(TABLE))
    assert (await ear.final()).alternatives[0].text == TABLE
    assert ear.whisper._link.is_away
    server_process.send_signal(signal.SIGCONT)
    await until(lambda: not ear.whisper._link.is_away)


# -- a server with too much to do ------------------------------------------------------------------------------------
class Crowd:
    """Others whose ended utterances fill the queue of a server, until they are let go."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self._decode, self._leave = server.engine.decode, asyncio.Event()
        server.engine.decode = self._wait
        server.scheduler._seconds = dict.fromkeys(server.scheduler._seconds, 3.0)  # as a large model takes

    async def come(self) -> Crowd:
        """One of them has the model, two wait for it; for a third the wait would be too long."""
        silence = Task(np.zeros(16_000, np.float32))
        for _ in range(3):
            self.server.scheduler.ask(Rank.FINAL, lambda: silence)
            await asyncio.sleep(0.05)
        return self

    async def _wait(self, *task: Any) -> Any:
        await self._leave.wait()
        return await self._decode(*task)

    def leave(self) -> None:
        self._leave.set()
        self.server.scheduler._seconds = dict.fromkeys(self.server.scheduler._seconds, 0.1)


async def test_an_utterance_waits_for_a_busy_server_and_is_heard(box: Box, listen: Any, speak: Speak) -> None:
    server = await box.start()
    ear = listen()
    crowd = await Crowd(server).come()
    await ear.say(await speak(TABLE))
    await until(lambda: server.scheduler.figures.refused >= 3)  # the early words, and the final ones twice
    assert ear.finals == []
    crowd.leave()
    assert (await ear.final()).alternatives[0].text == TABLE
    assert server.figures.silence_seconds < 2  # what is asked for again is not counted again


async def test_an_utterance_that_is_given_up_does_not_end_the_listening(
    box: Box, listen: Any, speak: Speak, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech_link, "BUSY_SECONDS", 0.3)
    server = await box.start()
    ear = listen()
    errors: list[Any] = []
    ear.chain.component.on("error", errors.append)
    crowd = await Crowd(server).come()
    await ear.say(await speak(TABLE))
    await until(lambda: errors)
    assert "more to do than it can" in str(errors[0].error)
    crowd.leave()
    await ear.say(await speak(TIME))
    await ear.final()
    assert ear.texts == [TIME]
    assert len(errors) == 1


async def test_a_server_that_stays_busy_leaves_the_words_to_the_next_rung(
    box: Box, listen: Any, speak: Speak, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech_link, "BUSY_SECONDS", 1000)  # as if it were the last
    server = await box.start()
    ear = listen(KeyedRung("faster_whisper"), KeyedRung("pocketsphinx"))
    crowd = await Crowd(server).come()
    await ear.say(await speak(TABLE))
    await until(lambda: ear.changes, seconds=30)
    assert ear.changes[0].rung.provider == "faster_whisper"
    crowd.leave()


async def test_what_is_said_meanwhile_survives_that_earlier_words_are_asked_for_again(
    box: Box, speak: Speak, settings: Settings
) -> None:
    server = await box.start()
    link = SpeechLink(url=settings.MOLTS_SPEECH_URL, secret="", opening=Open(language="en"))
    first = link.begin()
    await until(lambda: server.streams == 1)
    crowd = await Crowd(server).come()
    first.push(await speak(TABLE))
    hearing = asyncio.create_task(link.hear(first))
    await until(lambda: server.scheduler.figures.refused)
    second = link.begin()
    second.push(await speak(TIME))
    crowd.leave()
    assert (await hearing).text == TABLE
    assert (await link.hear(second)).text == TIME
    await link.aclose()


async def test_nobody_keeps_more_sound_than_is_heard(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_link, "MAX_UTTERANCE_BYTES", 32_000)
    link = SpeechLink(url="ws://127.0.0.1:9", secret="", opening=Open())
    utterance = link.begin()
    for _ in range(5):
        utterance.push(rtc.AudioFrame(bytes(16_000 * 2), 16_000, 1, 16_000))
    assert len(utterance.sound) == 32_000
    await link.aclose()


async def test_words_that_were_corrected_are_told(
    box: Box, listen: Any, speak: Speak, monkeypatch: pytest.MonkeyPatch
) -> None:
    await box.start()
    monkeypatch.setattr(Agreement, "revised_by", lambda self, final: 2)
    ear = listen()
    await ear.say(await speak(TIME))
    assert (await ear.final()).alternatives[0].metadata == {"revised": 2}


async def test_who_names_a_device_of_its_own_needs_no_server(box: Box, settings: Settings) -> None:
    chain = build_chain(Kind.STT, [KeyedRung("faster_whisper", {"device": "cpu"})], Persona(language="en"))
    assert isinstance(chain.component, WhisperSTT)
    assert chain.component._link is None
    await chain.aclose()
