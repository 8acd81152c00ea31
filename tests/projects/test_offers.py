"""What the fields for model and voice suggest: asked of a real server on loopback, in the forms that servers have."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from projects import offers
from projects.models import Project, ProviderKey
from projects.providers.base import Kind
from projects.providers.offers import models_for

SECRET = "sk-canary-1234567890"
MODELS = {"data": [{"id": name} for name in ("whisper-1", "gpt-4.1-mini", "tts-1", "text-embedding-3", "a\nb", "")]}


class Server(ThreadingHTTPServer):
    """Answers each path with what the test says; a path without an answer is 404."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.hold.wait(30)
        answer = self.server.answers.get(self.path)
        body = b"<h1>It works!</h1>" if answer == "page" else json.dumps(answer).encode()
        self.send_response(200 if answer is not None else 404)
        self.send_header("Content-Type", "text/html" if answer == "page" else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.answers["/v1/models"] = MODELS
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture(autouse=True)
def _own_settings(settings: Settings) -> None:
    settings.MOLTS_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "offers"}}
    cache.clear()


def make_key(project: Project, url: str, *, provider: str = "openai_compatible") -> ProviderKey:
    key = ProviderKey(project=project, name=f"Key {ProviderKey.objects.count()}", provider=provider, base_url=url)
    key.set_secret(SECRET)
    key.save()
    return key


def ask(client: Client, kind: str, key: ProviderKey | None, *, provider: str = "", status: int = 200) -> Any:
    query = {
        "provider": provider or (key.provider if key else ""),
        "kind": kind,
        "provider_key": str(key.pk) if key else "",
    }
    response = client.get(reverse("admin:projects_providerkey_offers"), query)
    assert response.status_code == status
    assert SECRET not in response.content.decode()
    return response.json()["offers"] if status == 200 else None


def test_models_are_offered_for_what_they_do(
    project: Project, bob: User, server: Server, sign_in: Callable[[User], Client]
) -> None:
    key, client = make_key(project, server.url), sign_in(bob)
    assert ask(client, "llm", key) == {"model": ["gpt-4.1-mini"]}
    assert ask(client, "stt", key) == {"model": ["whisper-1"]}
    assert ask(client, "tts", key) == {"model": ["tts-1"], "voice": []}


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v1/audio/voices", {"voices": ["af_heart", "am_adam"]}),
        ("/v1/audio/voices", [{"id": "af_heart", "name": "Heart"}, {"voice_id": "am_adam"}]),
        ("/v1/audio/voices", {"data": [{"name": "am_adam"}, {"name": "af_heart"}, {"name": 7}]}),
        ("/v1/audio/speech/voices", {"voices": [{"voice_id": "af_heart"}, {"voice_id": "am_adam"}]}),
        ("/v1/models", {"data": [{"id": "kokoro", "voices": [{"name": "am_adam"}, {"name": "af_heart"}]}]}),
    ],
)
def test_voices_are_read_in_every_form(
    project: Project, bob: User, server: Server, sign_in: Callable[[User], Client], path: str, answer: Any
) -> None:
    server.answers[path] = answer
    assert ask(sign_in(bob), "tts", make_key(project, server.url))["voice"] == ["af_heart", "am_adam"]


def test_a_vendor_without_a_list_of_voices_has_the_documented_ones(
    project: Project, bob: User, server: Server, sign_in: Callable[[User], Client]
) -> None:
    assert "marin" in ask(sign_in(bob), "tts", make_key(project, server.url, provider="openai"))["voice"]


def test_programs_of_this_machine_name_their_voices_without_a_key(
    project: Project, bob: User, sign_in: Callable[[User], Client]
) -> None:
    client = sign_in(bob)
    assert "en-us" in ask(client, "tts", None, provider="espeak")["voice"]
    assert ask(client, "tts", None, provider="supertonic")["voice"][:2] == ["F1", "F2"]
    assert ask(client, "llm", None, provider="openai") == {}, "no vendor is asked without a key"


def test_an_answer_is_kept_for_its_key_alone_and_asked_anew_when_the_key_changes(
    project: Project, bob: User, server: Server, sign_in: Callable[[User], Client]
) -> None:
    key, client = make_key(project, server.url), sign_in(bob)
    ask(client, "llm", key)
    ask(client, "llm", key)
    assert server.asked == ["/v1/models"]
    ask(client, "llm", make_key(project, server.url))
    key.save()
    ask(client, "llm", key)
    assert server.asked == ["/v1/models"] * 3


def test_nobody_is_told_what_the_server_of_another_project_has(
    project: Project, other_project: Project, server: Server, vera: User, bob: User, sign_in: Callable[[User], Client]
) -> None:
    key = make_key(other_project, server.url)
    ask(sign_in(bob), "llm", key, status=404)
    ask(sign_in(vera), "llm", make_key(project, server.url), status=403)
    assert server.asked == []


@pytest.mark.parametrize("query", [{"kind": "llm"}, {"kind": "x"}, {"kind": "avatar"}, {"provider_key": "no-uuid"}])
def test_what_is_no_question_is_not_found(
    project: Project, bob: User, sign_in: Callable[[User], Client], query: dict[str, str]
) -> None:
    asked = {"provider": "espeak", "kind": "tts", **query}
    assert sign_in(bob).get(reverse("admin:projects_providerkey_offers"), asked).status_code == 404


@pytest.mark.parametrize("answer", [None, "page", {"data": "x"}, [1, None], {"data": [{"id": "x" * 500}]}])
def test_a_server_that_answers_something_else_offers_nothing(
    project: Project, bob: User, server: Server, sign_in: Callable[[User], Client], answer: Any
) -> None:
    server.answers["/v1/models"] = answer
    assert not any(ask(sign_in(bob), "llm", make_key(project, server.url)).values())


def test_a_server_that_does_not_answer_is_not_waited_for(
    project: Project, bob: User, server: Server, sign_in: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "ASK_SECONDS", 0.2)
    monkeypatch.setattr(offers, "ALL_SECONDS", 1.0)
    server.hold.clear()
    key, client = make_key(project, server.url), sign_in(bob)
    began = time.monotonic()
    assert ask(client, "llm", key) == {}
    assert time.monotonic() - began < 15, "the server would hold it for 30 s"
    assert len(server.asked) <= 1


def test_a_private_address_is_asked_only_when_the_operator_allowed_it(
    project: Project, bob: User, server: Server, sign_in: Callable[[User], Client], settings: Settings
) -> None:
    settings.MOLTS_ALLOWED_NETWORKS = []
    assert ask(sign_in(bob), "llm", make_key(project, server.url)) == {}
    assert server.asked == []


def test_a_model_that_names_its_task_needs_no_telling_name() -> None:
    entries = [{"id": "house/ear", "task": "automatic-speech-recognition"}, {"id": "house/mouth"}]
    assert models_for(Kind.STT, entries) == ["house/ear"]
    assert models_for(Kind.TTS, entries) == ["house/ear", "house/mouth"], "all of them, when none seems to fit"
