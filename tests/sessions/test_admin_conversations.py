"""The list and the page of conversations: figures, parts of long ones, files, steering, who may what."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from avatars.models import Agent
from projects.models import AuditEntry, Member
from sessions.admin import conversations, parts
from sessions.choices import AgentStateName, EndReason
from sessions.events import SessionEvent
from sessions.models import LiveSession, RoomLink, Segment, Turn
from tests.conftest import make_agent
from tests.forms import admin_url, messages_of
from tests.projects.world import make_session

SignIn = Callable[[User], Client]


@pytest.fixture(autouse=True)
def _no_media_server(settings: Settings) -> None:
    settings.LIVEKIT_URL = "ws://127.0.0.1:9"


def page(client: Client, session: LiveSession, **query: str) -> Any:
    return client.get(admin_url(LiveSession, "change", session.pk), query)


def talk_data(response: Any) -> dict[str, Any]:
    """What the page gives to its script."""
    found = re.search(r'<script id="talk-data" type="application/json">(.*?)</script>', response.content.decode())
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def door(name: str, session: LiveSession) -> str:
    return reverse(f"admin:live_sessions_livesession_{name}", args=[session.pk])


def listed(client: Client, **query: str) -> list[LiveSession]:
    return list(client.get(admin_url(LiveSession, "changelist"), query).context["cl"].result_list)


def end(session: LiveSession) -> LiveSession:
    LiveSession.objects.filter(pk=session.pk).update(state="ended", reason="silence", ended_at=timezone.now())
    session.refresh_from_db()
    return session


# -- The list ---------------------------------------------------------------------------------------------------------
def test_each_row_tells_how_it_went(agent: Agent, link: RoomLink, vera: User, sign_in: SignIn) -> None:
    session = end(make_session(agent, link=link))
    LiveSession.objects.filter(pk=session.pk).update(ended_at=session.created_at + timedelta(seconds=95))
    Turn.objects.create(session=session, index=2, total_ms=1_000)
    Turn.objects.create(session=session, index=3)

    html = sign_in(vera).get(admin_url(LiveSession, "changelist")).content.decode()

    for text in ("Link to Ada", "Vince", "Silence", "00:01:35", "774 ms", ">ended<"):
        assert text in html, text
    (row,) = listed(sign_in(vera))
    assert (row.waits, row.notice_count) == ([547, 1_000, None], 1)  # type: ignore[attr-defined]


def test_long_names_are_cut_and_told_on_pointing(agent: Agent, vera: User, sign_in: SignIn) -> None:
    session, name = make_session(agent), "<b>" + "n" * 90
    LiveSession.objects.filter(pk=session.pk).update(visitor_name=name)

    html = sign_in(vera).get(admin_url(LiveSession, "changelist")).content.decode()

    assert f'<span class="short" title="&lt;b&gt;{"n" * 90}">' in html
    assert html.count('class="short"') == 4
    assert html.count("All times are UTC.") == 1


def test_it_says_who_runs_now(agent: Agent, vera: User, sign_in: SignIn) -> None:
    running, failed = make_session(agent), make_session(agent)
    LiveSession.objects.filter(pk=failed.pk).update(state="failed", reason="no_agent")
    client = sign_in(vera)

    assert listed(client, state="live") == [running]
    assert listed(client, state="failed") == [failed]
    assert (
        'Running now <span class="count">1</span>' in client.get(admin_url(LiveSession, "changelist")).content.decode()
    )


def test_the_chosen_project_narrows_the_list_and_its_count(
    agent: Agent, other_agent: Agent, vera: User, sign_in: SignIn
) -> None:
    Member.objects.create(project=other_agent.project, user=vera, role="viewer")
    mine, other = make_session(agent), make_session(other_agent)
    client = sign_in(vera)
    changelist = admin_url(LiveSession, "changelist")
    assert set(listed(client)) == {mine, other}

    client.post(reverse("admin:choose_project"), {"project": str(agent.project_id)})

    response = client.get(changelist)
    assert list(response.context["cl"].result_list) == [mine]
    assert response.context["cl"].live_count == 1
    assert listed(client, q="Line 1 of") == [mine]
    assert page(client, other).status_code == 200, "its own page opens still"


def test_it_finds_by_id_and_room(agent: Agent, vera: User, sign_in: SignIn) -> None:
    session, _ = make_session(agent), make_session(agent)
    client = sign_in(vera)

    for query in (str(session.pk), session.pk.hex, session.room_name, f"  {session.pk} "):
        assert listed(client, q=query) == [session]
    assert len(listed(client, q="   ")) == 2


def test_another_projects_words_are_not_found(agent: Agent, other_agent: Agent, vera: User, sign_in: SignIn) -> None:
    foreign = make_session(other_agent)

    assert listed(sign_in(vera), q="Line 1 of Bruno") == []
    assert listed(sign_in(vera), q=str(foreign.pk)) == []


def test_words_are_looked_for_among_the_latest_lines_only(
    agent: Agent, vera: User, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_session(agent), make_session(agent)
    monkeypatch.setattr(conversations, "SEARCHED_LINES", 2)

    html = sign_in(vera).get(admin_url(LiveSession, "changelist"), {"q": "line 1 of"}).content.decode()
    assert "among the latest lines only" in html
    assert listed(sign_in(vera), q="line 1 of") == [new]
    assert old not in listed(sign_in(vera), q="line 1 of")


def test_another_projects_lines_take_no_room_in_the_search(
    agent: Agent, other_agent: Agent, vera: User, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = make_session(agent)
    monkeypatch.setattr(conversations, "SEARCHED_LINES", mine.segments.count())
    monkeypatch.setattr(conversations, "MOST_FOUND", 1)
    for _ in range(3):
        make_session(other_agent)
    client = sign_in(vera)

    assert listed(client, q="line 1 of") == [mine]
    html = client.get(admin_url(LiveSession, "changelist"), {"q": "line 1 of"}).content.decode()
    assert "among the latest lines only" not in html, "nothing was left out"
    newer = make_session(agent)
    assert listed(client, q="line 1 of") == [newer], "the newest are kept"


def test_a_range_of_days_takes_both_days_whole(agent: Agent, vera: User, sign_in: SignIn) -> None:
    session = make_session(agent)
    noon = timezone.now().replace(year=2026, month=3, day=5, hour=12)
    LiveSession.objects.filter(pk=session.pk).update(created_at=noon)
    client = sign_in(vera)

    assert listed(client, created_at_from="2026-03-05", created_at_to="2026-03-05") == [session]
    assert listed(client, created_at_from="2026-03-05") == [session]
    assert listed(client, created_at_to="2026-03-04") == []
    assert listed(client, created_at_from="2026-03-06") == []
    assert listed(client, created_at_from="nonsense") == [session]


def test_a_long_list_is_not_counted_to_its_end(
    agent: Agent, vera: User, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "COUNT_NO_FURTHER_THAN", 3)
    for _ in range(5):
        make_session(agent)

    response = sign_in(vera).get(admin_url(LiveSession, "changelist"))

    assert response.context["cl"].result_count == 3
    assert "The latest 3 conversations." in response.content.decode()


def test_an_empty_list_names_the_next_step(agent: Agent, vera: User, sign_in: SignIn) -> None:
    html = sign_in(vera).get(admin_url(LiveSession, "changelist")).content.decode()

    assert "Open one of your links to have the first." in html
    assert admin_url(RoomLink, "changelist") in html


# -- The page ---------------------------------------------------------------------------------------------------------
def make_long(agent: Agent, lines: int) -> LiveSession:
    session = make_session(agent, lines=0)
    Segment.objects.bulk_create(
        Segment(
            session=session,
            seq=seq,
            segment_id=f"s{seq}",
            role="user" if seq % 2 else "agent",
            text=f"Word number {seq}.",
            start_ms=seq * 1_000,
            end_ms=seq * 1_000 + 800,
        )
        for seq in range(1, lines + 1)
    )
    Turn.objects.bulk_create(
        Turn(session=session, index=index, agent_segment_id=f"s{index * 2}", total_ms=500)
        for index in range(2, lines // 2 + 1)
    )
    LiveSession.objects.filter(pk=session.pk).update(last_seq=lines)
    session.refresh_from_db()
    return session


def test_its_table_has_the_figures_and_names_parts_in_words(agent: Agent, vera: User, sign_in: SignIn) -> None:
    session = make_session(agent)

    html = page(sign_in(vera), session).content.decode()

    for line in session.segments.all():
        assert f'id="line-{line.seq}"' in html
    assert '<th scope="col">Waiting for silence</th>' in html
    assert '<th scope="col">Whole answer</th>' in html
    assert "<td>400</td><td>50</td><td>7</td><td>90</td><td>unknown</td><td>547</td>" in html
    assert '<th scope="col">endpointing</th>' not in html


def test_its_script_gets_what_it_draws_and_the_words_for_what_may_come(
    agent: Agent, vera: User, sign_in: SignIn
) -> None:
    session = make_session(agent)

    data = talk_data(page(sign_in(vera), session))

    assert [(line["seq"], line["text"]) for line in data["timeline"]["segments"]] == [
        (1, "Line 1 of Ada <b>&"),
        (2, "Line 2 of Ada <b>&"),
    ]
    assert [notice["text"] for notice in data["timeline"]["notices"]] == ["The agent is late."]
    assert [(turn["turn"], turn["tts_ms"], turn["total_ms"]) for turn in data["turns"]] == [(1, 90, 547)]
    assert (data["last_seq"], data["names"]) == (2, {"user": "Vince", "agent": "Ada"})
    labels = data["labels"]
    assert labels["states"]["active"] == {"text": "running", "tone": "good"}
    assert labels["reasons"] == dict(EndReason.choices)
    assert labels["agent_states"] == dict(AgentStateName.choices)
    assert list(labels["parts"]) == ["endpointing", "stt", "llm", "tts", "avatar"], "in the order of the table"


def test_a_long_conversation_comes_in_parts(agent: Agent, vera: User, sign_in: SignIn) -> None:
    session = make_long(agent, 10_000)
    client = sign_in(vera)
    with CaptureQueriesContext(connection) as captured:
        running = page(client, session)
        queries = len(captured)
    assert queries <= 20
    assert (running.context["page"], len(running.context["lines"]), len(running.context["waits"])) == (50, 200, 100)
    assert running.context["follows"] is True, "the newest part of one that runs"
    assert len(running.content) < 400_000

    end(session)
    first = page(client, session)
    assert [line.seq for line, _, _ in first.context["lines"]] == list(range(1, 201))
    assert first.context["follows"] is False
    third = page(client, session, page="3").context
    assert (third["lines"][0][0].seq, third["talk"]["timeline"]["start_ms"]) == (401, 401_000)
    assert {wait.turn.index for wait in third["waits"]} == set(range(201, 301))
    for odd in ("0", "51", "-1", "x", "²", "9" * 30):
        assert page(client, session, page=odd).context["page"] == 1


def test_only_a_running_conversation_is_followed(agent: Agent, vera: User, bob: User, sign_in: SignIn) -> None:
    session = make_session(agent)
    running = page(sign_in(bob), session)
    assert talk_data(running)["ws_path"] == f"/ws/sessions/{session.pk}/"
    assert "dist/talk.js" in running.content.decode()
    assert "End this conversation" in running.content.decode()

    seen = page(sign_in(vera), session)
    assert talk_data(seen)["ws_path"]
    assert "End this conversation" not in seen.content.decode(), "a viewer watches"

    end(session)
    over = page(sign_in(bob), session)
    assert talk_data(over)["ws_path"] is None
    assert "/ws/" not in over.content.decode()
    assert "End this conversation" not in over.content.decode()


@pytest.mark.parametrize("format", ["txt", "vtt", "csv", "json"])
def test_the_transcript_comes_as_a_file(agent: Agent, vera: User, sign_in: SignIn, format: str) -> None:
    session = make_session(agent)
    response = sign_in(vera).get(door("transcript", session), {"format": format})

    assert response.status_code == 200
    assert response["Content-Disposition"].endswith(f'.{format}"')
    assert "Line 2 of Ada" in response.content.decode()
    assert response.content.startswith(b"\xef\xbb\xbf") == (format == "csv"), "what a spreadsheet knows UTF-8 by"


def test_an_unknown_format_is_named(agent: Agent, vera: User, sign_in: SignIn) -> None:
    response = sign_in(vera).get(door("transcript", make_session(agent)), {"format": "exe"})

    assert response.status_code == 400
    assert "Known are: txt" in response.json()["errors"][0]["detail"]


# -- Steering ---------------------------------------------------------------------------------------------------------
def test_an_editor_ends_it_from_its_page(
    agent: Agent, bob: User, sign_in: SignIn, quiet_events: list[SessionEvent]
) -> None:
    session = make_session(agent)
    client = sign_in(bob)

    first = client.post(door("end", session), follow=True)
    second = client.post(door("end", session), follow=True)

    assert messages_of(first) == ["The conversation was ended."]
    assert messages_of(second) == ["The conversation was over already."]
    session.refresh_from_db()
    assert (session.state, session.reason) == ("ended", "ended_by_api")
    assert [(entry.user, entry.text) for entry in AuditEntry.objects.all()] == [(bob, "Ended.")]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was handed to the agent: who is to say it, and the words."""
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(conversations, "say", lambda *, session, text, speaker: said.append((speaker, text)))
    return said


