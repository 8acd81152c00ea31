"""Test connection: the admin's button against vendors that answer well, wrongly or not at all."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from projects.models import AuditEntry, Project, ProviderKey
from tests.forms import admin_url, form_data, messages_of
from tests.projects.providers.conftest import FakeVendor
from tests.projects.providers.sounds import pcm

KEY = "sk-canary-1234567890"
SAVED = "admin:projects_providerkey_test"
UNSAVED = "admin:projects_providerkey_test_new"


@pytest.fixture(autouse=True)
def _own_settings(settings: Settings) -> None:
    settings.MOLTS_ALLOWED_NETWORKS = ["127.0.0.1/32"]
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "probes"}}
    cache.clear()


@pytest.fixture
def vendor() -> Iterator[FakeVendor]:
    """The fake vendor in a thread of its own: the admin's views wait for it."""
    fake = FakeVendor(audio=pcm())
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    server = TestServer(fake.app(), host="127.0.0.1")
    run(server.start_server(shutdown_timeout=0.1))
    fake.url = f"http://127.0.0.1:{server.port}/v1"
    yield fake
    run(server.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)


@pytest.fixture
def key(project: Project, vendor: FakeVendor) -> ProviderKey:
    """A key whose vendor is the fake one."""
    key = ProviderKey(project=project, name="Main", provider="openai", base_url=vendor.url)
    key.set_secret(KEY)
    key.save()
    return key


@pytest.fixture
def client(alice: User, key: ProviderKey, sign_in: Callable[[User], Client]) -> Client:
    """Signed in as the project's owner."""
    return sign_in(alice)


def ask(client: Client, key: ProviderKey | None, **data: Any) -> Any:
    url = reverse(SAVED, args=[key.pk]) if key else reverse(UNSAVED)
    response = client.post(url, data, headers={"Accept": "application/json"})
    assert response.status_code == 200
    assert KEY not in response.content.decode()
    assert "no-store" in response["Cache-Control"]
    return response.json()


def test_it_shows_what_each_kind_took(client: Client, key: ProviderKey) -> None:
    outcome = ask(client, key)

    assert outcome["ok"], outcome
    assert [each["label"] for each in outcome["results"]] == ["Speech recognition", "Language model", "Voice"]
    assert all(0 <= each["latency_ms"] < 8000 for each in outcome["results"])
    assert {each["verdict"] for each in outcome["results"]} == {"works"}
    entry = AuditEntry.objects.get()
    assert (entry.user_name, entry.object_id, entry.project) == ("alice", str(key.pk), key.project)
    assert entry.text == ("Tested the connection: speech recognition works, language model works, voice works.")


@pytest.mark.parametrize(
    ("mood", "text"),
    [
        ("refuse", "401: Incorrect API key provided: [hidden]."),
        ("busy", "429: Rate limit reached."),
        ("redirect", "307"),
    ],
)
def test_it_gives_the_vendors_own_words(
    client: Client, key: ProviderKey, vendor: FakeVendor, mood: str, text: str
) -> None:
    vendor.mood = mood

    outcome = ask(client, key)

    assert not outcome["ok"]
    assert len(outcome["results"]) == 3
    for each in outcome["results"]:
        assert not each["ok"]
        assert text in each["text"], each


def test_it_says_what_was_wrong_with_a_broken_answer(client: Client, key: ProviderKey, vendor: FakeVendor) -> None:
    vendor.mood = "wrong_json"

    outcome = ask(client, key)

    for each in outcome["results"]:
        assert not each["ok"]
        assert "not JSON" in each["text"] or "JSON instead of audio" in each["text"], each


def test_a_page_instead_of_an_answer_is_told_as_that(client: Client, key: ProviderKey, vendor: FakeVendor) -> None:
    vendor.mood = "page"
    for each in ask(client, key)["results"]:
        assert not each["ok"]
        assert each["text"] == "the server answered with a web page: check the base URL", each


@pytest.mark.slow
def test_a_vendor_that_hangs_costs_ten_seconds_at_most(client: Client, key: ProviderKey, vendor: FakeVendor) -> None:
    vendor.mood = "hang"
    started = time.monotonic()

    outcome = ask(client, key)

    assert time.monotonic() - started < 10, "all kinds are tried at once"
    for each in outcome["results"]:
        assert each["text"].startswith("OpenAI did not answer within 8 s. Check the base URL")


def test_it_says_when_nobody_listens(client: Client, key: ProviderKey) -> None:
    ProviderKey.objects.filter(pk=key.pk).update(base_url="http://127.0.0.1:9/v1")
    outcome = ask(client, key)
    assert not outcome["ok"]
    says = "nothing answers at 127.0.0.1:9: check the address, and that the server runs"
    assert [each["text"] for each in outcome["results"]] == [says] * 3


def test_it_says_when_there_is_no_such_host(client: Client, key: ProviderKey) -> None:
    ProviderKey.objects.filter(pk=key.pk).update(base_url="http://nowhere.invalid/v1")
    assert all("nowhere.invalid cannot be resolved" in each["text"] for each in ask(client, key)["results"])


