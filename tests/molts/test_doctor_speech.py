"""`manage.py doctor` on recognisers, the speech server, voices and language models."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django import Settings

from molts.doctor_checks import speech
from molts.doctor_checks.findings import Finding, Level
from projects.providers.base import ServerHere
from projects.providers.ollama import Ollama


def test_it_says_which_recogniser_serves(settings: Settings) -> None:
    settings.MOLTS_WHISPER_MODEL = str(Path(__file__).parents[1] / "fixtures" / "micro-whisper")
    assert speech.check_recogniser().level == Level.OK

    settings.MOLTS_WHISPER_MODEL = "base"
    found = speech.check_recogniser()

    assert found.level == Level.WARNING
    assert "offline recogniser" in found.text
    assert "MOLTS_WHISPER_MODEL" in found.fix


def test_it_says_what_the_speech_server_has_loaded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MOLTS_SPEECH_URL = ""
    assert "each conversation loads" in speech.check_speech_server().text

    settings.MOLTS_SPEECH_URL = "unix:///nowhere/speech.sock"
    found = speech.check_speech_server()
    assert (found.level, "run_speech" in found.fix) == (Level.WARNING, True)

    state = {"ready": True, "model": "base", "wanted": "base", "device": "cpu", "compute_type": "int8", "streams": 2}
    monkeypatch.setattr(speech, "read_state", lambda *_, **__: state)
    found = speech.check_speech_server()
    assert (found.level, found.text) == (Level.OK, "base on cpu (int8), 2 conversations")

    state |= {"model": "tiny", "ladder": {"reason": "load 91%", "moves": 3}}
    found = speech.check_speech_server()
    assert found.level == Level.WARNING
    assert found.text == "tiny on cpu (int8), 2 conversations, 3 changes of size; instead of base: load 91%"

    state |= {"model": "base", "ladder": {"reason": "", "moves": 1, "error": "tiny is broken"}}
    found = speech.check_speech_server()
    assert (found.level, found.text.split(", ", 2)[2]) == (
        Level.OK,
        "1 change of size, the last one failed: tiny is broken",
    )

    state |= {"ready": False, "model": ""}
    assert "base is not loaded" in speech.check_speech_server().text
    del state["model"]  # what it tells those who do not know the secret
    assert "secret" in speech.check_speech_server().text


def test_it_says_which_voice_speaks() -> None:
    found = speech.check_voices()

    assert found.level == Level.WARNING  # the natural voice is never fetched in tests
    assert "espeak-ng speaks" in found.text
    assert found.fix


def test_it_names_the_models_of_an_ollama_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ollama, "find_here", lambda _: ServerHere(["llama3.2", "qwen3"], ""))
    assert speech.check_language_models() == Finding(Level.OK, "Ollama with llama3.2, qwen3; scripted answers")
    monkeypatch.setattr(Ollama, "find_here", lambda _: None)
    assert speech.check_language_models().text == "scripted answers; no Ollama on this machine"
