"""Listening to a voice in the admin, with the real espeak-ng and a vendor on loopback."""

from __future__ import annotations

import io
import json
import re
import threading
import wave
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import livekit.plugins.openai  # noqa: F401  # it wants the main thread, where a server's event loop runs
import pytest
from django.contrib.auth.models import User
from django.core.cache.backends.locmem import LocMemCache
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from avatars.models import Agent, Avatar, Voice
from avatars.throttling import ListenThrottle
from projects.models import Project, ProviderKey
from tests.forms import admin_url, form_data, messages_of
from tests.projects.world import SECRET, make_provider_key

SignIn = Callable[[User], Client]


@pytest.fixture(autouse=True)
def _own_measure(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """How often was listened is counted for this test alone."""
    monkeypatch.setattr(ListenThrottle, "cache", LocMemCache(request.node.name, {}))


@pytest.fixture
def refusing_vendor(settings: Settings) -> Iterator[str]:
    """Base URL of a vendor that refuses every key."""
    settings.MOLTS_ALLOWED_NETWORKS = ["127.0.0.1/32"]

    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}."}}).encode()
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def listen(
    client: Client,
    posted: dict[str, str] | None = None,
    *,
    voice: Voice | None = None,
    saved: bool = False,
    **more: str,
) -> Any:
    """Listen to the settings of a form, or with `saved` to a voice as it is stored."""
    values = {**(posted or {}), **more}
    args = [voice.pk] if voice and saved else []
    url = reverse("admin:avatars_voice_listen_saved" if args else "admin:avatars_voice_listen", args=args)
    if voice and not saved:
        values["voice"] = str(voice.pk)
    return client.post(url, {"text": "Hello.", **values})


def reason(response: Any) -> str:
    return str(response.json()["errors"][0]["detail"])


def make_voice(project: Project, **fields: Any) -> Voice:
    return Voice.objects.create(project=project, name="Low", **({"provider": "espeak"} | fields))


def test_it_speaks_before_it_is_saved(project: Project, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    fast, slow = (
        listen(client, project=str(project.pk), provider="espeak", option_rate=rate, text="One two three four five.")
        for rate in ("300", "90")
    )

    assert fast["Content-Type"] == slow["Content-Type"] == "audio/wav"
    with wave.open(io.BytesIO(fast.content)) as first, wave.open(io.BytesIO(slow.content)) as second:
        assert first.getnframes() * 2 < second.getnframes()
    assert not Voice.objects.exists()


def test_it_speaks_with_changes_that_are_not_saved(project: Project, bob: User, sign_in: SignIn) -> None:
    voice = make_voice(project)

    response = listen(sign_in(bob), voice=voice, provider="espeak", option_pitch="10")

    assert response.content.startswith(b"RIFF")
    voice.refresh_from_db()
    assert voice.options == {}


def test_a_viewer_hears_a_saved_voice_alone(project: Project, vera: User, sign_in: SignIn) -> None:
    voice = make_voice(project)
    client = sign_in(vera)

    assert listen(client, voice=voice, saved=True).content.startswith(b"RIFF")
    assert listen(client, project=str(project.pk), provider="espeak").status_code == 403


def test_a_stranger_hears_nothing(project: Project, charlie: User, other_project: Project, sign_in: SignIn) -> None:
    voice = make_voice(project)
    key = make_provider_key(project)
    client = sign_in(charlie)

    assert listen(client, voice=voice, saved=True).status_code == 404
    posted = {"project": str(project.pk), "provider": "espeak"}
    assert listen(client, posted).status_code == 400
    posted = {"project": str(other_project.pk), "provider": "openai", "provider_key": str(key.pk)}
    assert "valid choice" in reason(listen(client, posted))
    assert listen(Client(), voice=voice, saved=True).status_code == 302


def test_a_key_of_ones_other_project_is_refused(
    project: Project, other_project: Project, charlie: User, sign_in: SignIn
) -> None:
    project.members.create(user=charlie, role="owner")
    key = make_provider_key(other_project)

    posted = {"project": str(project.pk), "provider": "openai", "provider_key": str(key.pk)}

    assert "another project" in reason(listen(sign_in(charlie), posted))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"text": "  "}, "Write a text"),
        ({"text": "x" * 301}, "at most 300 characters"),
        ({"provider": ""}, "Provider: This field is required."),
        ({"provider": "openai"}, "^OpenAI needs a key: choose one, or add one first.$"),
        ({"provider_key": "another's"}, "^This key is for openai, not for espeak.$"),
        ({"option_rate": "fast"}, "Rate: Enter a whole number."),
        ({"option_voice": "a; rm"}, "^espeak-ng .*voice: "),
    ],
)
def test_it_says_what_to_mend(project: Project, bob: User, sign_in: SignIn, values: dict[str, str], words: str) -> None:
    if "provider_key" in values:
        values = {"provider_key": str(make_provider_key(project).pk)}

    response = listen(sign_in(bob), {"project": str(project.pk), "provider": "espeak"} | values)

    assert response.status_code == 400
    assert re.search(words, reason(response))


