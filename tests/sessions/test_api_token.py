"""LiveKit's standard token endpoint."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from avatars.models import Agent
from projects.models import ApiKey
from sessions.models import LiveSession
from tests.api import Caller, by_key, error_of
from tests.servers import MediaServer

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("live_servers")]


@pytest.fixture
def key(api_key: tuple[ApiKey, str], agent: Agent) -> Caller:
    """A program of project A, which has the agent `ada`."""
    return by_key(api_key[1])


def request_for(agent_name: Any, **fields: Any) -> dict[str, Any]:
    return {"room_config": {"agents": [{"agent_name": agent_name}]}, **fields}


def test_it_answers_as_livekits_clients_expect(key: Caller, live_servers: MediaServer) -> None:
    answer = key.post("token", request_for("ada", participant_name="Grace"))

    assert answer.status_code == 201
    assert set(answer.json()) == {"server_url", "participant_token"}
    assert answer.json()["server_url"] == live_servers.url
    claims = jwt.decode(answer.json()["participant_token"], live_servers.secret, algorithms=["HS256"])
    session = LiveSession.objects.get()
    assert claims["video"]["room"] == session.room_name
    assert (claims["sub"], claims["name"]) == (session.visitor_identity, "Grace")
    assert session.agent.slug == "ada"


def test_its_agent_may_be_named_by_id(key: Caller, agent: Agent) -> None:
    assert key.post("token", request_for(str(agent.pk))).status_code == 201


def test_its_room_and_identity_are_its_own(key: Caller, live_servers: MediaServer) -> None:
    asked = request_for("ada", room_name="lobby", participant_identity="root")

    answer = key.post("token", asked)

    claims = jwt.decode(answer.json()["participant_token"], live_servers.secret, algorithms=["HS256"])
    assert claims["video"]["room"] != "lobby"
    assert claims["sub"] != "root"


def test_fields_that_are_not_set_do_no_harm(key: Caller) -> None:
    asked = {
        "room_name": "",
        "participant_identity": None,
        "participant_name": "",
        "participant_metadata": "",
        "participant_attributes": {},
        "room_config": {
            "name": "",
            "empty_timeout": 0,
            "max_participants": 0,
            "sync_streams": False,
            "egress": None,
            "metadata": "",
            "agents": [{"agent_name": "ada", "metadata": ""}],
        },
    }

    assert key.post("token", asked).status_code == 201


@pytest.mark.parametrize(
    ("fields", "attr"),
    [
        ({"participant_metadata": "x"}, "participant_metadata"),
        ({"participant_attributes": {"role": "admin"}}, "participant_attributes"),
        ({"roomName": "lobby"}, "roomName"),
    ],
)
def test_other_fields_are_refused_by_name(key: Caller, fields: dict[str, Any], attr: str) -> None:
    answer = key.post("token", request_for("ada", **fields))

    assert answer.status_code == 400
    assert error_of(answer)["attr"] == attr
    assert not LiveSession.objects.exists()


@pytest.mark.parametrize(
    ("config", "attr"),
    [
        ({"metadata": "x", "agents": [{"agent_name": "ada"}]}, "room_config.metadata"),
        ({"egress": {"room": {}, "x": 1}, "agents": [{"agent_name": "ada"}]}, "room_config.egress"),
        ({"max_participants": 50, "agents": [{"agent_name": "ada"}]}, "room_config.max_participants"),
        ({"agents": [{"agent_name": "ada", "metadata": "x"}]}, "room_config.agents.0.metadata"),
        ({"agents": [{"agent_name": "ada"}, {"agent_name": "ada"}]}, "room_config.agents"),
        ({"agents": []}, "room_config"),
        ({"agents": ["ada"]}, "room_config.agents.0.non_field_errors"),
        ({"agents": "ada"}, "room_config.agents"),
        ({"agents": [{"agent_name": ["ada"]}]}, "room_config.agents.0.agent_name"),
        ({"agents": [{"agent_name": 7}]}, "room_config.agents.0.agent_name"),
        ("ada", "room_config.non_field_errors"),
        (None, "room_config"),
    ],
)
def test_what_it_cannot_follow_is_refused_by_name(key: Caller, config: Any, attr: str) -> None:
    answer = key.post("token", {"room_config": config})

    assert answer.status_code == 400
    assert error_of(answer)["attr"] == attr
    assert not LiveSession.objects.exists()


@pytest.mark.parametrize("name", ["nobody", "bruno", "00000000-0000-0000-0000-000000000000"])
def test_an_agent_it_does_not_have_is_a_404(key: Caller, other_agent: Agent, name: str) -> None:
    answer = key.post("token", request_for(name))

    assert (answer.status_code, error_of(answer)["attr"]) == (404, "room_config.agents.0.agent_name")


def test_a_repeat_joins_the_same_conversation(key: Caller, live_servers: MediaServer) -> None:
    answers = [key.post("token", request_for("ada"), Idempotency_Key="k").json() for _ in range(2)]

    decoded = [jwt.decode(answer["participant_token"], live_servers.secret, algorithms=["HS256"]) for answer in answers]
    assert decoded[0]["video"]["room"] == decoded[1]["video"]["room"]
    assert LiveSession.objects.count() == 1
