"""A speech server on loopback, asked by the OpenAI client that everybody uses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.agent_runtime.speech import micro_server
from tests.agent_runtime.speech.voices import SENTENCES, convert, say, silence, write_wav
from tests.agent_runtime.stack import ROOT, end, free_port, wait_for


@pytest.fixture(scope="package")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the speech server puts what it is sent."""
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="package")
def speech_server(uploads: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process and its address."""
    port = free_port()
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(uploads),
    }
    command = [sys.executable, "-m", micro_server.__name__, str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        wait_for("the speech server", lambda: process.poll() is not None or _answers(url), seconds=60)
        assert process.poll() is None, "the speech server ended by itself"
        yield process, url
    finally:
        end(process)


def _answers(url: str) -> bool:
    try:
        return any(model.id == "micro-whisper" for model in client(url).models.list())
    except openai.APIConnectionError:
        return False


def client(url: str, *, key: str = micro_server.SECRET) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=100)


@pytest.fixture
def ask(speech_server: tuple[subprocess.Popen[bytes], str]) -> Iterator[openai.OpenAI]:
    with client(speech_server[1]) as asking:
        yield asking


@pytest.fixture(scope="package")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The first sentence as WAV, MP3, OGG (Vorbis), Opus, FLAC, M4A and WebM."""
    folder = tmp_path_factory.mktemp("spoken")
    wav = write_wav(folder / "said.wav", say(SENTENCES[0], folder))
    kinds = ("mp3", "ogg", "opus", "flac", "m4a", "webm")
    return {"wav": wav, **{kind: convert(wav, folder / f"said.{kind}") for kind in kinds}}


@pytest.fixture(scope="package")
def two_sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sentences, two seconds apart."""
    import numpy as np

    folder = tmp_path_factory.mktemp("two")
    parts = [silence(1), say(SENTENCES[0], folder), silence(2), say(SENTENCES[1], folder), silence(1)]
    return write_wav(folder / "two.wav", np.concatenate(parts))
