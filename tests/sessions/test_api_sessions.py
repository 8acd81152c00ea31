"""Conversations by REST, on the real media server and a real Redis."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from livekit import rtc
from pytest_django import DjangoAssertNumQueries, Settings

from avatars.models import Agent, PipelineStep, Voice
from molts import beats
from projects.choices import MemberRole
from projects.models import ApiKey, Project, ProviderKey
from projects.services import add_member, revoke_api_key
from sessions import presence, rooms
from sessions.models import LiveSession, RoomLink
from sessions.orders import orders_key
from tests.api import Caller, by_key, by_login, error_of
from tests.conftest import make_agent
from tests.servers import MediaServer
from tests.sessions.factories import make_session, say

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("live_servers")]


@pytest.fixture
def key(api_key: tuple[ApiKey, str]) -> Caller:
    """A program of project A."""
    return by_key(api_key[1])


@pytest.fixture
def other_key(other_api_key: tuple[ApiKey, str]) -> Caller:
    """A program of project B."""
    return by_key(other_api_key[1])


@pytest.fixture
def session(agent: Agent) -> LiveSession:
    """An active session of project A with two lines."""
    session = make_session(agent, visitor_name="Vic")
    say(session, "agent", "Hello, this is Ada.")
    say(session, "user", "Good morning.", at_ms=65_000)
    session.refresh_from_db()
    return session


# -- Starting ---------------------------------------------------------------------------------------------------------
def test_it_starts_a_conversation(key: Caller, agent: Agent, settings: Settings) -> None:
    answer = key.post("sessions", {"agent": "ada", "participant_name": " Grace "})

    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == {"id", "room_name", "server_url", "participant_token", "join_url", "ws_url"}
    session = LiveSession.objects.get(pk=body["id"])
    assert (session.agent, session.source, session.state, session.visitor_name) == (agent, "api", "waiting", "Grace")
    assert answer["Location"] == f"/api/v1/sessions/{session.pk}"
    assert answer["Cache-Control"] == "no-store"
    assert body["room_name"] == session.room_name
    assert body["server_url"] == settings.LIVEKIT_PUBLIC_URL
    assert body["ws_url"] == f"ws://127.0.0.1:8000/ws/sessions/{session.pk}/"
    assert async_to_sync(rooms.list_room_names)(settings.MOLTS_INSTANCE) == [session.room_name]
    assert key.get(f"sessions/{session.pk}").json()["join_url"] == body["join_url"]


def test_its_agent_may_be_named_by_id(key: Caller, agent: Agent) -> None:
    assert key.post("sessions", {"agent": str(agent.pk)}).status_code == 201


def test_its_token_opens_one_room_and_nothing_else(key: Caller, agent: Agent, live_servers: MediaServer) -> None:
    body = key.post("sessions", {"agent": "ada"}).json()

    claims = jwt.decode(body["participant_token"], live_servers.secret, algorithms=["HS256"])
    granted = {name: value for name, value in claims["video"].items() if value}
    assert granted == {
        "roomJoin": True,
        "room": body["room_name"],
        "canPublish": True,
        "canSubscribe": True,
        "canPublishData": True,
        "canPublishSources": ["microphone", "camera"],
    }
    assert set(claims) <= {"iss", "sub", "nbf", "exp", "name", "video"}
    assert 0 < claims["exp"] - time.time() <= 120


async def _join(body: dict[str, Any]) -> str:
    room = rtc.Room()
    await room.connect(body["server_url"], body["participant_token"])
    try:
        return room.name
    finally:
        await room.disconnect()


def test_its_token_is_taken_by_the_media_server(key: Caller, agent: Agent) -> None:
    body = key.post("sessions", {"agent": "ada"}).json()

    assert async_to_sync(_join)(body) == body["room_name"]


def test_its_link_opens_the_page_of_this_session(key: Caller, agent: Agent) -> None:
    body = key.post("sessions", {"agent": "ada"}).json()

    page = Caller().client.get(body["join_url"].removeprefix("http://127.0.0.1:8000"))

    assert page.status_code == 200
    assert body["id"] in page.content.decode()


def test_a_full_project_says_so_and_when_to_come_back(key: Caller, agent: Agent) -> None:
    Project.objects.filter(pk=agent.project_id).update(max_concurrent_sessions=0)

    answer = key.post("sessions", {"agent": "ada"})

    assert (answer.status_code, error_of(answer)["code"]) == (429, "project_full")
    assert int(answer["Retry-After"]) > 0
    assert not LiveSession.objects.exists()
    assert not RoomLink.objects.exists()


def test_a_media_server_away_is_a_503_and_the_session_failed(key: Caller, agent: Agent, settings: Settings) -> None:
    settings.LIVEKIT_URL = "ws://127.0.0.1:1"

    answer = key.post("sessions", {"agent": "ada"}, Idempotency_Key="once")

    assert (answer.status_code, error_of(answer)["code"]) == (503, "unavailable")
    assert int(answer["Retry-After"]) > 0
    assert LiveSession.objects.get().state == "failed"


def test_a_request_that_failed_may_be_repeated_with_its_key(
    key: Caller, agent: Agent, settings: Settings, live_servers: MediaServer
) -> None:
    settings.LIVEKIT_URL = "ws://127.0.0.1:1"
    assert key.post("sessions", {"agent": "ada"}, Idempotency_Key="once").status_code == 503
    settings.LIVEKIT_URL = live_servers.url

    answer = key.post("sessions", {"agent": "ada"}, Idempotency_Key="once")

    assert answer.status_code == 201
    assert "Idempotent-Replayed" not in answer


# -- Idempotency ------------------------------------------------------------------------------------------------------
def test_a_repeat_finds_the_first_session_and_mints_a_new_token(key: Caller, agent: Agent) -> None:
    first = key.post("sessions", {"agent": "ada", "participant_name": "G"}, Idempotency_Key="k1")
    time.sleep(1.1)  # tokens count in seconds
    second = key.post("sessions", {"participant_name": "G", "agent": "ada"}, Idempotency_Key="k1")

    assert (first.status_code, second.status_code) == (201, 201)
    assert second["Idempotent-Replayed"] == "true"
    assert second.json()["id"] == first.json()["id"]
    assert second.json()["join_url"] == first.json()["join_url"]
    assert second.json()["participant_token"] != first.json()["participant_token"]
    assert LiveSession.objects.count() == 1


def test_a_key_with_another_body_is_refused(key: Caller, agent: Agent) -> None:
    key.post("sessions", {"agent": "ada"}, Idempotency_Key="k1")

    answer = key.post("sessions", {"agent": "ada", "participant_name": "Eve"}, Idempotency_Key="k1")

    assert (answer.status_code, error_of(answer)["code"]) == (409, "idempotency_mismatch")
    assert LiveSession.objects.count() == 1


def test_a_repeat_after_the_end_gets_no_token(key: Caller, agent: Agent) -> None:
    first = key.post("sessions", {"agent": "ada"}, Idempotency_Key="k1").json()
    key.post(f"sessions/{first['id']}/end")

    answer = key.post("sessions", {"agent": "ada"}, Idempotency_Key="k1")

    assert (answer.status_code, error_of(answer)["code"]) == (409, "session_ended")


def test_projects_do_not_share_keys(key: Caller, other_key: Caller, agent: Agent, other_agent: Agent) -> None:
    ours = key.post("sessions", {"agent": "ada"}, Idempotency_Key="same").json()
    theirs = other_key.post("sessions", {"agent": "bruno"}, Idempotency_Key="same").json()

    assert ours["id"] != theirs["id"]


@pytest.mark.django_db(transaction=True)
def test_requests_that_race_with_one_key_make_one_session(api_key: tuple[ApiKey, str], agent: Agent) -> None:
    barrier = threading.Barrier(6)
    answers: list[Any] = []

    def ask() -> None:
        from django.db import connection

        try:
            barrier.wait(10)
            answers.append(by_key(api_key[1]).post("sessions", {"agent": "ada"}, Idempotency_Key="race"))
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert LiveSession.objects.count() == 1
    assert len(answers) == 6
    for answer in answers:
        if answer.status_code != 201:
            assert (answer.status_code, error_of(answer)["code"]) == (409, "idempotency_in_flight")
    made = [answer for answer in answers if answer.status_code == 201]
    assert {answer.json()["id"] for answer in made} == {str(LiveSession.objects.get().pk)}
    assert sum("Idempotent-Replayed" not in answer for answer in made) == 1


# -- Looking ----------------------------------------------------------------------------------------------------------
def test_it_shows_a_session(key: Caller, session: LiveSession, agent: Agent) -> None:
    body = key.get(f"sessions/{session.pk}").json()

    assert body["id"] == str(session.pk)
    assert body["agent"] == {"id": str(agent.pk), "slug": "ada", "name": "Ada"}
    assert (body["state"], body["reason"], body["agent_state"], body["last_seq"]) == ("active", None, "listening", 2)
    assert (body["participant_name"], body["join_url"]) == ("Vic", None)
    assert "spec" not in body
    assert "visitor_identity" not in body


def test_it_lists_the_latest_first_and_in_pages(key: Caller, agent: Agent) -> None:
    made = [str(make_session(agent, age_seconds=age).pk) for age in range(5)]

    first = key.get("sessions", page_size=2).json()
    second = key.get("sessions", page_size=2, page=2).json()

    assert first["count"] == 5
    assert [item["id"] for item in first["results"] + second["results"]] == made[:4]
    assert "page=2" in first["next"]
    assert [item["id"] for item in key.get("sessions", ordering="created_at").json()["results"]] == made[::-1]


def test_it_filters_by_state_and_agent(key: Caller, agent: Agent, project: Project) -> None:
    cara = make_agent(project, "Cara")
    ended, with_cara = make_session(agent, state="ended"), make_session(cara)
    make_session(agent)

    assert [item["id"] for item in key.get("sessions", state="ended").json()["results"]] == [str(ended.pk)]
    assert [item["id"] for item in key.get("sessions", agent=str(cara.pk)).json()["results"]] == [str(with_cara.pk)]
    assert key.get("sessions", agent=str(uuid.uuid4())).json()["results"] == []


def test_a_list_costs_the_same_queries_however_long(
    key: Caller, agent: Agent, link: RoomLink, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_session(agent, link=link)
    key.get("sessions")  # notes the use of the key, once a minute
    with django_assert_num_queries(3):  # the key, the count, the page
        key.get("sessions")
    for _ in range(20):
        make_session(agent, link=link)
    with django_assert_num_queries(3):
        assert len(key.get("sessions").json()["results"]) == 21
    latest = LiveSession.objects.latest("created_at").pk
    with django_assert_num_queries(2):  # the key, the session
        key.get(f"sessions/{latest}")


@pytest.mark.parametrize(
    ("format", "content_type", "begins"),
    [
        (
            "txt",
            "text/plain; charset=utf-8",
            "[00:00:00] Ada (agent): Hello, this is Ada.\n[00:01:05] Vic (visitor): ",
        ),
        ("vtt", "text/vtt; charset=utf-8", "WEBVTT"),
        ("csv", "text/csv; charset=utf-8", "\ufeffseq,role,speaker"),
    ],
)
def test_it_gives_the_transcript_as_a_file(
    key: Caller, session: LiveSession, format: str, content_type: str, begins: str
) -> None:
    key.headers["Accept"] = content_type.split(";")[0]

    answer = key.get(f"sessions/{session.pk}/transcript", format=format)

    assert (answer.status_code, answer["Content-Type"]) == (200, content_type)
    assert answer.content.decode().startswith(begins)
    assert answer["Content-Disposition"].endswith(f'.{format}"')


def test_its_transcript_is_json_unless_told_otherwise(key: Caller, session: LiveSession) -> None:
    body = key.get(f"sessions/{session.pk}/transcript").json()

    assert [(line["seq"], line["role"], line["text"]) for line in body["segments"]] == [
        (1, "agent", "Hello, this is Ada."),
        (2, "user", "Good morning."),
    ]
    assert body["session"]["id"] == str(session.pk)


# -- Steering ---------------------------------------------------------------------------------------------------------
def test_it_ends_a_session_and_its_room(key: Caller, agent: Agent, settings: Settings) -> None:
    started = key.post("sessions", {"agent": "ada"}).json()

    first = key.post(f"sessions/{started['id']}/end")
    again = key.post(f"sessions/{started['id']}/end")

    assert first.status_code == again.status_code == 200
    assert (first.json()["state"], first.json()["reason"]) == ("ended", "ended_by_api")
    assert again.json()["ended_at"] == first.json()["ended_at"]
    assert async_to_sync(rooms.list_room_names)(settings.MOLTS_INSTANCE) == []


@pytest.fixture
def orders(session: LiveSession) -> Callable[[], list[dict[str, str]]]:
    """What waits for the agent of the session."""

    def waiting() -> list[dict[str, str]]:
        entries: Any = beats.client().xrange(orders_key(session.pk))
        return [json.loads(fields["order"]) for _, fields in entries]

    return waiting


@pytest.mark.parametrize("role", ["user", "agent"])
def test_it_hands_words_to_the_agent(key: Caller, session: LiveSession, orders: Any, role: str) -> None:
    answer = key.post(f"sessions/{session.pk}/say", {"text": " Tell me more. ", "as": role})

    assert answer.status_code == 202
    assert orders() == [{"id": answer.json()["id"], "as": role, "text": "Tell me more."}]


def test_it_says_a_repeated_order_once(key: Caller, session: LiveSession, orders: Any) -> None:
    order = {"text": "Once.", "as": "agent"}
    answers = [key.post(f"sessions/{session.pk}/say", order, Idempotency_Key="k") for _ in range(3)]

    assert {answer.json()["id"] for answer in answers} == {answers[0].json()["id"]}
    assert len(orders()) == 1


def test_words_for_an_agent_that_may_be_lost_this_second_are_kept_for_the_next(
    key: Caller, session: LiveSession, orders: Any
) -> None:
    """Whether anybody listens at this very moment is nobody's business: what was accepted is dealt with."""
    assert presence.presence(session.pk).agent_generation is None
    texts = [("First.", "agent"), ("Second?", "user"), ("Third.", "agent")]
    statuses = [key.post(f"sessions/{session.pk}/say", {"text": text, "as": role}).status_code for text, role in texts]

    assert statuses == [202] * 3
    assert [(order["text"], order["as"]) for order in orders()] == texts


