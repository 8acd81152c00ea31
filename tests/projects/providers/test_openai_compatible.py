from __future__ import annotations

import asyncio
import io
import re
import time
import traceback
import wave
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import APIConnectionError, APIError, APIStatusError, APITimeoutError, llm
from livekit.agents.types import APIConnectOptions
from pytest_django import Settings

from molts.errors import HIDDEN, BadConfiguration
from projects.providers import get_provider
from projects.providers.base import PIPELINE, Credentials, Kind, Persona, ProbeResult
from projects.providers.ollama import Ollama, find_ollama
from tests.projects.providers.conftest import FakeVendor, Speak, build, resampled
from tests.projects.providers.sounds import NOT_SOUND, SOUNDS, pcm

ONCE = APIConnectOptions(max_retry=0, timeout=10)
KEY = "sk-canary-1234567890"


def wav(rate: int, seconds: float) -> bytes:
    buffer = io.BytesIO()
    samples = np.sin(np.arange(int(rate * seconds)) * 2 * np.pi * 440 / rate) * 9000
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def asked(text: str) -> llm.ChatContext:
    context = llm.ChatContext.empty()
    context.add_message(role="user", content=text)
    return context


def compatible(vendor: FakeVendor, kind: Kind, **options: Any) -> Any:
    return build("openai_compatible", kind, base_url=vendor.url, **{"model": "some-model", **options})


# --- language model ---------------------------------------------------------------------------------------------------


async def test_it_streams_an_answer_with_usage(vendor: FakeVendor) -> None:
    async with compatible(vendor, Kind.LLM, temperature=0.2, max_tokens=50) as model:
        metrics: list[Any] = []
        model.on("metrics_collected", metrics.append)
        async with model.chat(chat_ctx=asked("hello"), conn_options=ONCE) as stream:
            chunks = [chunk async for chunk in stream]

    assert "".join(chunk.delta.content or "" for chunk in chunks if chunk.delta) == "hello from afar"
    assert len([chunk for chunk in chunks if chunk.delta]) >= 3
    _, headers = vendor.requests[-1]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert not [name for name in headers if name.lower().startswith(("x-livekit", "openai-organization"))]
    body = vendor.bodies[-1]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("some-model", 0.2, 50)
    assert [metric.prompt_tokens for metric in metrics] == [7]  # once, though the model is wrapped
    assert metrics[0].metadata.model_provider == "openai_compatible"


@pytest.mark.parametrize("mood", ["hang", "hang_midway"])
async def test_a_model_that_hangs_fails_in_time(vendor: FakeVendor, mood: str) -> None:
    vendor.mood = mood
    started = time.perf_counter()
    async with compatible(vendor, Kind.LLM, first_chunk_timeout=0.5) as model:
        with pytest.raises(APITimeoutError, match=r"sent nothing for 0.5 s"):
            await model.chat(chat_ctx=asked("hello"), conn_options=ONCE).collect()
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize(("mood", "status"), [("refuse", 401), ("busy", 429)])
async def test_a_refusal_carries_its_status(vendor: FakeVendor, mood: str, status: int) -> None:
    vendor.mood = mood
    async with compatible(vendor, Kind.LLM) as model:
        with pytest.raises(APIStatusError) as error:
            await model.chat(chat_ctx=asked("hello"), conn_options=ONCE).collect()
    assert error.value.status_code == status


@pytest.mark.parametrize("mood", ["wrong_json", "redirect"])
async def test_a_senseless_answer_is_no_answer(vendor: FakeVendor, mood: str) -> None:
    vendor.mood = mood
    async with compatible(vendor, Kind.LLM) as model:
        try:
            answer = await model.chat(chat_ctx=asked("hello"), conn_options=ONCE).collect()
        except APIError:
            return
    assert answer.text == ""
    assert len(vendor.requests) == 1  # the redirect was not followed


async def test_the_key_of_the_environment_is_never_sent(vendor: FakeVendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-environment")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-the-environment")
    provider = get_provider("openai_compatible")
    model = provider.build_llm(
        options=provider.parse_options(Kind.LLM, {"model": "m"}),
        credentials=Credentials(base_url=vendor.url),
        persona=Persona(),
    )
    async with model:
        await model.chat(chat_ctx=asked("hello"), conn_options=ONCE).collect()
    assert "of-the-environment" not in str(vendor.requests)


# --- recogniser -------------------------------------------------------------------------------------------------------


