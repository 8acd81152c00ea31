from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import APIConnectionError
from livekit.agents.types import APIConnectOptions
from pytest_django import Settings

from agent_runtime.speech.engine import Engine
from molts.errors import BadConfiguration
from projects.providers import get_provider
from projects.providers.base import Credentials, Kind, Persona
from projects.providers.faster_whisper import model
from projects.providers.faster_whisper.credibility import is_credible, is_loop
from projects.providers.faster_whisper.languages import whisper_language
from projects.providers.faster_whisper.model import load_model, prewarm, prompt_tokens
from projects.providers.faster_whisper.options import WhisperOptions
from projects.providers.faster_whisper.weights import model_path, repository
from projects.providers.shared.audio import mono_16k
from tests.projects.providers.conftest import MICRO_WHISPER, Speak, build, resampled

ONCE = APIConnectOptions(max_retry=0)


@pytest.mark.parametrize("rate", [8000, 22050, 24000, 48000])
async def test_it_recognises_frames_of_any_rate(speak: Speak, micro_whisper: Path, rate: int) -> None:
    """A session hands out 24 kHz by default; without resampling that is garbage, and no error says so."""
    frames = resampled(await speak("tell me about the video avatar"), rate)

    heard = await build("faster_whisper", Kind.STT).recognize(frames)

    assert heard.alternatives[0].text == "tell me about the video avatar"
    assert heard.alternatives[0].language == "en"
    assert 0.3 < heard.alternatives[0].confidence <= 1


async def test_it_recognises_stereo(speak: Speak, micro_whisper: Path) -> None:
    mono = np.frombuffer((await speak("what is the price")).data, dtype=np.int16)
    stereo = rtc.AudioFrame(np.repeat(mono, 2).tobytes(), 22050, 2, mono.size)

    heard = await build("faster_whisper", Kind.STT).recognize(stereo)

    assert heard.alternatives[0].text == "what is the price"


def test_resampling_keeps_a_tone_and_adds_nothing() -> None:
    seconds = np.arange(24000) / 24000
    tone = rtc.AudioFrame((np.sin(2 * np.pi * 440 * seconds) * 16000).astype(np.int16).tobytes(), 24000, 1, 24000)

    samples = mono_16k(tone)

    assert samples.size == 16000
    spectrum = np.abs(np.fft.rfft(samples[2000:14000] * np.hanning(12000)))
    assert abs(int(spectrum.argmax()) * 16000 / 12000 - 440) < 2
    assert spectrum[1000:].max() < spectrum.max() / 1000  # no images above


async def test_it_invents_nothing_from_silence_noise_and_tones(micro_whisper: Path) -> None:
    recogniser = build("faster_whisper", Kind.STT)
    noise = np.random.default_rng(5)
    seconds = np.arange(48000) / 24000
    clips = [np.zeros(48000), noise.normal(0, 300, 48000), noise.normal(0, 3000, 48000), np.sin(2000 * seconds) * 9000]

    for clip in clips:
        heard = await recogniser.recognize(rtc.AudioFrame(clip.astype(np.int16).tobytes(), 24000, 1, 48000))
        assert heard.alternatives[0].text == ""


def test_it_drops_loops_guesses_and_phantoms() -> None:
    options = WhisperOptions()

    def segment(text: str, logprob: float = -0.3, ratio: float = 1.2) -> Any:
        return SimpleNamespace(text=text, avg_logprob=logprob, compression_ratio=ratio)

    assert is_credible(segment("Where is the station?"), options)
    assert is_credible(segment("Thank you."), options)
    assert not is_credible(segment("Thanks for watching!"), options)
    assert not is_credible(segment("something", logprob=-1.4), options)
    assert is_credible(segment("no", logprob=-1.1), options)
    assert not is_credible(segment("no", logprob=-1.6), options)
    assert not is_credible(segment("where is the station today", logprob=-1.15), options)
    assert not is_credible(segment("something", ratio=3.0), options)
    assert not is_credible(segment(" ... "), options)
    assert is_loop("thank you thank you thank you thank you thank you")
    assert not is_loop("no no no")
    assert not is_loop("the price of the room is the price of the table and the chair")