@pytest.mark.parametrize("state", ["initializing", "lost"])
def test_words_are_taken_from_the_moment_a_job_beats(
    key: Caller, session: LiveSession, orders: Any, state: str
) -> None:
    LiveSession.objects.filter(pk=session.pk).update(agent_state=state)
    refused = key.post(f"sessions/{session.pk}/say", {"text": "Hello?", "as": "user"})
    beats.client().set(presence.agent_key(session.pk), str(presence.AgentBeat(1, "agent-1")), px=4000)
    taken = key.post(f"sessions/{session.pk}/say", {"text": "Hello!", "as": "user"})

    assert (refused.status_code, error_of(refused)["code"]) == (409, "no_agent")
    assert taken.status_code == 202
    assert [order["text"] for order in orders()] == ["Hello!"]


def test_it_refuses_words_for_a_conversation_that_is_over(key: Caller, agent: Agent) -> None:
    over = key.post(f"sessions/{make_session(agent, state='ended').pk}/say", {"text": "Hello?", "as": "user"})

    assert (over.status_code, error_of(over)["code"]) == (409, "session_ended")


# -- Who may ----------------------------------------------------------------------------------------------------------
READS = ("sessions/{}", "sessions/{}/transcript")
WRITES = (("sessions/{}/end", None), ("sessions/{}/say", {"text": "x", "as": "user"}))