@pytest.mark.parametrize("saved", [True, False])
def test_it_shows_the_vendors_own_words_without_the_key(
    project: Project, bob: User, sign_in: SignIn, refusing_vendor: str, saved: bool
) -> None:
    key = make_provider_key(project)
    ProviderKey.objects.filter(pk=key.pk).update(base_url=refusing_vendor)
    voice = make_voice(project, provider="openai", provider_key=key)

    response = listen(sign_in(bob), voice=voice, saved=saved, provider="openai", provider_key=str(key.pk))

    assert response.status_code == 503
    assert reason(response) == "OpenAI: 401: Incorrect API key provided: [hidden]."


def test_nobody_listens_without_end(project: Project, bob: User, sign_in: SignIn, monkeypatch: Any) -> None:
    monkeypatch.setattr(ListenThrottle, "rate", "2/min")
    voice = make_voice(project)
    client = sign_in(bob)

    answers = [listen(client, voice=voice, saved=True) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert "Listen again in" in reason(answers[2])


# -- The voice's page -------------------------------------------------------------------------------------------------
def test_the_page_has_fields_and_a_box_to_listen(project: Project, bob: User, sign_in: SignIn) -> None:
    voice = make_voice(project, options={"rate": 120})

    page = sign_in(bob).get(admin_url(Voice, "change", voice.pk)).content.decode()

    assert 'name="option_rate" value="120"' in page
    assert f'data-url="{reverse("admin:avatars_voice_listen")}"' in page
    assert 'name="options"' not in page


def test_a_viewers_page_reads(project: Project, vera: User, sign_in: SignIn) -> None:
    voice = make_voice(project, options={"rate": 120})

    page = sign_in(vera).get(admin_url(Voice, "change", voice.pk)).content.decode()

    assert "rate 120" in page
    assert "option_rate" not in page
    assert f'data-url="{reverse("admin:avatars_voice_listen_saved", args=[voice.pk])}"' in page


def test_a_change_says_which_agents_it_reaches(agent: Agent, bob: User, sign_in: SignIn) -> None:
    voice = make_voice(agent.project)
    Agent.objects.update(voice=voice)
    client = sign_in(bob)
    data = form_data(client.get(admin_url(Voice, "change", voice.pk))) | {"option_rate": "99"}

    response = client.post(admin_url(Voice, "change", voice.pk), data, follow=True)

    assert "Used from the next conversation on by: Ada." in messages_of(response)
    assert "Ada</a>" in client.get(admin_url(Voice, "change", voice.pk)).content.decode()
    newest = agent.revisions.first()
    assert newest is not None
    assert newest.snapshot["voice"]["options"] == {"rate": 99}


def test_a_face_says_who_has_it(agent: Agent, bob: User, sign_in: SignIn) -> None:
    face = Avatar.objects.create(project=agent.project, name="Face", builtin="mira")
    client = sign_in(bob)
    assert "No agent yet" in client.get(admin_url(Avatar, "change", face.pk)).content.decode()
    Agent.objects.update(avatar=face)

    page = client.get(admin_url(Avatar, "change", face.pk)).content.decode()

    assert f'href="{admin_url(Agent, "change", agent.pk)}">Ada</a>' in page