def test_it_tries_what_the_form_holds_and_saves_nothing(
    client: Client, key: ProviderKey, vendor: FakeVendor, project: Project
) -> None:
    fields = {"project": project.pk, "provider": "openai", "base_url": vendor.url, "secret": "sk-another-0987654321"}

    assert ask(client, None, **fields)["ok"]
    assert {headers["Authorization"] for _, headers in vendor.requests} == {"Bearer sk-another-0987654321"}
    assert ProviderKey.objects.count() == 1

    vendor.requests.clear()
    assert ask(client, key, **fields | {"secret": ""})["ok"]
    assert {headers["Authorization"] for _, headers in vendor.requests} == {f"Bearer {KEY}"}, "the stored one"
    key.refresh_from_db()
    assert key.name == "Main"


def test_it_never_sends_the_stored_secret_to_another_host(client: Client, key: ProviderKey, vendor: FakeVendor) -> None:
    elsewhere = vendor.url.replace("127.0.0.1", "localhost")

    outcome = ask(client, key, name="Main", provider="openai", base_url=elsewhere, secret="")

    assert "Type the secret again" in outcome["error"]
    assert not vendor.requests


def test_it_lists_the_models_of_a_server_without_a_usual_one(
    client: Client, vendor: FakeVendor, project: Project
) -> None:
    outcome = ask(client, None, project=project.pk, provider="vllm", base_url=vendor.url, secret="")
    assert outcome["ok"]
    assert "choose a model" in outcome["results"][0]["text"]
    assert {each["verdict"] for each in outcome["results"]} == {"reached"}, "what was not tried is not said to work"

    vendor.mood = "refuse"
    assert not ask(client, None, project=project.pk, provider="vllm", base_url=vendor.url, secret=KEY)["ok"]


def test_a_form_that_cannot_be_saved_is_not_tried(client: Client, vendor: FakeVendor, project: Project) -> None:
    missing = ask(client, None, project=project.pk, provider="openai", base_url=vendor.url, secret="")
    assert missing["error"] == "OpenAI needs a secret."
    assert ask(client, None)["error"]
    assert not vendor.requests


def test_without_scripts_the_list_answers_with_messages(client: Client, key: ProviderKey, vendor: FakeVendor) -> None:
    vendor.mood = "refuse"
    response = client.post(reverse(SAVED, args=[key.pk]), follow=True)
    assert [message.split(":")[0] for message in messages_of(response)] == [
        "Speech recognition failed",
        "Language model failed",
        "Voice failed",
    ]


def test_without_scripts_the_form_saves_tests_and_stays(client: Client, key: ProviderKey) -> None:
    page = admin_url(ProviderKey, "change", key.pk)
    data = form_data(client.get(page)) | {"name": "Renamed", "_test": "1"}

    response = client.post(page, data, follow=True)

    assert response.redirect_chain[-1][0] == page
    assert any("Language model works" in message for message in messages_of(response))
    key.refresh_from_db()
    assert key.name == "Renamed"


@pytest.mark.parametrize("who", ["bob", "vera", "charlie"])
def test_only_an_owner_may_test(
    request: pytest.FixtureRequest,
    key: ProviderKey,
    other_project: Project,
    vendor: FakeVendor,
    sign_in: Callable[[User], Client],
    who: str,
) -> None:
    """Editors and viewers look at the key, a stranger does not know it; charlie owns a project elsewhere."""
    browser = sign_in(request.getfixturevalue(who))
    response = browser.post(reverse(SAVED, args=[key.pk]), headers={"Accept": "application/json"})
    assert response.status_code == (404 if who == "charlie" else 403)
    fields = {"project": key.project_id, "provider": "openai", "base_url": vendor.url, "secret": "sk-0987654321"}
    response = browser.post(reverse(UNSAVED), fields, headers={"Accept": "application/json"})
    assert response.status_code == 403 or response.json()["error"]
    assert not vendor.requests


def test_it_is_posted_with_a_token(alice: User, key: ProviderKey) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    assert strict.post(reverse(SAVED, args=[key.pk])).status_code == 403
    assert strict.get(reverse(SAVED, args=[key.pk])).status_code == 405
    assert Client().post(reverse(SAVED, args=[key.pk])).status_code == 302, "strangers sign in first"


def test_it_counts_the_presses(client: Client, key: ProviderKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projects.probes.ProbeThrottle.rate", "2/min")
    assert [ask(client, key)["ok"] for _ in range(2)] == [True, True]
    assert ask(client, key)["error"].startswith("Tested too often. Try again in")


def test_a_key_for_hosted_faces_is_tested_like_any_other(client: Client, project: Project, vendor: FakeVendor) -> None:
    key = ProviderKey(project=project, name="Faces", provider="tavus", base_url=vendor.url)
    key.set_secret(KEY)
    key.save()

    (answer,) = ask(client, key)["results"]

    assert (answer["label"], answer["ok"]) == ("Face", False)  # this vendor knows no faces
    assert "404" in answer["text"]


def test_a_viewer_reads_whose_key_it_is(key: ProviderKey, vera: User, sign_in: Callable[[User], Client]) -> None:
    ProviderKey.objects.filter(pk=key.pk).update(provider="openai_compatible")
    page = sign_in(vera).get(admin_url(ProviderKey, "change", key.pk)).content.decode()
    assert "OpenAI-compatible server" in page
    assert "openai_compatible" not in page
