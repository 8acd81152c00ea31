"""What operators see of the speech server: in `/metrics` and on the admin's first page."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from pytest_django import Settings

from agent_runtime.speech.engine import Engine
from agent_runtime.speech.ladder import Ladder, LadderPolicy, LadderSettings, Processor
from agent_runtime.speech.server import SpeechServer
from agent_runtime.speech.stream import DecodingPace, StreamFigures
from avatars.models import Agent
from molts.admin.speech_figures import ANSWER_SECONDS, speech_context
from molts.metrics import speech_metrics
from projects.providers.faster_whisper.state import SpeechServerSilent, read_state
from tests.agent_runtime.stack import free_port
from tests.molts.test_start_page import SignIn, talk


def told() -> dict[str, Any]:
    """What a real server says that fell to a smaller model."""
    figures = StreamFigures(speech_seconds=30, silence_seconds=70, agreed_words=200, revised_words=3)
    figures.final_lags.extend([0.1] * 90 + [0.4] * 10)
    server = SpeechServer(engine=Engine(), model="small", pace=DecodingPace(), figures=figures)
    server.scheduler.figures.refused = 4
    server.streams = 2
    policy = LadderPolicy(LadderSettings(), home="small")
    policy.current = "base"
    server.ladder = Ladder(server.engine, policy, read_load=Processor(), reason="load 91%")
    server.engine._loaded["base"] = SimpleNamespace(name="base", device="cpu", compute_type="int8")  # type: ignore[assignment]
    server.engine.use("base")
    state = server.state()
    server.engine.close()
    return state


class StandIn:
    """A speech server that says what it is told to, as slowly as it is told to."""

    def __init__(self) -> None:
        self.state: Any = told()
        self.drip = False
        self.over = threading.Event()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.dumps(self.state).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if not self.drip:
            request.wfile.write(body)
        while self.drip and not self.over.wait(0.05):
            request.wfile.write(b" ")


@pytest.fixture
def speech_server(settings: Settings) -> Iterator[StandIn]:
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stand_in.answer(self)

        def log_message(self, *_: Any) -> None: ...

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None: ...  # whoever asked has gone

    server = Quiet(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    settings.MOLTS_SPEECH_URL = f"ws://127.0.0.1:{server.server_port}"
    yield stand_in
    stand_in.over.set()
    server.shutdown()
    server.server_close()


class SpeechAlone(Collector):
    def collect(self) -> Iterator[Metric]:
        return speech_metrics()


def metrics() -> dict[str, float]:
    """What Prometheus reads: name and values of the labels, by the labels' names, against value."""
    text = generate_latest(SpeechAlone()).decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {" ".join([each.name, *(each.labels[name] for name in sorted(each.labels))]): each.value for each in samples}


def cards(context: dict[str, Any]) -> dict[str, tuple[str, str, bool]]:
    return {card.title: (card.value, card.note, card.bad) for card in context["speech_cards"]}


def test_prometheus_reads_its_figures(speech_server: StandIn) -> None:
    found = metrics()
    assert found["molts_speech_model small cpu base"] == 1
    assert found["molts_speech_final_lag_seconds 0.95"] == 0.4
    expected = {
        "up": 1, "ready": 1, "streams": 2, "refused_total": 4, "heard_seconds_total": 30, "silence_seconds_total": 70,
        "agreed_words_total": 200, "revised_words_total": 3, "sizes_below_chosen": 1, "model_changes_total": 0,
    }  # fmt: skip
    assert {name: found[f"molts_speech_{name}"] for name in expected} == expected
    assert "molts_speech_load" not in found, "it was not looked at yet"


def test_a_models_name_cannot_break_the_metrics(speech_server: StandIn) -> None:
    speech_server.state["model"] = 'a "large"\\model\n'
    assert metrics()['molts_speech_model small cpu a "large"\\model\n'] == 1


def test_the_first_page_shows_them_as_cards(speech_server: StandIn) -> None:
    found = cards(speech_context())
    assert found == {
        "Model": ("base", "instead of small: load 91%; cpu, int8", True),
        "Conversations": ("2", "connected; 0 decodes wait", False),
        "Kept from Whisper": ("70.0 %", "silence; it has run for 0 s", False),
        "Final words": ("400 ms", "95 % come within; half within 100 ms", False),
        "Busy": ("4", "requests refused", True),
        "Corrected words": ("1.5 %", "3 of 200 agreed words", False),
    }


def test_a_server_that_has_heard_nothing_yet_has_no_shares(speech_server: StandIn) -> None:
    speech_server.state = {"model": "base", "ready": True}  # of another version, that says hardly anything
    found = cards(speech_context())
    assert [found[title][0] for title in ("Kept from Whisper", "Final words", "Corrected words")] == ["–", "–", "–"]
    assert "molts_speech_final_lag_seconds 0.95" not in metrics()


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"ready": True}, "refuses our secret"),
        ({"model": "base", "streams": "many"}, "cannot be read"),
        ([], "does not answer"),
        ({"model": "", "wanted": "small", "ready": False}, "waits for small"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(speech_server: StandIn, state: Any, says: str) -> None:
    speech_server.state = state
    assert says in speech_context()["speech_problem"]


def test_without_a_server_there_is_nothing_to_show(settings: Settings) -> None:
    settings.MOLTS_SPEECH_URL = ""
    assert (speech_context(), metrics()) == ({}, {})


@pytest.mark.parametrize("url", ["unix:///nowhere/speech.sock", "ws://127.0.0.1:{port}"])
def test_a_server_that_is_away_is_told(settings: Settings, url: str) -> None:
    settings.MOLTS_SPEECH_URL = url.format(port=free_port())
    assert "does not answer" in speech_context()["speech_problem"]
    assert metrics() == {"molts_speech_up": 0}


def test_a_server_that_trickles_holds_nothing_up(speech_server: StandIn, settings: Settings) -> None:
    """A socket's own timeout would begin anew with each byte."""
    speech_server.drip = True
    began = time.monotonic()
    assert f"no answer in {ANSWER_SECONDS} s" in speech_context()["speech_problem"]
    assert time.monotonic() - began < 10 * ANSWER_SECONDS
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(SpeechServerSilent):
            read_state(settings.MOLTS_SPEECH_URL, timeout=0.1)
    until = time.monotonic() + 5
    while [each for each in threading.enumerate() if each.name == "fetch"]:
        assert time.monotonic() < until, f"threads stay: {before} before, {threading.active_count()} now"
        time.sleep(0.02)


# -- who sees it -----------------------------------------------------------------------------------------------------
def test_only_who_runs_the_installation_sees_it(
    speech_server: StandIn, agent: Agent, root: User, alice: User, sign_in: SignIn
) -> None:
    talk(agent, at=datetime.now(UTC))
    page = _page(sign_in(root))
    assert "Speech recognition" in page
    assert "instead of small: load 91%" in page
    speech_server.state = {}
    assert "The speech server does not answer (it refuses our secret)." in _page(sign_in(root))
    assert "speech-title" not in _page(sign_in(alice))


def test_the_metrics_page_has_it(speech_server: StandIn, client: Client, db: None, settings: Settings) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    assert "molts_speech_up 1.0\n" in client.get("/metrics").content.decode()


def _page(client: Client) -> str:
    return re.sub(r"\s+", " ", client.get("/admin/").content.decode())