async def test_it_transcribes(vendor: FakeVendor, speak: Speak) -> None:
    frames = resampled(await speak("hello"), 24000)
    async with compatible(vendor, Kind.STT) as recogniser:
        heard = await recogniser.recognize(frames, conn_options=ONCE)
    assert heard.alternatives[0].text == "hello from afar"
    form = vendor.bodies[-1]
    assert (form["model"], form["language"]) == ("some-model", "en")
    with wave.open(io.BytesIO(form["wav"])) as sent:
        assert (sent.getframerate(), sent.getnchannels()) == (24000, 1)


async def test_detecting_the_language_sends_none(vendor: FakeVendor, speak: Speak) -> None:
    async with compatible(vendor, Kind.STT, language="auto") as recogniser:
        await recogniser.recognize(await speak("hello"), conn_options=ONCE)
    assert "language" not in vendor.bodies[-1]


@pytest.mark.parametrize(
    ("mood", "expected"),
    [
        ("hang", APITimeoutError),
        ("refuse", APIStatusError),
        ("busy", APIStatusError),
        ("wrong_json", APIConnectionError),
    ],
)
async def test_a_recogniser_that_fails_says_so_in_time(
    vendor: FakeVendor, speak: Speak, mood: str, expected: type[Exception]
) -> None:
    vendor.mood = mood
    frame = await speak("hello")
    started = time.perf_counter()
    async with compatible(vendor, Kind.STT, timeout=0.5) as recogniser:
        with pytest.raises(expected):
            await recogniser.recognize(frame, conn_options=ONCE)
    assert time.perf_counter() - started < 3


# --- voice ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [24000, 48000, 22050])
async def test_it_speaks_at_the_right_pitch_whatever_the_servers_rate(vendor: FakeVendor, rate: int) -> None:
    vendor.audio = wav(rate, 1.0)
    async with compatible(vendor, Kind.TTS, response_format="wav", voice="alto") as voice:
        frame = await voice.synthesize("Hello.", conn_options=ONCE).collect()
    assert frame.sample_rate == 24000
    assert frame.duration == pytest.approx(1.0, abs=0.1)
    samples = np.frombuffer(frame.data, dtype=np.int16)[2400:21600].astype(float)
    peak = np.abs(np.fft.rfft(samples)).argmax() * 24000 / samples.size
    assert peak == pytest.approx(440, abs=5)
    assert vendor.bodies[-1]["voice"] == "alto"


async def test_raw_samples_are_taken_as_they_are(vendor: FakeVendor) -> None:
    vendor.audio = wav(24000, 0.5)[44:]
    vendor.audio_type = "application/octet-stream"
    async with compatible(vendor, Kind.TTS, response_format="pcm") as voice:
        frame: rtc.AudioFrame = await voice.synthesize("Hello.", conn_options=ONCE).collect()
    assert frame.duration == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("events", [False, True])
async def test_a_voice_is_heard_in_whatever_form_it_comes(vendor: FakeVendor, name: str, events: bool) -> None:
    vendor.audio = SOUNDS[name]()
    vendor.audio_type = "text/event-stream" if events else "application/octet-stream"
    async with compatible(vendor, Kind.TTS, response_format="pcm", first_audio_timeout=20) as voice:
        frame = await voice.synthesize("Hello.", conn_options=ONCE).collect()
    assert frame.sample_rate == 24000
    assert frame.duration == pytest.approx(1.0, abs=0.12)
    samples = np.frombuffer(frame.data, dtype=np.int16)[2400:20000].astype(float)
    assert np.abs(np.fft.rfft(samples)).argmax() * 24000 / samples.size == pytest.approx(440, abs=5)


@pytest.mark.parametrize("name", NOT_SOUND)
async def test_what_is_no_sound_fails_and_is_named(vendor: FakeVendor, name: str) -> None:
    vendor.audio, reason = NOT_SOUND[name]
    vendor.audio_type = "application/octet-stream"
    async with compatible(vendor, Kind.TTS, response_format="pcm") as voice:
        with pytest.raises(APIError, match=reason):
            await voice.synthesize("Hello.", conn_options=ONCE).collect()


async def test_an_answer_in_events_tells_what_it_cost(vendor: FakeVendor) -> None:
    vendor.audio, vendor.audio_type = pcm(), "text/event-stream"
    metrics: list[Any] = []
    async with compatible(vendor, Kind.TTS, response_format="pcm") as voice:
        voice.on("metrics_collected", metrics.append)
        await voice.synthesize("Hello.", conn_options=ONCE).collect()
    assert [(metric.input_tokens, metric.output_tokens) for metric in metrics] == [(3, 90)]