async def test_calls_at_once_do_not_mix_their_words(speak: Speak, micro_whisper: Path) -> None:
    texts = ["what is the price", "book a table for two", "tell me about the video avatar", "what is the time please"]
    frames = [await speak(text) for text in texts]
    recognisers = [build("faster_whisper", Kind.STT) for _ in texts]

    heard = await asyncio.gather(*(one.recognize(frame) for one, frame in zip(recognisers, frames, strict=True)))

    assert [event.alternatives[0].text for event in heard] == texts


def test_one_process_loads_a_model_once(micro_whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import faster_whisper as library

    monkeypatch.setattr(model, "_models", {})
    loads: list[str] = []
    real = library.WhisperModel

    def load(folder: str, **settings: Any) -> Any:
        loads.append(folder)
        return real(folder, **settings)

    monkeypatch.setattr(library, "WhisperModel", load)
    threads = [threading.Thread(target=prewarm) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert loads == [str(MICRO_WHISPER)]


async def test_the_event_loop_runs_on_while_it_decodes(micro_whisper: Path, speak: Speak) -> None:
    recogniser = build("faster_whisper", Kind.STT)
    frame = await speak("tell me about the video avatar")
    await recogniser.recognize(frame)
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.perf_counter())
            await asyncio.sleep(0.005)

    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(recogniser.recognize(frame) for _ in range(4)))
    ticking.cancel()

    gaps = np.diff(ticks)
    assert len(gaps) > 5
    assert gaps.max() < 0.5


