"""Requests of visitors that no page of ours sends, and browsers that come often."""

from __future__ import annotations

import time
import uuid

import pytest
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client, RequestFactory
from pytest_django import DjangoAssertNumQueries, Settings

from avatars.models import Agent
from sessions import tokens, visitor
from sessions.lines import line_id
from sessions.models import LiveSession, RoomLink
from sessions.orders import Order
from sessions.presence import Presence
from sessions.views import StartView
from tests.agent_runtime.stack import free_port
from tests.sessions.factories import make_session

pytestmark = pytest.mark.usefixtures("quiet_events")


def own(client: Client, session: LiveSession) -> None:
    client.cookies[tokens.cookie_name(session.pk)] = tokens.sign_cookie(session.pk)


@pytest.fixture
def counted(settings: Settings) -> None:
    """How often was written is counted without Redis."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()


@pytest.fixture
def talk(agent: Agent, link: RoomLink) -> LiveSession:
    return make_session(agent, link=link)


def test_it_answers_a_wrong_method_in_the_one_shape(client: Client, link: RoomLink, talk: LiveSession) -> None:
    own(client, talk)
    for url in (f"/r/{link.public_id}/start", f"/r/{link.public_id}/sessions/{talk.pk}/end"):
        response = client.get(url)
        assert (response.status_code, response["Allow"]) == (405, "POST, OPTIONS")
        assert response.json()["errors"][0]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 16_000, id="nested"),
        pytest.param(b'{"name": "\xff"}', id="no UTF-8"),
        pytest.param(b'{"name": "\\ud800"}', id="half a character"),
        pytest.param(b'{"name": 7}', id="a number"),
        pytest.param(b'{"name": ["Zo"]}', id="a list"),
        pytest.param(b'{"resume": 7}', id="resume a number"),
        pytest.param(b"7", id="no object"),
    ],
)
def test_it_refuses_a_body_it_cannot_use(client: Client, link: RoomLink, body: bytes) -> None:
    response = client.post(f"/r/{link.public_id}/start", body, content_type="application/json")
    assert response.status_code == 400
    assert response.json()["type"] == "validation_error"
    assert not LiveSession.objects.exists()


def test_it_reads_no_body_of_any_length_however_it_is_sent(link: RoomLink) -> None:
    request = RequestFactory().post(
        f"/r/{link.public_id}/start", b'{"name": "' + b"a" * 20_000, content_type="application/json"
    )
    del request.META["CONTENT_LENGTH"]  # as when a body comes in chunks
    response = StartView.as_view()(request, public_id=link.public_id)
    assert isinstance(response, HttpResponse)
    assert (response.status_code, b"too large" in response.content) == (413, True)


def test_it_starts_nothing_while_redis_is_away(
    client: Client, link: RoomLink, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": f"redis://127.0.0.1:{free_port()}/0"}}
    response = client.post(f"/r/{link.public_id}/start", {}, content_type="application/json")
    assert (response.status_code, response.json()["errors"][0]["code"]) == (503, "unavailable")
    assert response["Retry-After"]
    assert not LiveSession.objects.exists()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reached the agent, which is there."""
    sent: list[str] = []

    monkeypatch.setattr("sessions.orders.give_order", lambda session_id, order: sent.append(order.text))
    return sent


@pytest.mark.usefixtures("counted")
def test_it_takes_what_cannot_be_shown_out_of_what_is_said(
    client: Client, link: RoomLink, talk: LiveSession, sent: list[str]
) -> None:
    own(client, talk)
    url = f"/r/{link.public_id}/sessions/{talk.pk}/say"
    body = b'{"text": " two\\u0000 \\ud83c\\udf31 li\\u0007nes\\nhere\\ud800 "}'
    assert client.post(url, body, content_type="application/json").status_code == 202
    assert sent == ["two 🌱 lines\nhere"]
    assert client.post(url, b'{"text": "\\u0000"}', content_type="application/json").status_code == 400


@pytest.mark.usefixtures("counted")
def test_a_line_keeps_the_name_that_the_page_gave_it(
    client: Client, link: RoomLink, talk: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Order] = []
    monkeypatch.setattr("sessions.orders.give_order", lambda _session, order: given.append(order))
    own(client, talk)
    url = f"/r/{link.public_id}/sessions/{talk.pk}/say"
    line = "3f2b8c1e-9d4a-4c0f-8a11-0c5d2e7f9a10"
    for body in ({"text": "hello", "id": line}, {"text": "hello", "id": line.upper()}, {"text": "hello"}):
        assert client.post(url, body, content_type="application/json").status_code == 202
    named = line_id(session_id=talk.pk, name=line)
    assert [order.id for order in given[:2]] == [named, named], "the agent can tell that it is the same line"
    assert given[2].id not in ("", named)
    for wrong in ("1", "x" * 5_000, "\u0000"):
        response = client.post(url, {"text": "hello", "id": wrong}, content_type="application/json")
        assert (response.status_code, response.json()["errors"][0]["attr"]) == (400, "id")
    assert client.post(url, {"text": "hello", "id": 7}, content_type="application/json").status_code == 400


