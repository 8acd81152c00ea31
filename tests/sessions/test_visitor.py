"""Pages and endpoints of visitors, without a media server; the whole way is driven in tests/e2e."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import jwt
import pytest
import redis
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from avatars.models import Agent
from molts.errors import Unavailable
from sessions import presence, rooms
from sessions.models import LiveSession, RoomLink
from sessions.tokens import cookie_name
from tests.agent_runtime.stack import RedisServer
from tests.sessions.factories import make_session, say

pytestmark = pytest.mark.usefixtures("quiet_events", "media_server_says_yes")


@pytest.fixture
def media_server_says_yes(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    async def yes(*_: Any, **__: Any) -> str:
        return ""

    for name in ("open_room", "dispatch_agent", "close_room"):
        monkeypatch.setattr(rooms, name, yes)
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()


@pytest.fixture
def visitor() -> Client:
    return Client()


def start(client: Client, link: RoomLink, **body: Any) -> Any:
    return client.post(f"/r/{link.public_id}/start", json.dumps(body), content_type="application/json")


def boot(response: HttpResponseBase) -> dict[str, Any]:
    assert isinstance(response, HttpResponse)
    text = response.content.decode()
    begin = text.index('<script id="boot" type="application/json">') + 42
    data: dict[str, Any] = json.loads(text[begin : text.index("</script>", begin)])
    return data


def error_code(response: Any) -> str:
    return str(response.json()["errors"][0]["code"])


def test_it_starts_a_conversation_and_hands_out_its_keys(visitor: Client, link: RoomLink) -> None:
    response = start(visitor, link, name="Zoë")
    assert response.status_code == 201
    data, session = response.json(), LiveSession.objects.get()
    assert data["session"] == {"id": str(session.pk), "state": "waiting"}
    assert data["ws_path"] == f"/ws/sessions/{session.pk}/"
    assert session.visitor_name == "Zoë"
    claims = jwt.decode(data["participant_token"], settings.LIVEKIT_API_SECRET, algorithms=["HS256"])
    assert claims["video"] == {
        "roomJoin": True,
        "room": session.room_name,
        "canPublish": True,
        "canSubscribe": True,
        "canPublishData": True,
        "canPublishSources": ["microphone", "camera"],
        "canUpdateOwnMetadata": False,
    }
    assert claims["exp"] - claims["nbf"] <= 125
    assert not claims.get("metadata")
    assert not claims.get("roomConfig")
    (cookie,) = response.cookies.values()
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")
    assert response["Cache-Control"] == "no-store"


def test_it_resumes_after_a_reload(visitor: Client, link: RoomLink) -> None:
    session_id = start(visitor, link).json()["session"]["id"]
    page = boot(visitor.get(f"/r/{link.public_id}"))
    assert (page["state"], page["session"]["id"]) == ("resume", session_id)
    again = start(visitor, link, resume=session_id)
    assert (again.status_code, again.json()["session"]["id"]) == (200, session_id)
    assert LiveSession.objects.count() == 1


def test_it_ends_downloads_and_erases_by_cookie(visitor: Client, link: RoomLink) -> None:
    session_id = start(visitor, link).json()["session"]["id"]
    base = f"/r/{link.public_id}/sessions/{session_id}/"
    say(LiveSession.objects.get(), "user", "hello")
    ended = visitor.post(f"{base}end")
    assert ended.json() == {"state": "ended", "reason": "ended_by_user"}
    file = visitor.get(f"{base}transcript?format=txt")
    assert "hello" in file.content.decode()
    assert file["Content-Disposition"].startswith("attachment;")
    assert error_code(start(visitor, link, resume=session_id)) == "session_ended"
    assert visitor.delete(base).status_code == 204
    assert LiveSession.objects.count() == 0
    assert visitor.get(f"{base}transcript").status_code == 404


def test_it_opens_nothing_of_another_visitor(visitor: Client, link: RoomLink, other_link: RoomLink) -> None:
    theirs = Client()
    session_id = start(theirs, link).json()["session"]["id"]
    start(visitor, link)
    for base in (f"/r/{link.public_id}/sessions/{session_id}/", f"/r/{other_link.public_id}/sessions/{session_id}/"):
        assert visitor.post(f"{base}end").status_code == 404
        assert visitor.get(f"{base}transcript").status_code == 404
        say_it = visitor.post(f"{base}say", json.dumps({"text": "x"}), content_type="application/json")
        assert say_it.status_code == 404
        assert visitor.delete(base).status_code == 404
    assert start(visitor, link, resume=session_id).status_code == 404
    # The right cookie under another link's address opens nothing either.
    assert theirs.get(f"/r/{other_link.public_id}/sessions/{session_id}/transcript").status_code == 404


@pytest.mark.parametrize(
    ("changes", "state", "status", "code"),
    [
        ({"revoked_at": timezone.now()}, "revoked", 410, "link_revoked"),
        ({"expires_at": timezone.now() - timedelta(days=1)}, "expired", 410, "link_expired"),
        ({"max_concurrent": 0}, "full", 429, "link_full"),
    ],
)
def test_it_says_in_words_why_a_link_is_closed(
    visitor: Client, link: RoomLink, changes: dict[str, Any], state: str, status: int, code: str
) -> None:
    RoomLink.objects.filter(pk=link.pk).update(**changes)
    assert boot(visitor.get(f"/r/{link.public_id}"))["state"] == state
    response = start(visitor, link)
    assert (response.status_code, error_code(response)) == (status, code)
    assert LiveSession.objects.count() == 0


def test_it_answers_404_for_an_unknown_link(visitor: Client, db: None) -> None:
    assert visitor.get("/r/nothing").status_code == 404
    assert visitor.post("/r/nothing/start", "{}", content_type="application/json").status_code == 404


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        (b"{", None),
        (b"[]", None),
        (b"\xff", None),
        (json.dumps({"name": 7}).encode(), "name"),
        (json.dumps({"name": "x" * 101}).encode(), "name"),
        (json.dumps({"name": "a\0b"}).encode(), "name"),
    ],
)
def test_it_refuses_bad_input_and_writes_nothing(
    visitor: Client, link: RoomLink, body: bytes, attr: str | None
) -> None:
    response = visitor.post(f"/r/{link.public_id}/start", body, content_type="application/json")
    assert response.status_code == (413 if len(body) > 16_384 else 400)
    assert response.json()["errors"][0]["attr"] == attr
    assert LiveSession.objects.count() == 0


def test_it_refuses_a_body_that_is_too_large_as_that(visitor: Client, link: RoomLink) -> None:
    body = b'{"name": "' + b"x" * 1_000_000 + b'"}'
    response = visitor.post(f"/r/{link.public_id}/start", body, content_type="application/json")
    assert response.status_code == 413
    assert LiveSession.objects.count() == 0


def test_it_wants_the_csrf_token_and_our_own_origin(link: RoomLink) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert start(strict, link).status_code == 403
    strict.get(f"/r/{link.public_id}")
    headers = {"X-CSRFToken": strict.cookies["csrftoken"].value}
    post: dict[str, Any] = {"path": f"/r/{link.public_id}/start", "data": "{}", "content_type": "application/json"}
    assert strict.post(**post, headers={**headers, "Origin": "http://evil.example"}).status_code == 403
    assert strict.post(**post, headers=headers).status_code == 201


def test_it_slows_down_whoever_starts_too_many(
    visitor: Client, link: RoomLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessions.throttling.StartRateThrottle.rate", "2/min", raising=False)
    RoomLink.objects.filter(pk=link.pk).update(max_concurrent=50)
    statuses = [start(visitor, link).status_code for _ in range(3)]
    assert statuses == [201, 201, 429]
    refused = start(visitor, link)
    assert error_code(refused) == "throttled"
    assert int(refused["Retry-After"]) > 0


def test_all_addresses_of_one_subscriber_are_slowed_down_together(
    visitor: Client, link: RoomLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessions.throttling.StartRateThrottle.rate", "2/min", raising=False)
    RoomLink.objects.filter(pk=link.pk).update(max_concurrent=50)
    statuses = []
    for address in ("2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:3::4", "2001:db8:1:3::1"):
        visitor.defaults["REMOTE_ADDR"] = address
        statuses.append(start(visitor, link).status_code)
    assert statuses == [201, 201, 429, 201]


def test_it_leaves_a_failed_session_behind_when_the_media_server_is_away(
    visitor: Client, link: RoomLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("The media server is out of reach.")

    monkeypatch.setattr(rooms, "open_room", away)
    response = start(visitor, link)
    assert (response.status_code, error_code(response)) == (503, "unavailable")
    assert LiveSession.objects.get().state == "failed"


def test_it_lets_a_one_session_link_open_just_its_session(visitor: Client, link: RoomLink, agent: Agent) -> None:
    RoomLink.objects.filter(pk=link.pk).update(one_session=True)
    session = make_session(agent, link=link)
    page = visitor.get(f"/r/{link.public_id}")
    assert boot(page)["session"]["id"] == str(session.pk)
    assert start(visitor, link, resume=str(session.pk)).status_code == 200
    assert error_code(start(visitor, link)) == "link_expired"
    LiveSession.objects.update(state="ended")
    assert boot(visitor.get(f"/r/{link.public_id}"))["state"] == "expired"


def test_a_one_session_link_is_for_the_first_browser_that_enters(link: RoomLink, agent: Agent) -> None:
    RoomLink.objects.filter(pk=link.pk).update(one_session=True)
    session = make_session(agent, link=link)
    url, mine = f"/r/{link.public_id}", f"/r/{link.public_id}/sessions/{session.pk}/"
    preview, first, second = Client(), Client(), Client()
    assert preview.get(url).status_code == second.get(url).status_code == first.get(url).status_code == 200
    assert not preview.cookies.get(cookie_name(session.pk)), "to look is not to enter"
    assert second.delete(mine).status_code == 404

    assert start(first, link, resume=str(session.pk)).status_code == 200
    refused = start(second, link, resume=str(session.pk))

    assert (refused.status_code, error_code(refused)) == (409, "link_claimed")
    page = second.get(url)
    assert page.status_code == 409
    assert "already open in another browser" in page.content.decode()
    assert str(session.pk) not in page.content.decode()
    assert second.delete(mine).status_code == 404
    assert boot(first.get(url))["session"]["id"] == str(session.pk), "a reload goes on"
    assert start(first, link, resume=str(session.pk)).status_code == 200


def test_whom_a_program_invites_enters_by_themselves(link: RoomLink, agent: Agent, own_redis: RedisServer) -> None:
    RoomLink.objects.filter(pk=link.pk).update(one_session=True)
    session = make_session(agent, link=link)
    visitor = Client()
    first = boot(visitor.get(f"/r/{link.public_id}"))
    assert (first["state"], first["session"]["id"]) == ("invited", str(session.pk))
    assert presence.is_awaited(session.pk), "whoever reads the page has time for it"
    assert start(visitor, link, resume=str(session.pk)).status_code == 200
    assert boot(visitor.get(f"/r/{link.public_id}"))["state"] == "resume"


def test_the_page_of_an_invitation_needs_no_redis(
    link: RoomLink, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    RoomLink.objects.filter(pk=link.pk).update(one_session=True)
    make_session(agent, link=link)
    monkeypatch.setattr(presence, "client", lambda: redis.Redis(port=1, socket_connect_timeout=0.2))
    assert boot(Client().get(f"/r/{link.public_id}"))["state"] == "invited"


def test_an_invitation_that_is_over_says_so(link: RoomLink, agent: Agent) -> None:
    RoomLink.objects.filter(pk=link.pk).update(one_session=True)
    session = make_session(agent, link=link)
    LiveSession.objects.update(state="ended")
    response = start(Client(), link, resume=str(session.pk))
    assert (response.status_code, error_code(response)) == (410, "session_ended")
    assert error_code(start(Client(), link, resume=str(uuid.uuid4()))) == "not_found"


def test_it_offers_only_open_links_on_the_start_page(visitor: Client, link: RoomLink, other_link: RoomLink) -> None:
    RoomLink.objects.filter(pk=link.pk).update(on_start_page=True)
    text = visitor.get("/").content.decode()
    assert f"/r/{link.public_id}" in text
    assert other_link.public_id not in text


def test_it_shows_an_empty_start_page_that_names_the_next_step(visitor: Client, db: None) -> None:
    response = visitor.get("/")
    assert response.status_code == 200
    assert "/admin/avatars/agent/add/" in response.content.decode()


def test_next_steps_are_for_whoever_runs_it_and_not_for_their_visitors(
    visitor: Client, link: RoomLink, settings: Settings, django_user_model: type[User]
) -> None:
    settings.ALLOWED_HOSTS = ["talk.example.org", "127.0.0.1"]

    here = visitor.get("/", headers={"Host": "127.0.0.1:8000"}).content.decode()
    elsewhere = visitor.get("/", headers={"Host": "talk.example.org"}).content.decode()
    visitor.force_login(django_user_model.objects.create_user("ada"))
    signed_in = visitor.get("/", headers={"Host": "talk.example.org"}).content.decode()

    assert "Sign in to the admin" in here
    assert "/docs/quickstart.html" in here
    assert "Next steps" not in elsewhere
    assert '"/docs/"' in elsewhere
    assert "Open the admin" in signed_in


def test_it_runs_no_script_of_a_name(visitor: Client, link: RoomLink, agent: Agent) -> None:
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    Agent.objects.filter(pk=agent.pk).update(name=evil[:100], description=evil, greeting=evil)
    response = visitor.get(f"/r/{link.public_id}")
    text = response.content.decode()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert boot(response)["agent"]["greeting"] == evil
    assert "script-src 'self'" in response["Content-Security-Policy"]
    assert "unsafe-inline" not in response["Content-Security-Policy"]


def test_it_needs_few_queries(
    visitor: Client, link: RoomLink, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(3):
        visitor.get(f"/r/{link.public_id}")
    with django_assert_max_num_queries(30):
        assert start(visitor, link).status_code == 201


def test_it_tells_nothing_by_a_made_up_session(visitor: Client, link: RoomLink) -> None:
    for made_up in (str(uuid.uuid4()), "x", "", 7):
        assert start(visitor, link, resume=made_up).status_code in (400, 404) or made_up == ""
