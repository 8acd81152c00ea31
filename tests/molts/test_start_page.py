"""The admin's first page: next steps, then figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from avatars.models import Agent, Voice
from molts.admin.figures import MOST_CONVERSATIONS, RANGES
from projects.models import Member, Project
from projects.services import create_project
from sessions.models import LiveSession, RoomLink, SessionNotice, Turn
from tests.conftest import make_agent

NOW = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)
SignIn = Callable[[User], Client]


def talk(agent: Agent, *, at: datetime, seconds: int = 60, state: str = "ended", **more: Any) -> LiveSession:
    return LiveSession.objects.create(
        project=agent.project,
        agent=agent,
        room_name=f"room-{LiveSession.objects.count()}",
        visitor_identity="visitor",
        state=state,
        spec={},
        created_at=at,
        active_at=at,
        ended_at=at + timedelta(seconds=seconds),
        **more,
    )


def steps_of(client: Client) -> dict[str, tuple[bool, str]]:
    return {step.title: (step.done, step.url) for step in client.get("/admin/").context["steps"]}


def cards_of(client: Client, query: str = "") -> dict[str, tuple[str, str]]:
    return {card.title: (card.value, card.note) for card in client.get(f"/admin/{query}").context["cards"]}


# -- Next steps ------------------------------------------------------------------------------------------------------
def test_an_empty_install_leads_from_step_to_step(root: User, sign_in: SignIn) -> None:
    client = sign_in(root)
    assert [done for done, _ in steps_of(client).values()] == [False] * 7
    assert client.get("/admin/").context["next_step"].title == "Make a project"

    project = create_project(name="Project A", owner=root)
    assert client.get("/admin/").context["next_step"].title == "Choose a voice", "a key is optional"
    Voice.objects.create(project=project, name="Voice", provider="espeak")
    agent = make_agent(project, "Ada")
    assert client.get("/admin/").context["next_step"].title == "Make a link"
    link = RoomLink.objects.create(project=project, agent=agent)
    steps = steps_of(client)
    assert [done for done, _ in steps.values()] == [True, False, True, False, True, True, False]
    assert steps["Talk to it"] == (False, f"/r/{link.public_id}")
    for _, url in steps.values():
        assert client.get(url).status_code == 200, url


def test_the_steps_offer_only_what_one_may_do(
    project: Project, alice: User, bob: User, vera: User, sign_in: SignIn
) -> None:
    offered = {
        user.username: [title for title, (_, url) in steps_of(sign_in(user)).items() if url]
        for user in (alice, bob, vera)
    }
    assert offered == {
        "alice": ["Add a provider key", "Choose a voice", "Choose a face", "Make an agent", "Make a link"],
        "bob": ["Choose a voice", "Choose a face", "Make an agent", "Make a link"],
        "vera": [],
    }


def test_the_steps_know_nothing_of_another_project(
    alice: User, project: Project, other_link: RoomLink, sign_in: SignIn
) -> None:
    assert [done for done, _ in steps_of(sign_in(alice)).values()] == [True] + [False] * 6


def test_whoever_is_in_no_project_is_told_so(db: None, sign_in: SignIn) -> None:
    stranger = User.objects.create_user("stranger", is_staff=True)
    assert "You are in no project yet" in sign_in(stranger).get("/admin/").content.decode()


def test_a_talk_with_itself_is_no_conversation(agent: Agent, alice: User, sign_in: SignIn) -> None:
    talk(agent, at=NOW, source="check")
    assert sign_in(alice).get("/admin/").context["view"] == "steps"


def test_an_editors_trial_is_no_conversation(agent: Agent, alice: User, sign_in: SignIn) -> None:
    trial = RoomLink.objects.create(project=agent.project, agent=agent, trial_by=alice)
    talk(agent, at=datetime.now(UTC), link=trial)
    client = sign_in(alice)
    assert client.get("/admin/").context["view"] == "steps"

    talk(agent, at=datetime.now(UTC))
    assert cards_of(client)["Conversations"][0] == "1"


# -- Figures ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def days(agent: Agent, other_agent: Agent) -> None:
    """Project A: three conversations this week (one failed), one long ago. Project B: one that A must not count."""
    today = talk(agent, at=NOW - timedelta(hours=1), seconds=90)
    talk(agent, at=NOW - timedelta(days=2), seconds=30)
    talk(agent, at=NOW - timedelta(days=2, hours=1), seconds=0, state="failed", reason="no_agent")
    talk(agent, at=NOW - timedelta(days=20), seconds=600)
    theirs = talk(other_agent, at=NOW - timedelta(hours=1), seconds=6000)
    for index in range(1, 101):
        Turn.objects.create(session=today, index=index, llm_ms=index, tts_ms=10, total_ms=index + 10)
    Turn.objects.create(session=theirs, index=1, llm_ms=99_999, total_ms=99_999)
    for session in (today, theirs):
        SessionNotice.objects.create(session=session, level="warning", code="agent_late", text="Late.")
    SessionNotice.objects.create(session=today, level="info", code="agent_back", text="Back.")
    SessionNotice.objects.update(created_at=NOW - timedelta(hours=1))


@time_machine.travel(NOW, tick=False)
def test_it_counts_the_own_projects_in_the_chosen_time(days: None, alice: User, sign_in: SignIn) -> None:
    client = sign_in(alice)
    assert cards_of(client) == {
        "Conversations": ("3", "none right now"),
        "Minutes": ("2.0", "0.7 on average"),
        "Time to answer": ("60 ms", "105 ms at the 95th percentile"),
        "Failed": ("1", "33.3 % of all"),
        "Warnings": ("1", "told to visitors, in 1 conversation"),
    }
    assert cards_of(client, "?range=24h")["Conversations"][0] == "1"
    assert cards_of(client, "?range=30d")["Conversations"][0] == "4"
    assert cards_of(client, "?range=nonsense")["Conversations"][0] == "3"


@time_machine.travel(NOW, tick=False)
@pytest.mark.parametrize("span", ["24h", "7d", "30d"])
def test_its_figures_lead_to_the_conversations_behind_them(days: None, alice: User, sign_in: SignIn, span: str) -> None:
    client = sign_in(alice)
    context = client.get(f"/admin/?range={span}").context
    cards = {card.title: card for card in context["cards"]}
    failed = 0 if span == "24h" else 1
    assert bool(cards["Failed"].url) == bool(failed)

    def listed(url: str) -> int:
        return len(client.get(url).context["cl"].result_list)

    assert listed(cards["Conversations"].url) == int(cards["Conversations"].value)
    assert listed(cards["Warnings"].url) == 1
    assert listed(context["notices"][0]["url"]) == 1
    assert not failed or listed(cards["Failed"].url) == failed
    assert listed("/admin/live_sessions/livesession/?notices=agent_lost") == 0


@time_machine.travel(NOW, tick=False)
def test_its_charts_say_in_words_what_they_draw(days: None, alice: User, sign_in: SignIn) -> None:
    response = sign_in(alice).get("/admin/")
    conversations, minutes = response.context["charts"]
    assert [(bar.name, bar.value, bar.failed) for bar in conversations.bars if bar.value] == [
        ("16 Mar", 2, 1),
        ("18 Mar", 1, 0),
    ]
    assert conversations.bars[0].name == "12 Mar"
    assert conversations.summary == "Conversations per day: 3 in all, most at 16 Mar with 2."
    assert [bar.shown for bar in minutes.bars] == ["0", "0", "0", "0", "0.5", "0", "1.5"]
    html = response.content.decode()
    for chart in (conversations, minutes):
        assert f'role="img" aria-label="{chart.summary}"' in html
    hourly = sign_in(alice).get("/admin/?range=24h").context["charts"][0]
    assert [(bar.name, bar.value) for bar in hourly.bars if bar.value] == [("14:00", 1)]


@time_machine.travel(NOW, tick=False)
def test_it_splits_the_time_to_an_answer(days: None, alice: User, sign_in: SignIn) -> None:
    context = sign_in(alice).get("/admin/").context
    assert [(part.name, part.p50, part.p95) for part in context["latencies"]] == [
        ("Language model", 50, 95),
        ("Voice", 10, 10),
        ("Whole answer", 60, 105),
    ]
    (agent,) = context["agents"]
    assert (agent.name, agent.conversations, agent.failed, agent.p50, agent.p95) == ("Ada", 3, 1, "60 ms", "105 ms")
    assert [(row["text"], row["number"]) for row in context["notices"]] == [("The agent was late", 1)]


@time_machine.travel(NOW, tick=False)
def test_the_chosen_project_narrows_it(
    days: None, alice: User, project: Project, other_project: Project, sign_in: SignIn
) -> None:
    Member.objects.create(project=other_project, user=alice, role="viewer")
    client = sign_in(alice)
    assert cards_of(client)["Conversations"][0] == "4"

    response = client.post("/admin/choose-project/", {"project": str(other_project.pk), "next": "/admin/"})
    assert (response.status_code, response["Location"]) == (302, "/admin/")
    assert cards_of(client)["Conversations"][0] == "1"
    client.post("/admin/choose-project/", {"project": ""})
    assert cards_of(client)["Conversations"][0] == "4"


def test_a_busy_project_costs_few_queries_and_says_what_it_read(
    agent: Agent, alice: User, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molts.admin.figures.MOST_CONVERSATIONS", 5)
    client = sign_in(alice)
    now = datetime.now(UTC)
    for number in range(8):
        session = talk(agent, at=now - timedelta(minutes=number))
        Turn.objects.create(session=session, index=1, total_ms=1000 if number < 5 else 9)
    with CaptureQueriesContext(connection) as queries:
        response = client.get("/admin/?range=30d")
    assert len(queries) <= 15
    html = re.sub(r"\s+", " ", response.content.decode())
    assert "From 5 turns of the last 5 conversations." in html
    assert response.context["latencies"][0].p50 == 1000, "the newest"
    assert MOST_CONVERSATIONS > 5
    assert {span.key for span in RANGES} == {"24h", "7d", "30d"}