async def test_a_text_instead_of_audio_is_not_played_as_noise(vendor: FakeVendor) -> None:
    vendor.audio = b'{"detail": "voice not found"}' * 100
    vendor.audio_type = "application/json"
    async with compatible(vendor, Kind.TTS, response_format="pcm") as voice:
        with pytest.raises(APIConnectionError, match="instead of audio"):
            await voice.synthesize("Hello.", conn_options=ONCE).collect()


@pytest.mark.parametrize(("mood", "expected"), [("hang", APITimeoutError), ("refuse", APIStatusError)])
async def test_a_voice_that_fails_says_so_in_time(vendor: FakeVendor, mood: str, expected: type[Exception]) -> None:
    vendor.mood = mood
    started = time.perf_counter()
    async with compatible(vendor, Kind.TTS, first_audio_timeout=0.5) as voice:
        with pytest.raises(expected):
            await voice.synthesize("Hello.", conn_options=ONCE).collect()
    assert time.perf_counter() - started < 3


async def test_a_cancelled_speech_leaves_nothing_running(vendor: FakeVendor) -> None:
    vendor.mood = "hang"
    before = asyncio.all_tasks()
    async with compatible(vendor, Kind.TTS) as voice:
        stream = voice.synthesize("Hello.", conn_options=ONCE)
        await asyncio.sleep(0.1)
        await stream.aclose()
    await asyncio.sleep(0.05)
    left = {task for task in asyncio.all_tasks() - before if "TTS" in task.get_name()}
    assert left == set()


# --- the guard --------------------------------------------------------------------------------------------------------


async def test_a_private_base_url_is_refused_for_every_kind(
    vendor: FakeVendor, settings: Settings, speak: Speak
) -> None:
    settings.MOLTS_ALLOWED_NETWORKS = []
    frame = await speak("hello")
    async with compatible(vendor, Kind.LLM) as model:
        with pytest.raises(APIConnectionError, match="MOLTS_ALLOWED_NETWORKS"):
            await model.chat(chat_ctx=asked("hello"), conn_options=ONCE).collect()
    async with compatible(vendor, Kind.STT) as recogniser:
        with pytest.raises(APIConnectionError, match="MOLTS_ALLOWED_NETWORKS"):
            await recogniser.recognize(frame, conn_options=ONCE)
    async with compatible(vendor, Kind.TTS) as voice:
        with pytest.raises(APIConnectionError, match="MOLTS_ALLOWED_NETWORKS"):
            await voice.synthesize("Hello.", conn_options=ONCE).collect()
    assert vendor.requests == []


@pytest.mark.parametrize("status", [300, 302, 308, 401, 503])
@pytest.mark.parametrize("kind", [Kind.LLM, Kind.TTS, Kind.STT])
async def test_a_key_that_a_server_sends_back_is_in_no_error(vendor: FakeVendor, kind: Kind, status: int) -> None:
    vendor.mood, vendor.status = "echo", status
    async with compatible(vendor, kind) as part:
        ask = {
            Kind.LLM: lambda: part.chat(chat_ctx=asked("hello"), conn_options=ONCE).collect(),
            Kind.TTS: lambda: part.synthesize("Hello.", conn_options=ONCE).collect(),
            Kind.STT: lambda: part.recognize(rtc.AudioFrame(bytes(48_000), 24000, 1, 24000), conn_options=ONCE),
        }[kind]
        with pytest.raises(APIError) as caught:
            await ask()  # type: ignore[no-untyped-call]
    told = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert KEY not in told
    assert HIDDEN in told


# --- presets, probing, Ollama -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PIPELINE)
async def test_probing_makes_one_small_call(vendor: FakeVendor, kind: Kind) -> None:
    vendor.audio = wav(24000, 0.2)
    provider = get_provider("openai_compatible")

    result = await provider.probe(
        kind,
        options=provider.parse_options(kind, {"model": "some-model"}),
        credentials=Credentials(api_key=KEY, base_url=vendor.url),
    )

    assert result.ok, result.text
    assert result.latency_ms is not None
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("kind", PIPELINE)
async def test_probing_gives_the_vendors_own_words_without_the_key(vendor: FakeVendor, kind: Kind) -> None:
    vendor.mood = "refuse"
    provider = get_provider("openai_compatible")

    result = await provider.probe(
        kind,
        options=provider.parse_options(kind, {"model": "some-model"}),
        credentials=Credentials(api_key=KEY, base_url=vendor.url),
    )

    assert not result.ok
    assert result.text == f"401: Incorrect API key provided: {HIDDEN}."