def put_words(client: Client, session: LiveSession, **body: Any) -> Any:
    return client.post(door("say", session), json.dumps(body), content_type="application/json")


def test_an_editor_puts_words_into_it(agent: Agent, bob: User, sign_in: SignIn, said: list[tuple[str, str]]) -> None:
    session, client = make_session(agent), sign_in(bob)

    assert put_words(client, session, text="Hello.").status_code == 202
    assert put_words(client, session, **{"text": "What time is it?", "as": "user"}).status_code == 202
    refused = put_words(client, session, text=" ")

    assert said == [("agent", "Hello."), ("user", "What time is it?")]
    assert (refused.status_code, refused.json()["errors"][0]["attr"]) == (400, "text")
    assert AuditEntry.objects.count() == 2


def test_a_conversation_that_is_over_takes_no_words(agent: Agent, bob: User, sign_in: SignIn) -> None:
    response = put_words(sign_in(bob), end(make_session(agent)), text="Hello.")

    assert (response.status_code, response.json()["errors"][0]["code"]) == (409, "session_ended")


@pytest.mark.usefixtures("other_project")  # charlie has a project of his own
@pytest.mark.parametrize("name", ["end", "say"])
def test_nobody_else_steers_it(
    agent: Agent, vera: User, charlie: User, sign_in: SignIn, said: list[tuple[str, str]], name: str
) -> None:
    session = make_session(agent)
    body: dict[str, Any] = {"data": json.dumps({"text": "Hi"}), "content_type": "application/json"}

    assert sign_in(vera).post(door(name, session), **body).status_code == 403, "a viewer watches"
    assert sign_in(charlie).post(door(name, session), **body).status_code == 404, "it does not exist for a stranger"
    assert Client().post(door(name, session), **body).status_code == 302, "sign in first"
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(Member.objects.get(project=agent.project, role="owner").user)
    assert strict.post(door(name, session), **body).status_code == 403, "another site's form"
    assert sign_in(vera).get(door(name, session)).status_code == 405

    session.refresh_from_db()
    assert (session.state, said) == ("active", [])


