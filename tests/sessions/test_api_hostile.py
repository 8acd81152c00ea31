"""What arrives when nobody means well: a clear 4xx in the one shape, and nothing half-written."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.contrib.auth.models import User

from avatars.models import Agent
from molts.errors import BadInput
from projects.models import ApiKey, IdempotencyKey
from sessions.models import LiveSession, RoomLink
from sessions.services import clean_name
from tests.api import Caller, by_key, by_login, error_of
from tests.sessions.factories import make_session

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("live_servers")]

MEGABYTE = "x" * 1_000_000


@pytest.fixture
def key(api_key: tuple[ApiKey, str], agent: Agent) -> Caller:
    """A program of project A, which has the agent `ada`."""
    return by_key(api_key[1])


def assert_nothing_was_made() -> None:
    assert not LiveSession.objects.exists()
    assert not RoomLink.objects.exists()
    assert not IdempotencyKey.objects.exists()


@pytest.mark.parametrize(
    ("body", "status", "attr"),
    [
        ({}, 400, "agent"),
        ({"agent": ""}, 400, "agent"),
        ({"agent": None}, 400, "agent"),
        ({"agent": 7}, 400, "agent"),
        ({"agent": True}, 400, "agent"),
        ({"agent": ["ada"]}, 400, "agent"),
        ({"agent": {"slug": "ada"}}, 400, "agent"),
        ({"agent": "x" * 61}, 400, "agent"),
        ({"agent": "ada\x00"}, 400, "agent"),
        ({"agent": "\ud800"}, 400, "agent"),
        ({"agent": "nobody"}, 404, "agent"),
        ({"agent": "ada' OR 1=1 --"}, 404, "agent"),
        ({"agent": str(uuid.uuid4())}, 404, "agent"),
        ({"agent": "ada", "participant_name": "x" * 101}, 400, "participant_name"),
        ({"agent": "ada", "participant_name": "a\ue000b"}, 400, "participant_name"),
        ({"agent": "ada", "participant_name": "a\x00b"}, 400, "participant_name"),
        ({"agent": "ada", "participant_name": 12}, 400, "participant_name"),
        ({"agent": "ada", "participant_name": None}, 400, "participant_name"),
        ({"agent": "ada", "participantName": "x"}, 400, "participantName"),
        ({"agent": "ada", "project": "x"}, 400, "project"),
        ({"agent": "ada", "a\x00": "x"}, 400, "a\x00"),
        ([], 400, "non_field_errors"),
        ([{"agent": "ada"}], 400, "non_field_errors"),
        ("ada", 400, "non_field_errors"),
        (None, 400, None),
    ],
)
def test_a_body_it_cannot_use_is_refused_by_name(key: Caller, body: Any, status: int, attr: str | None) -> None:
    answer = key.post("sessions", json.dumps(body), Idempotency_Key="k")

    assert answer.status_code == status, answer.content
    if attr is not None:
        assert error_of(answer)["attr"] == attr
    assert_nothing_was_made()


def test_the_schema_says_which_characters_a_name_may_not_hold() -> None:
    """What it leaves out is refused, all that it allows is taken; halves of characters are no text at all."""
    schema = yaml.safe_load((settings.BASE_DIR / "docs" / "openapi.yaml").read_text())["components"]["schemas"]
    name = schema["StartSessionRequest"]["properties"]["participant_name"]
    (pattern,) = {choice["pattern"] for choice in name["oneOf"] if "pattern" in choice}
    for number in (*range(0xD800), *range(0xE000, 0x10000)):
        given = f"a{chr(number)}b"
        try:
            clean_name(given)
            taken = True
        except BadInput:
            taken = False
        assert taken == bool(re.search(pattern, given)), hex(number)
    for text in (schema["StartSessionRequest"]["properties"]["agent"], schema["SayRequest"]["properties"]["text"]):
        assert re.search(text["pattern"], "Grüße 🌱\n")
        assert not re.search(text["pattern"], "a\x00b")


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"{'agent': 'ada'}",
        b'{"agent": NaN}',
        b'{"agent": 1e999999}',
        b"\xff\xfe{\x00",
        b'{"agent": "\xc3\x28"}',
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b"1" * 5_000,
    ],
    ids=["cut", "quotes", "nan", "infinite", "utf-16", "bad utf-8", "deep lists", "deep objects", "long number"],
)
def test_what_is_not_json_is_refused(key: Caller, raw: bytes) -> None:
    answer = key.post("sessions", raw)

    assert answer.status_code == 400
    error_of(answer)
    assert_nothing_was_made()


def test_a_megabyte_is_too_much(key: Caller) -> None:
    for path, body in (
        ("sessions", {"agent": "ada", "participant_name": MEGABYTE}),
        ("sessions", {"agent": MEGABYTE}),
        ("token", {"room_config": {"agents": [{"agent_name": MEGABYTE}]}}),
        ("sessions", {MEGABYTE: "ada"}),
    ):
        answer = key.post(path, body)
        assert (answer.status_code, error_of(answer)["code"]) == (413, "too_large")
        assert len(answer.content) < 1_000
    assert_nothing_was_made()


def test_chunks_without_a_length_are_not_taken_for_nothing(key: Caller) -> None:
    answer = key.client.generic(
        "POST",
        "/api/v1/sessions",
        b'{"agent": "ada"}',
        content_type="application/json",
        headers={**key.headers, "Transfer-Encoding": "chunked"},
        CONTENT_LENGTH="",
    )

    assert (answer.status_code, error_of(answer)["code"]) == (411, "length_required")
    assert_nothing_was_made()


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "nonsense",
        "",
    ],
)
def test_another_content_type_is_refused(key: Caller, content_type: str) -> None:
    answer = key.client.generic(
        "POST", "/api/v1/sessions", b'{"agent": "ada"}', content_type=content_type, headers=key.headers
    )

    assert answer.status_code in (400, 415)
    error_of(answer)
    assert_nothing_was_made()


def test_a_broken_form_of_a_login_is_no_server_error(bob: User, agent: Agent) -> None:
    caller = by_login(bob)
    caller.client.handler.enforce_csrf_checks = True

    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        answer = caller.client.generic("POST", "/api/v1/sessions", b"x" * 3_000_000, content_type=content_type)
        assert 400 <= answer.status_code < 500, content_type
        error_of(answer)
    assert_nothing_was_made()


@pytest.mark.parametrize("charset", ["utf-16", "base64", "zip", "nonsense", "utf-8"])
def test_a_body_is_read_as_utf_8_whatever_it_calls_itself(key: Caller, charset: str) -> None:
    raw = json.dumps({"agent": "ada", "participant_name": "Zoë"}, ensure_ascii=False).encode()
    answer = key.client.generic(
        "POST", "/api/v1/sessions", raw, content_type=f"application/json; charset={charset}", headers=key.headers
    )

    assert answer.status_code in (201, 400)
    if answer.status_code == 201:
        assert LiveSession.objects.get().visitor_name == "Zoë"


@pytest.mark.parametrize("value", ["", " ", "a b", " a", "a\tb", "a\x7fb", "x" * 256, "a\x00b", "ключ", "a\nb"])
def test_a_bad_idempotency_key_is_refused(key: Caller, value: str) -> None:
    answer = key.post("sessions", {"agent": "ada"}, Idempotency_Key=value)

    assert (answer.status_code, error_of(answer)["attr"]) == (400, "Idempotency-Key")
    assert_nothing_was_made()


@pytest.mark.parametrize(
    ("query", "status", "attr"),
    [
        ("page=0", 400, "page"),
        ("page=-1", 400, "page"),
        ("page=x", 400, "page"),
        ("page=999999", 404, None),
        ("page=" + "9" * 30, 400, "page"),
        ("page=" + "9" * 5_000, 400, "page"),
        ("page_size=0", 400, "page_size"),
        ("page_size=201", 400, "page_size"),
        ("state=asleep", 400, "state"),
        ("state=", 400, "state"),
        ("state=%00", 400, "state"),
        ("agent=ada", 400, "agent"),
        ("agent=%00", 400, "agent"),
        ("ordering=spec", 400, "ordering"),
        ("ordering=agent__project__api_keys__digest", 400, "ordering"),
        ("project=1", 400, "project"),
        ("a%00=1", 400, "a\x00"),
    ],
)
def test_a_query_it_does_not_know_is_refused(key: Caller, query: str, status: int, attr: str | None) -> None:
    answer = key.client.get(f"/api/v1/sessions?{query}", headers=key.headers)

    assert answer.status_code == status
    assert error_of(answer)["attr"] == attr


@pytest.mark.parametrize("format", ["", "pdf", "TXT", "../../etc/passwd", "\x00", "x" * 5_000])
def test_an_unknown_format_names_the_known(key: Caller, agent: Agent, format: str) -> None:
    answer = key.get(f"sessions/{make_session(agent).pk}/transcript", format=format)

    assert (answer.status_code, error_of(answer)["attr"]) == (400, "format")


@pytest.mark.parametrize(
    "path",
    [
        "sessions/",
        "sessions/7",
        "sessions/not-an-id",
        "sessions/%00",
        "sessions/../../etc/passwd",
        "agents/ada",
        "nothing",
    ],
)
def test_an_address_without_a_door_is_a_404_in_json(key: Caller, path: str) -> None:
    for answer in (key.get(path), key.post(path, {})):
        assert answer.status_code == 404
        error_of(answer)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_another_method_is_a_405(key: Caller, agent: Agent, method: str) -> None:
    for path in ("sessions", f"sessions/{make_session(agent).pk}", f"agents/{agent.pk}", "token"):
        answer = key.client.generic(method, f"/api/v1/{path}", headers=key.headers)
        assert (answer.status_code, error_of(answer)["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        ({}, "text"),
        ({"text": "", "as": "user"}, "text"),
        ({"text": "  \n", "as": "user"}, "text"),
        ({"text": "\u0001", "as": "user"}, "text"),
        ({"text": "a\x00b", "as": "user"}, "text"),
        ({"text": "x" * 4_001, "as": "user"}, "text"),
        ({"text": 5, "as": "user"}, "text"),
        ({"text": "hi"}, "as"),
        ({"text": "hi", "as": "system"}, "as"),
        ({"text": "hi", "as": None}, "as"),
        ({"text": "hi", "as": "user", "role": "agent"}, "role"),
    ],
)
def test_words_it_cannot_hand_over_are_refused(key: Caller, agent: Agent, body: Any, attr: str) -> None:
    answer = key.post(f"sessions/{make_session(agent).pk}/say", body)

    assert (answer.status_code, error_of(answer)["attr"]) == (400, attr)


def test_an_answer_nobody_can_read_is_a_406(key: Caller) -> None:
    key.headers["Accept"] = "application/xml"

    assert key.get("sessions").status_code == 406