def test_another_project_finds_nothing(other_key: Caller, charlie: User, session: LiveSession) -> None:
    for caller in (other_key, by_login(charlie)):
        for path in READS:
            assert caller.get(path.format(session.pk)).status_code == 404
        for path, body in WRITES:
            assert caller.post(path.format(session.pk), body).status_code == 404
        foreign_agent = caller.post("sessions", {"agent": str(session.agent_id)})
        assert (foreign_agent.status_code, error_of(foreign_agent)["attr"]) == (404, "agent")
        assert caller.get("sessions").json()["count"] == 0
    session.refresh_from_db()
    assert session.state == "active"


def test_a_viewer_looks_and_changes_nothing(vera: User, session: LiveSession) -> None:
    caller = by_login(vera)

    assert [caller.get(path.format(session.pk)).status_code for path in READS] == [200, 200]
    assert caller.get("sessions").json()["count"] == 1
    for path, body in (*WRITES, ("sessions", {"agent": "ada"})):
        answer = caller.post(path.format(session.pk), body)
        assert (answer.status_code, error_of(answer)["code"]) == (403, "permission_denied")
    assert LiveSession.objects.get().state == "active"


def test_an_editor_may_steer(bob: User, session: LiveSession, orders: Any) -> None:
    caller = by_login(bob)

    assert caller.post(f"sessions/{session.pk}/say", {"text": "Hi.", "as": "agent"}).status_code == 202
    assert caller.post(f"sessions/{session.pk}/end").status_code == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer molts_wrong", "Bearer a b", "Bearer mölts", "Basic eDp5"])
