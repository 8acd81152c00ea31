"""The weights cannot be fetched everywhere, so the engine is replaced by one that hums; all around it is real."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from livekit.agents import APIError
from livekit.agents.types import APIConnectOptions
from pytest_django import Settings

from molts.errors import BadConfiguration
from projects.providers import get_provider
from projects.providers.base import Kind, Persona
from projects.providers.supertonic import voice as supertonic_voice
from projects.providers.supertonic.options import MODEL
from projects.providers.supertonic.voice import SAMPLE_RATE, LoadedVoice, prewarm, voice_language
from projects.providers.supertonic.weights import ask_terms, terms_accepted
from tests.projects.providers.conftest import build

pytest.importorskip("supertonic")
ONCE = APIConnectOptions(max_retry=0)


class HummingEngine:
    sample_rate = SAMPLE_RATE

    def __init__(self) -> None:
        self.spoken: list[tuple[str, str]] = []
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def get_voice_style(self, name: str) -> str:
        if name not in ("F1", "M1"):
            raise ValueError(f"voice style {name} does not exist")
        return name

    def synthesize(self, text: str, *, lang: str, **_: Any) -> tuple[Any, Any]:
        if self.spoken:
            self.gate.wait(5)
        self.spoken.append((text, lang))
        self.threads.add(threading.current_thread().name)
        seconds = np.arange(self.sample_rate // 2, dtype=np.float32) / self.sample_rate
        return np.sin(seconds * 2764).reshape(1, -1) * 0.5, np.array([0.5])


@pytest.fixture
def engine(own_data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> HummingEngine:
    folder = own_data_folder / "models" / "supertonic" / MODEL
    (folder / "onnx").mkdir(parents=True)
    (folder / "voice_styles").mkdir()
    for name in ("tts.json", "vocoder.onnx", "vector_estimator.onnx"):
        (folder / "onnx" / name).write_text("")
    engine = HummingEngine()
    monkeypatch.setattr(supertonic_voice, "_voice", LoadedVoice(engine))
    return engine


async def test_it_speaks_sentence_by_sentence(engine: HummingEngine) -> None:
    engine.gate.clear()  # the second sentence waits
    voice = build("supertonic", Kind.TTS, persona=Persona(language="de-DE"))

    async with voice.synthesize("Guten Tag. Wie geht es?", conn_options=ONCE) as stream:
        first = await anext(stream)
        assert first.frame.sample_rate == 44100
        assert engine.spoken == [("Guten Tag.", "de")]  # heard before the second was made
        engine.gate.set()
        rest = [audio.frame.duration async for audio in stream]

    assert first.frame.duration + sum(rest) == pytest.approx(1.0, abs=0.05)
    assert engine.spoken[1] == ("Wie geht es?", "de")
    assert all(name.startswith("supertonic") for name in engine.threads)


async def test_it_names_a_voice_that_does_not_exist(engine: HummingEngine) -> None:
    with pytest.raises(APIError, match="F5 does not exist"):
        await build("supertonic", Kind.TTS, voice="F5").synthesize("Hello.", conn_options=ONCE).collect()


async def test_it_keeps_silent_for_text_without_words(engine: HummingEngine) -> None:
    frame = await build("supertonic", Kind.TTS).synthesize("... !", conn_options=ONCE).collect()
    assert frame.duration == pytest.approx(0.05, abs=0.01)
    assert engine.spoken == []


def test_it_is_not_ready_without_weights_and_says_what_to_do(own_data_folder: Path) -> None:
    provider = get_provider("supertonic")

    readiness = provider.readiness(Kind.TTS, provider.parse_options(Kind.TTS, {}))

    assert not readiness.ready
    assert "MOLTS_ACCEPT_VOICE_TERMS=1" in readiness.fix
    with pytest.raises(BadConfiguration, match="weights of Supertonic are not here"):
        build("supertonic", Kind.TTS)
    prewarm()  # does nothing, raises nothing


def test_an_answer_on_the_terminal_is_remembered(
    own_data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    assert not ask_terms()  # no terminal: not asked, not accepted

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: "no")
    assert not ask_terms()
    assert "OpenRAIL-M" in capsys.readouterr().out
    assert not terms_accepted()

    monkeypatch.setattr("builtins.input", lambda prompt: "Yes")
    assert ask_terms()
    assert terms_accepted()
    assert "Accepted on" in (own_data_folder / "models" / "supertonic" / "terms-accepted.txt").read_text()


@pytest.mark.parametrize(("tag", "code"), [("en", "en"), ("pt-BR", "pt"), ("zh", "na"), ("", "na")])
def test_it_reads_language_tags(tag: str, code: str) -> None:
    assert voice_language(tag) == code