@pytest.mark.usefixtures("other_project")
def test_a_stranger_sees_neither_page_nor_file(agent: Agent, charlie: User, sign_in: SignIn) -> None:
    session = make_session(agent)
    client = sign_in(charlie)

    assert page(client, session).status_code == 404
    assert client.get(door("transcript", session)).status_code == 404


# -- Deleting their agent --------------------------------------------------------------------------------------------
def test_an_editor_erases_no_conversations_with_their_agent(agent: Agent, bob: User, sign_in: SignIn) -> None:
    make_session(agent)
    client, url = sign_in(bob), admin_url(Agent, "delete", agent.pk)

    assert "1 conversation: only an owner of the project may erase them" in client.get(url).content.decode()
    assert client.post(url, {"post": "yes"}).status_code == 403
    selected = {"action": "delete_selected", "_selected_action": str(agent.pk)}
    assert "only an owner" in client.post(admin_url(Agent, "changelist"), selected).content.decode()
    assert client.post(admin_url(Agent, "changelist"), {**selected, "post": "yes"}).status_code == 403
    assert LiveSession.objects.get().is_live


@pytest.mark.parametrize("selected", [False, True])
def test_an_owner_is_told_what_goes_with_an_agent_and_running_ones_are_ended(
    agent: Agent, alice: User, sign_in: SignIn, quiet_events: list[SessionEvent], selected: bool
) -> None:
    make_session(agent)
    end(make_session(agent))
    client, url = sign_in(alice), admin_url(Agent, "delete", agent.pk)
    assert "2 conversations will be erased" in client.get(url).content.decode()

    if selected:
        url, data = admin_url(Agent, "changelist"), {"action": "delete_selected", "_selected_action": str(agent.pk)}
    else:
        data = {}
    assert client.post(url, {**data, "post": "yes"}).status_code == 302

    assert [getattr(event, "state", None) for event in quiet_events] == ["ended"]
    assert not LiveSession.objects.exists()
    assert not Agent.objects.filter(pk=agent.pk).exists()