@pytest.mark.usefixtures("counted")
def test_it_says_that_no_agent_is_there_to_hear(
    client: Client, link: RoomLink, talk: LiveSession, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    LiveSession.objects.filter(pk=talk.pk).update(agent_state="lost")
    monkeypatch.setattr("sessions.presence.presence", lambda session_id: Presence(None, visitor=True))
    own(client, talk)
    response = client.post(
        f"/r/{link.public_id}/sessions/{talk.pk}/say", {"text": "hello"}, content_type="application/json"
    )
    assert (response.status_code, response.json()["errors"][0]["code"]) == (409, "no_agent")
    assert sent == []


@pytest.mark.usefixtures("counted")
def test_a_visitor_writes_as_fast_as_people_do_and_no_program_does_more(
    client: Client, link: RoomLink, talk: LiveSession, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own(client, talk)
    url = f"/r/{link.public_id}/sessions/{talk.pk}/say"

    def write(line: int) -> int:
        return client.post(url, {"text": f"line {line}"}, content_type="application/json").status_code

    assert [write(line) for line in range(21)] == [202] * 20 + [429]
    refused = client.post(url, {"text": "more"}, content_type="application/json")
    assert refused.json()["errors"][0]["code"] == "throttled"
    assert "this line was not taken" in refused.json()["errors"][0]["detail"]
    assert 0 < int(refused["Retry-After"]) <= 10
    assert sent == [f"line {line}" for line in range(20)]
    monkeypatch.setattr("sessions.throttling.SayRateThrottle.timer", lambda _: time.time() + 10.5)
    assert write(21) == 202


def test_it_answers_a_lost_path_and_a_foreign_form_as_json_where_a_program_asks(db: None) -> None:
    client = Client(enforce_csrf_checks=True)
    lost = client.get("/api/v1/nothing")
    assert (lost.status_code, lost.json()["errors"][0]["code"]) == (404, "not_found")
    foreign = client.post("/r/x/start", {}, content_type="application/json")
    assert (foreign.status_code, foreign.json()["errors"][0]["code"]) == (403, "csrf")
    page = client.get("/nothing", headers={"Accept": "text/html"})
    assert (page.status_code, page["Content-Type"]) == (404, "text/html; charset=utf-8")


# -- Cookies ----------------------------------------------------------------------------------------------------------
def test_it_keeps_the_latest_cookies_of_a_browser_that_comes_often(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_800_000_000
    ids = [uuid.uuid4() for _ in range(visitor.MOST_COOKIES + 3)]
    for age, session_id in enumerate(ids):
        monkeypatch.setattr("time.time", lambda age=age: now - age)
        client.cookies[tokens.cookie_name(session_id)] = tokens.sign_cookie(session_id)
    monkeypatch.setattr("time.time", lambda: now)
    request = RequestFactory().get("/")
    request.COOKIES = {name: morsel.value for name, morsel in client.cookies.items()}
    response = HttpResponse()
    visitor.take_old_cookies(request, response)
    oldest = {tokens.cookie_name(session_id) for session_id in ids[visitor.MOST_COOKIES - 1 :]}
    assert set(response.cookies) == oldest
    assert all(morsel["max-age"] == 0 for morsel in response.cookies.values())


@pytest.mark.parametrize("value", ["", "x", "a:b", "a:b:c", ":::", "\x00"])
def test_it_is_opened_by_no_made_up_cookie(value: str) -> None:
    assert not tokens.opens(value, uuid.uuid4())


def test_its_cookie_opens_one_session_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    session_id, other = uuid.uuid4(), uuid.uuid4()
    cookie = tokens.sign_cookie(session_id)
    assert tokens.opens(cookie, session_id)
    assert not tokens.opens(cookie, other)
    later = time.time() + tokens.COOKIE_MAX_AGE + 5
    monkeypatch.setattr("time.time", lambda: later)
    assert not tokens.opens(cookie, session_id)


def test_it_asks_nothing_of_the_database_for_cookies_it_did_not_give(
    client: Client, link: RoomLink, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(30):
        client.cookies[tokens.cookie_name(uuid.uuid4())] = "forged"
    with django_assert_num_queries(2):  # the link, and how many talk
        assert client.get(f"/r/{link.public_id}").status_code == 200