def test_a_stranger_is_asked_for_a_key(header: str, session: LiveSession) -> None:
    caller = Caller(headers={"Authorization": header} if header else {})

    for path in (*READS, "sessions", "agents"):
        answer = caller.get(path.format(session.pk))
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"] == "Bearer"
        error_of(answer)
    for path, body in (*WRITES, ("sessions", {"agent": "ada"}), ("token", {})):
        assert caller.post(path.format(session.pk), body).status_code == 401


def test_a_revoked_key_opens_nothing(key: Caller, api_key: tuple[ApiKey, str], session: LiveSession) -> None:
    revoke_api_key(key=api_key[0])

    assert key.get(f"sessions/{session.pk}").status_code == 401


def test_a_login_needs_the_csrf_token_to_change_anything(bob: User, session: LiveSession) -> None:
    caller = by_login(bob)
    caller.client.handler.enforce_csrf_checks = True

    refused = caller.post(f"sessions/{session.pk}/end")
    session.refresh_from_db()

    assert refused.status_code == 403
    assert "CSRF" in error_of(refused)["detail"]
    assert session.state == "active"


def test_a_key_needs_no_csrf_token(key: Caller, session: LiveSession) -> None:
    key.client.handler.enforce_csrf_checks = True

    assert key.post(f"sessions/{session.pk}/end").status_code == 200