# -- Erasing ----------------------------------------------------------------------------------------------------------
def test_the_question_before_erasing_stays_short(agent: Agent, alice: User, sign_in: SignIn) -> None:
    session = make_long(agent, 3_000)
    client = sign_in(alice)
    with CaptureQueriesContext(connection) as captured:
        response = client.get(admin_url(LiveSession, "delete", session.pk))
        assert len(captured) <= 20

    html = response.content.decode()
    assert "3000" in html
    assert "Word number" not in html
    assert len(html) < 100_000


def test_erasing_is_kept_in_the_audit_trail(
    agent: Agent, alice: User, sign_in: SignIn, quiet_events: list[SessionEvent]
) -> None:
    session = end(make_session(agent))
    data = {"action": "delete_selected", "_selected_action": str(session.pk), "post": "yes"}

    assert sign_in(alice).post(admin_url(LiveSession, "changelist"), data).status_code == 302

    (entry,) = AuditEntry.objects.all()
    assert (entry.user, entry.action, entry.object_id) == (alice, "delete", str(session.pk))
    assert "Line 1" not in entry.text + entry.object_name


def test_a_list_with_rows_of_many_agents_costs_few_queries(
    agent: Agent, bob: User, root: User, sign_in: SignIn
) -> None:
    for number in range(6):
        another = make_agent(agent.project, f"Agent {number}")
        make_session(another, link=RoomLink.objects.create(project=agent.project, agent=another))
    for user in (bob, root):
        client = sign_in(user)
        for url in (admin_url(LiveSession, "changelist"), admin_url(RoomLink, "changelist")):
            with CaptureQueriesContext(connection) as captured:
                assert client.get(url).status_code == 200
                assert len(captured) <= 15