async def test_a_cancelled_call_leaves_the_model_free(
    micro_whisper: Path, speak: Speak, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(MICRO_WHISPER), "cpu", "auto", 0)
    decoding = threading.Event()

    def endless(*_: Any, **__: Any) -> tuple[Iterator[Any], Any]:
        def segments() -> Iterator[Any]:
            while True:
                time.sleep(0.02)
                decoding.set()
                yield SimpleNamespace(text="word", avg_logprob=-0.1, compression_ratio=1.0, start=0, end=1)

        return segments(), SimpleNamespace(language="en")

    recogniser = build("faster_whisper", Kind.STT)
    frame = await speak("what is the price")
    with monkeypatch.context() as patch:
        patch.setattr(model.whisper, "transcribe", endless)
        call = asyncio.create_task(recogniser.recognize(frame))
        await asyncio.to_thread(decoding.wait, 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.to_thread(model.executor.submit(lambda: None).result, 5)  # the thread is free again

    heard = await recogniser.recognize(frame)
    assert heard.alternatives[0].text == "what is the price"


async def test_an_error_of_the_model_is_soft_and_the_next_call_works(
    micro_whisper: Path, speak: Speak, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(MICRO_WHISPER), "cpu", "auto", 0)
    recogniser = build("faster_whisper", Kind.STT)
    frame = await speak("what is the price")

    def out_of_memory(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA failed with error out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model.whisper, "transcribe", out_of_memory)
        with pytest.raises(APIConnectionError, match="out of memory"):
            await recogniser.recognize(frame, conn_options=ONCE)

    assert (await recogniser.recognize(frame)).alternatives[0].text == "what is the price"


def test_it_says_what_to_do_when_the_model_is_not_there(own_data_folder: Path) -> None:
    provider = get_provider("faster_whisper")

    readiness = provider.readiness(Kind.STT, provider.parse_options(Kind.STT, {}))
    assert not readiness.ready
    assert "MOLTS_WHISPER_MODEL" in readiness.fix
    with pytest.raises(BadConfiguration, match="base is not on this machine"):
        build("faster_whisper", Kind.STT)
    prewarm()  # does nothing, raises nothing


@pytest.mark.parametrize("damaged", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
async def test_a_damaged_model_is_named(micro_whisper: Path, tmp_path: Path, damaged: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(micro_whisper, folder, ignore=shutil.ignore_patterns("training"))
    (folder / damaged).write_text("{")

    with pytest.raises(BadConfiguration, match="broken cannot be loaded"):
        load_model(str(folder), "cpu", "auto", 0)
    with pytest.raises(BadConfiguration, match="broken cannot be loaded"):
        await Engine(device="cpu").load(str(folder))


def test_it_finds_models_by_folder_and_by_name(own_data_folder: Path) -> None:
    fetched = own_data_folder / "models" / "whisper" / "base"
    fetched.mkdir(parents=True)
    (fetched / "config.json").write_text("{}")
    assert model_path("base") is None  # half a model is none
    (fetched / "model.bin").write_bytes(b"")

    assert model_path("base") == fetched
    assert model_path(str(MICRO_WHISPER)) == MICRO_WHISPER
    assert model_path("nothing") is None


async def test_while_the_chosen_model_is_fetched_the_next_smaller_one_hears(
    own_data_folder: Path, micro_whisper: Path, settings: Settings, speak: Speak
) -> None:
    settings.MOLTS_WHISPER_MODEL, settings.MOLTS_SPEECH_LADDER = "small", ["tiny", "base", "small", "medium"]
    fetched = own_data_folder / "models" / "whisper"
    fetched.mkdir(parents=True)
    for name in ("base", "medium"):
        (fetched / name).symlink_to(micro_whisper)
    provider = get_provider("faster_whisper")

    readiness = provider.readiness(Kind.STT, provider.parse_options(Kind.STT, {}))
    assert (readiness.ready, readiness.text.endswith("until small is here")) == (True, True)
    heard = await build("faster_whisper", Kind.STT).recognize(await speak("goodbye"))
    assert heard.alternatives[0].text == "goodbye"


def test_it_knows_repositories_and_refuses_unknown_names() -> None:
    assert repository("base") == "Systran/faster-whisper-base"
    assert repository("someone/model") == "someone/model"
    for name in ("bsae", "/no/folder", "../x/y"):
        with pytest.raises(BadConfiguration, match="neither a folder"):
            repository(name)


@pytest.mark.parametrize(("tag", "code"), [("en-US", "en"), ("nb-NO", "no"), ("auto", None), ("xx", None), ("", None)])
def test_it_reads_language_tags(tag: str, code: str | None) -> None:
    assert whisper_language(tag, ["en", "no"]) == code


async def test_it_probes_by_decoding(micro_whisper: Path) -> None:
    provider = get_provider("faster_whisper")
    options = provider.parse_options(Kind.STT, {})
    assert (await provider.probe(Kind.STT, options=options, credentials=Credentials())).ok

    missing = provider.parse_options(Kind.STT, {"model": "small"})
    result = await provider.probe(Kind.STT, options=missing, credentials=Credentials())
    assert not result.ok
    assert "not on this machine" in result.text


async def test_it_follows_the_language_of_the_agent(micro_whisper: Path, speak: Speak) -> None:
    heard = await build("faster_whisper", Kind.STT, persona=Persona(language="en-GB")).recognize(await speak("hello"))
    assert heard.alternatives[0].language == "en"


async def test_the_longest_prompt_and_hotwords_leave_room_for_the_words(speak: Speak, micro_whisper: Path) -> None:
    """In many scripts a character is a token or more: both would fill the decoder."""
    ear = build("faster_whisper", Kind.STT, initial_prompt="ช" * 400, hotwords="ก" * 400)

    assert await ear.recognize(await speak("goodbye"), conn_options=ONCE)


def test_the_hotwords_stay_whole_and_the_prompt_gives_way(micro_whisper: Path) -> None:
    whisper = load_model(str(micro_whisper), "cpu", "int8", 1).whisper
    alone = prompt_tokens(whisper, "hello " * 300, "")

    assert len(alone) == 223
    assert prompt_tokens(whisper, "hello " * 300, "goodbye " * 50) == alone[100 - 50 :]
    assert prompt_tokens(whisper, "hello", "ก" * 400) == []
    assert prompt_tokens(whisper, "", "goodbye") == []


async def test_segments_are_joined_as_their_script_is_written(
    speak: Speak, micro_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for said, text in (((" how", " much"), "how much"), (("多少", "钱。"), "多少钱。")):
        segments = [
            SimpleNamespace(text=each, start=0.0, end=1.0, avg_logprob=-0.3, no_speech_prob=0.0, compression_ratio=1.0)
            for each in said
        ]
        ear = build("faster_whisper", Kind.STT)
        whisper = load_model(*ear._model_key).whisper
        monkeypatch.setattr(whisper, "transcribe", lambda *_, s=segments, **__: (s, SimpleNamespace(language="zh")))
        assert (await ear.recognize(await speak("goodbye"))).alternatives[0].text == text
