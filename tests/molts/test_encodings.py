"""No body, query or header makes a server error: halves of characters, strange encodings, and JSON without measure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from avatars.models import Agent, Avatar
from molts.api import error_body
from molts.errors import BadInput
from projects.models import ApiKey, Project
from sessions.models import LiveSession, RoomLink
from tests.api import Caller, by_key, error_of
from tests.forms import admin_url
from tests.sessions.factories import make_session

SignIn = Callable[[User], Client]
HALF = "\ud800"  # one half of a character that takes two in UTF-16: JSON can name it, UTF-8 cannot carry it

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("live_servers")]


@pytest.fixture
def key(api_key: tuple[ApiKey, str], agent: Agent) -> Caller:
    return by_key(api_key[1])


# -- Programs ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "body", "attr"),
    [
        ("sessions", {"agent": "ada", HALF: "b"}, "?"),
        ("sessions", {"agent": "ada", f"a{HALF}b": {HALF: HALF}}, "a?b"),
        ("sessions", {"agent": HALF}, "agent"),
        ("sessions", {"agent": "ada", "participant_name": HALF}, "participant_name"),
        ("sessions", {HALF * 200: 1}, "?" * 100),
        ("token", {HALF: 1, "room_config": {"agents": [{"agent_name": "ada"}]}}, "?"),
        ("token", {"room_config": {HALF: 1, "agents": [{"agent_name": "ada"}]}}, "room_config.?"),
        ("token", {"room_config": {"agents": [{"agent_name": "ada", "\udfff": 1}]}}, "room_config.agents.0.?"),
        ("token", {"room_config": {"agents": [{"agent_name": HALF}]}}, "room_config.agents.0.agent_name"),
        ("token", {"room_config": {"agents": {HALF: 1}}}, "room_config.agents"),
        ("sessions/{id}/say", {"text": "hi", "as": HALF}, "as"),
        ("sessions/{id}/say", {"text": "hi", "as": {HALF: 1}}, "as"),
        ("sessions/{id}/say", {"text": HALF, "as": "user"}, "text"),
        ("sessions/{id}/say", {"text": "hi", "as": "user", HALF: 1}, "?"),
    ],
)
def test_half_a_character_anywhere_in_a_body_is_a_400_that_can_be_read(
    key: Caller, agent: Agent, path: str, body: object, attr: str
) -> None:
    answer = key.post(path.format(id=make_session(agent).pk), json.dumps(body))

    assert answer.status_code == 400
    assert error_of(answer)["attr"] == attr
    assert "\ud800" not in answer.content.decode()


def test_an_error_of_ours_can_always_be_sent() -> None:
    body = error_body(BadInput(f"What is {HALF}?", attr=f"a{HALF}"))

    assert body["errors"] == [{"code": "invalid", "detail": "What is ??", "attr": "a?"}]
    json.dumps(body, ensure_ascii=False).encode()


@pytest.mark.parametrize("charset", ["hex", "unicode_escape", "raw_unicode_escape", "utf-7", "utf-16", "rot13", "idna"])
@pytest.mark.parametrize("query", ["state=\\ud800", "%5Cud800=1", "page=+2AA-", "agent=zz"])
def test_a_query_is_read_as_utf_8(key: Caller, charset: str, query: str) -> None:
    answer = key.client.generic(
        "GET", f"/api/v1/sessions?{query}", content_type=f"text/plain; charset={charset}", headers=key.headers
    )

    assert answer.status_code == 400
    error_of(answer)


@pytest.mark.parametrize("query", ["state=%ED%A0%80", "%ED%A0%80=1", "state=%FF", "%C3=%28", "agent=%F4%90%80%80"])
def test_a_query_that_is_no_text_is_refused(key: Caller, query: str) -> None:
    answer = key.client.get(f"/api/v1/sessions?{query}", headers=key.headers)

    assert answer.status_code == 400
    error_of(answer)


@pytest.mark.parametrize("name", ["Authorization", "Idempotency-Key", "Accept", "Accept-Language", "Cookie", "Origin"])
@pytest.mark.parametrize("value", ["\xed\xa0\x80", "\xff", "=?utf-8?b?7aCA?=", "\\ud800", "\x00"])
def test_no_header_makes_a_server_error(key: Caller, name: str, value: str) -> None:
    answer = key.client.post(
        "/api/v1/sessions", json.dumps({"agent": HALF}), "application/json", headers={**key.headers, name: value}
    )

    assert 400 <= answer.status_code < 500
    error_of(answer)


# -- Visitors ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": HALF}, 400),
        ({"resume": HALF}, 404),
        ({"resume": str(uuid.uuid4()), HALF: HALF}, 404),
        ({"name": [HALF]}, 400),
        ({"name": {HALF: 1}}, 400),
    ],
)
def test_a_visitors_page_gets_an_error_that_it_can_read(link: RoomLink, body: object, status: int) -> None:
    answer = Client(raise_request_exception=False).post(f"/r/{link.public_id}/start", body, "application/json")

    assert answer.status_code == status
    error_of(answer)
    assert not LiveSession.objects.exists()


@pytest.mark.parametrize(
    "raw", [b'{"name": ' + b"1" * 5_000 + b"}", b"[" * 5_000, b'{"name": "\xed\xa0\x80"}', b"\xff"]
)
def test_json_without_measure_is_refused(link: RoomLink, raw: bytes) -> None:
    answer = Client(raise_request_exception=False).post(f"/r/{link.public_id}/start", raw, "application/json")

    assert answer.status_code == 400
    error_of(answer)


def test_what_is_too_large_is_a_413_everywhere(link: RoomLink, key: Caller, bob: User, sign_in: SignIn) -> None:
    large = json.dumps({"name": "x" * 5_000_000})
    browser = Client(raise_request_exception=False)

    start = browser.post(f"/r/{link.public_id}/start", large, "application/json")
    assert (start.status_code, error_of(start)["code"]) == (413, "too_large")
    member = sign_in(bob)
    for answer in (
        key.post("sessions", large),
        member.post("/api/v1/sessions", large, "application/json"),
        member.post("/api/v1/token", large, "application/json"),
    ):
        assert (answer.status_code, error_of(answer)["code"]) == (413, "too_large")
    form = member.post(admin_url(Avatar, "add"), large, "application/x-www-form-urlencoded")
    assert form.status_code == 413
    assert browser.post("/webhooks/livekit", large, "application/webhook+json").status_code == 413


@pytest.mark.parametrize("charset", ["hex", "unicode_escape", "utf-7", "utf-16", "latin-1"])
def test_a_form_in_another_encoding_is_refused(charset: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="next"\r\n\r\n\\ud800\r\n--x--\r\n'
    answer = Client().generic("POST", "/language", body, f"multipart/form-data; boundary=x; charset={charset}")

    assert answer.status_code == 400


@pytest.mark.parametrize("name", [b"\xed\xa0\x80", b"\xff", b"a\x00b", "é".encode("cp1252")])
def test_names_in_a_form_that_are_no_text_are_refused_or_ignored(name: bytes) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\nx\r\n--x--\r\n' % (name, name)
    answer = Client().post("/language", body, "multipart/form-data; boundary=x")

    assert answer.status_code < 500


# -- The admin --------------------------------------------------------------------------------------------------------
DEEP = "[" * 5_000
POINTS = [
    *(DEEP, '{"a":' * 5_000, "1" * 5_000, '{"left_eye": [' + "1" * 5_000 + ", 0]}", '{"left_eye": [NaN, 1e999]}'),
    *('"\\ud800"', '{"\\ud800": "\\udfff"}', "{", "null", '"\\u0000"'),
]


@pytest.mark.parametrize("value", POINTS, ids=[value[:12] for value in POINTS])
def test_no_marks_on_a_face_make_a_server_error(project: Project, bob: User, sign_in: SignIn, value: str) -> None:
    client = sign_in(bob)
    client.raise_request_exception = False
    posted = {
        "project": str(project.pk),
        "name": "Face",
        "engine": "portrait",
        "option_eyes": value,
        "option_face": value,
    }

    for page in ("add", "preview"):
        answer = client.post(admin_url(Avatar, page), posted)
        assert answer.status_code < 500, page
    assert not Avatar.objects.exists()


def test_halves_of_characters_from_other_encodings_reach_no_form(agent: Agent, bob: User, sign_in: SignIn) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="question"\r\n\r\n\\ud800\r\n--x--\r\n'
    client = sign_in(bob)
    client.raise_request_exception = False
    for charset in ("unicode_escape", "hex"):
        content_type = f"multipart/form-data; boundary=x; charset={charset}"
        answer = client.generic("POST", admin_url(Agent, "ask"), body, content_type)
        assert answer.status_code == 400


@pytest.mark.parametrize(
    "query", ["q=%ED%A0%80", "q=%00", "p=" + "9" * 5_000, "page=" + "9" * 5_000, "q=a&page=" + "9" * 5_000]
)
def test_no_query_of_a_list_makes_a_server_error(agent: Agent, bob: User, sign_in: SignIn, query: str) -> None:
    client = sign_in(bob)
    client.raise_request_exception = False
    session = make_session(agent)

    lists = [admin_url(model, "changelist") for model in (Agent, LiveSession)]
    for url in (*lists, admin_url(LiveSession, "change", session.pk), reverse("admin:search")):
        assert client.get(f"{url}?{query}").status_code < 500, url
