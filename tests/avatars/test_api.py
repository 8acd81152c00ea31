from __future__ import annotations

import uuid

import pytest
from django.contrib.auth.models import User
from pytest_django import DjangoAssertNumQueries

from avatars.models import Agent, Avatar, Voice
from projects.models import ApiKey, Project
from tests.api import Caller, by_key, by_login, error_of
from tests.conftest import make_agent

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("live_servers")]


@pytest.fixture
def key(api_key: tuple[ApiKey, str], agent: Agent) -> Caller:
    """A program of project A, which has the agent `ada`."""
    return by_key(api_key[1])


def test_it_lists_the_projects_agents_by_name(key: Caller, project: Project, other_agent: Agent) -> None:
    make_agent(project, "Aaron")

    body = key.get("agents").json()

    assert [item["slug"] for item in body["results"]] == ["aaron", "ada"]
    assert (body["count"], body["next"], body["previous"]) == (2, None, None)
    assert set(body["results"][0]) == {
        "id", "project", "slug", "name", "description", "language", "greeting", "created_at", "updated_at"
    }  # fmt: skip


def test_it_shows_an_agent(key: Caller, agent: Agent) -> None:
    agent.voice = Voice.objects.create(project=agent.project, name="Low", provider="espeak")
    agent.avatar = Avatar.objects.create(project=agent.project, name="Face", builtin="mira")
    agent.save()

    body = key.get(f"agents/{agent.pk}").json()

    assert (body["slug"], body["greeting"]) == ("ada", "Hello, this is Ada.")
    assert body["voice"] == {"id": str(agent.voice.pk), "name": "Low", "provider": "espeak"}
    assert body["avatar"] == {
        "id": str(agent.avatar.pk),
        "name": "Face",
        "engine": "portrait",
        "portrait_url": "http://127.0.0.1:8000/static/src/portraits/mira.webp",
    }


def test_it_shows_an_agent_without_voice_and_face(key: Caller, agent: Agent) -> None:
    body = key.get(f"agents/{agent.pk}").json()

    assert (body["voice"], body["avatar"]) == (None, None)


def test_foreign_and_unknown_agents_are_the_same_404(
    key: Caller, charlie: User, agent: Agent, other_agent: Agent
) -> None:
    foreign, unknown = key.get(f"agents/{other_agent.pk}"), key.get(f"agents/{uuid.uuid4()}")

    assert foreign.status_code == unknown.status_code == 404
    assert error_of(foreign) == error_of(unknown)
    assert by_login(charlie).get(f"agents/{agent.pk}").status_code == 404


def test_a_viewer_reads_and_nobody_writes(vera: User, key: Caller, agent: Agent) -> None:
    assert by_login(vera).get("agents").json()["count"] == 1
    assert by_login(vera).get(f"agents/{agent.pk}").status_code == 200
    assert key.post("agents", {"name": "x"}).status_code == 405


def test_a_stranger_sees_none(agent: Agent) -> None:
    assert Caller().get("agents").status_code == 401
    assert Caller().get(f"agents/{agent.pk}").status_code == 401


def test_its_cost_does_not_grow(
    key: Caller, project: Project, agent: Agent, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    key.get("agents")  # notes the use of the key, once a minute
    for number in range(20):
        make_agent(project, f"Agent {number}")
    with django_assert_num_queries(3):  # the key, the count, the page
        assert len(key.get("agents").json()["results"]) == 21
    with django_assert_num_queries(2):  # the key, the agent with voice and face
        key.get(f"agents/{agent.pk}")