def test_an_ambiguous_name_asks_for_the_id(bob: User, agent: Agent, other_project: Project) -> None:
    add_member(project=other_project, user=bob, role=MemberRole.EDITOR)
    twin = make_agent(other_project, "Ada")
    caller = by_login(bob)

    answer = caller.post("sessions", {"agent": "ada"})

    assert (answer.status_code, error_of(answer)["code"]) == (400, "ambiguous")
    assert caller.post("sessions", {"agent": str(twin.pk)}).status_code == 201
    assert LiveSession.objects.get().project == other_project


def test_a_key_may_ask_only_so_often(key: Caller, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projects.throttling.ActorRateThrottle.THROTTLE_RATES", {"api": "3/min"})

    answers = [key.get("agents") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert error_of(answers[-1])["code"] == "throttled"
    assert 0 < int(answers[-1]["Retry-After"]) <= 60


def test_one_keys_haste_does_not_silence_another(
    key: Caller, other_key: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projects.throttling.ActorRateThrottle.THROTTLE_RATES", {"api": "1/min"})

    assert [key.get("agents").status_code for _ in range(2)] == [200, 429]
    assert other_key.get("agents").status_code == 200


def test_it_answers_without_redis(key: Caller, session: LiveSession, settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}}

    assert key.get(f"sessions/{session.pk}").status_code == 200
    said = key.post(f"sessions/{session.pk}/say", {"text": "Hi.", "as": "user"})
    assert (said.status_code, error_of(said)["code"]) == (503, "unavailable")


# -- Secrets ----------------------------------------------------------------------------------------------------------
def test_no_answer_holds_a_secret(key: Caller, agent: Agent, project: Project, live_servers: MediaServer) -> None:
    provider_key = ProviderKey(project=project, name="Vendor", provider="openai")
    provider_key.set_secret("sk-canary-0123456789-tail")
    provider_key.save()
    voice = Voice.objects.create(project=project, name="Cloud", provider="openai", provider_key=provider_key)
    Agent.objects.filter(pk=agent.pk).update(voice=voice)
    PipelineStep.objects.create(agent=agent, kind="llm", provider="openai", provider_key=provider_key)

    started = key.post("sessions", {"agent": "ada"})
    paths = ("sessions", "agents", f"agents/{agent.pk}", *(path.format(started.json()["id"]) for path in READS))
    token = key.post("token", {"room_config": {"agents": [{"agent_name": "ada"}]}})
    answers = [started, token, *(key.get(path) for path in paths), key.post(f"sessions/{started.json()['id']}/end")]

    for answer in answers:
        assert answer.status_code in (200, 201)
        text = answer.content.decode() + str(dict(answer.items()))
        for secret in ("canary", "tail", provider_key.secret_cipher, live_servers.secret, str(provider_key.pk)):
            assert secret not in text