@pytest.mark.parametrize(
    ("asked", "name", "said"),
    [
        ("wav", "WAV of floats", r"spoke 1\.0 s$"),
        ("opus", "Opus in OGG", r"spoke 1\.0 s$"),
        ("wav", "MP3", r"spoke 1\.\d s \(MP3, though wav was asked for\)"),
        ("pcm", "FLAC", r"spoke 1\.0 s \(FLAC, though pcm was asked for\)"),
    ],
)
async def test_probing_hears_what_it_got(vendor: FakeVendor, asked: str, name: str, said: str) -> None:
    vendor.audio, vendor.audio_type = SOUNDS[name](), "application/octet-stream"
    result = await _probe_voice(vendor, asked)
    assert result.ok, result.text
    assert re.search(said, result.text)


@pytest.mark.parametrize("name", NOT_SOUND)
async def test_probing_fails_at_what_nobody_could_hear(vendor: FakeVendor, name: str) -> None:
    vendor.audio, reason = NOT_SOUND[name]
    vendor.audio_type = "application/octet-stream"
    result = await _probe_voice(vendor, "pcm")
    assert not result.ok
    assert re.search(reason, result.text)


async def test_probing_fails_at_silence(vendor: FakeVendor) -> None:
    vendor.audio, vendor.audio_type = bytes(48_000), "audio/pcm"
    result = await _probe_voice(vendor, "pcm")
    assert (result.ok, result.text) == (False, "the server sent 1.0 s of silence instead of speech")


async def _probe_voice(vendor: FakeVendor, response_format: str) -> ProbeResult:
    provider = get_provider("openai_compatible")
    options = provider.parse_options(Kind.TTS, {"model": "some-model", "response_format": response_format})
    return await provider.probe(Kind.TTS, options=options, credentials=Credentials(api_key=KEY, base_url=vendor.url))


async def test_probing_names_what_is_missing(vendor: FakeVendor) -> None:
    provider = get_provider("openai_compatible")
    no_model = await provider.probe(
        Kind.LLM, options=provider.parse_options(Kind.LLM, {}), credentials=Credentials(base_url=vendor.url)
    )
    no_url = await provider.probe(
        Kind.LLM, options=provider.parse_options(Kind.LLM, {"model": "m"}), credentials=Credentials()
    )
    assert "choose a model" in no_model.text
    assert "base URL" in no_url.text


def test_presets_have_what_they_need() -> None:
    for key in ("openai", "groq", "ollama", "vllm", "llama_cpp", "speaches"):
        provider = get_provider(key)
        for kind in provider.kinds:
            options = provider.parse_options(kind, {})
            assert provider.readiness(kind, options).ready
    assert get_provider("openai").needs_key
    assert not get_provider("ollama").needs_key
    with pytest.raises(BadConfiguration, match="base URL"):
        build("vllm", Kind.LLM, model="m")


async def test_an_ollama_on_this_machine_is_found(vendor: FakeVendor) -> None:
    found = await asyncio.to_thread(find_ollama, vendor.url.removesuffix("/v1"))
    assert found == (vendor.url, ["llama3.2:latest"])


async def test_looking_for_ollama_takes_half_a_second_at_most(vendor: FakeVendor) -> None:
    vendor.mood = "hang"
    started = time.perf_counter()
    assert await asyncio.to_thread(find_ollama, vendor.url.removesuffix("/v1")) is None
    assert await asyncio.to_thread(find_ollama, "http://127.0.0.1:1") is None
    assert time.perf_counter() - started < 1.2


async def test_ollama_at_its_usual_address_needs_no_leave_but_no_other_address_does(
    vendor: FakeVendor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MOLTS_ALLOWED_NETWORKS = []
    async with build("ollama", Kind.LLM, base_url=vendor.url) as model:
        with pytest.raises(APIConnectionError, match="MOLTS_ALLOWED_NETWORKS"):
            await model.chat(chat_ctx=asked("hello"), conn_options=ONCE).collect()

    monkeypatch.setattr(Ollama, "default_base_url", vendor.url)
    async with build("ollama", Kind.LLM) as model:
        answer = await model.chat(chat_ctx=asked("hello"), conn_options=ONCE).collect()
    assert answer.text == "hello from afar"
