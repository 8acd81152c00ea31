from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from avatars.models import Agent
from projects.models import Member
from sessions.events import SessionEvent
from sessions.models import LiveSession, RoomLink, Segment
from tests.conftest import make_agent
from tests.forms import admin_url, form_data, form_errors, messages_of
from tests.projects.world import make_session

SignIn = Callable[[User], Client]


@pytest.fixture(autouse=True)
def _no_media_server(settings: Settings) -> None:
    settings.LIVEKIT_URL = "ws://127.0.0.1:9"  # nobody answers there: ending must not depend on it


# -- Links ------------------------------------------------------------------------------------------------------------
def test_an_editor_makes_a_link_that_opens_the_room(agent: Agent, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    page = client.get(f"{admin_url(RoomLink, 'add')}?agent={agent.pk}")
    assert page.context["adminform"].form["agent"].initial == str(agent.pk)

    data = form_data(page) | {"agent": str(agent.pk), "name": "Front door"}
    assert client.post(admin_url(RoomLink, "add"), data).status_code == 302

    link = RoomLink.objects.get()
    assert (link.project, link.name) == (agent.project, "Front door")
    assert len(link.public_id) >= 20
    html = client.get(admin_url(RoomLink, "change", link.pk)).content.decode()
    assert f'value="{link.url}"' in html
    assert f'data-copy="{link.url}"' in html
    assert "admin/copy.js" in html
    assert Client().get(f"/r/{link.public_id}").status_code == 200


def test_a_link_of_another_projects_agent_is_refused(other_agent: Agent, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    data = form_data(client.get(admin_url(RoomLink, "add"))) | {"agent": str(other_agent.pk)}

    assert "not one of the available" in str(form_errors(client.post(admin_url(RoomLink, "add"), data))["agent"])
    assert not RoomLink.objects.exists()


def test_a_viewer_of_one_project_makes_no_link_there_with_rights_in_another(
    agent: Agent, other_agent: Agent, charlie: User, sign_in: SignIn
) -> None:
    Member.objects.create(project=agent.project, user=charlie, role="viewer")
    client = sign_in(charlie)
    page = client.get(admin_url(RoomLink, "add"))
    assert list(page.context["adminform"].form.fields["agent"].queryset) == [other_agent]

    response = client.post(admin_url(RoomLink, "add"), form_data(page) | {"agent": str(agent.pk)})

    assert "not one of the available" in str(form_errors(response)["agent"])
    assert not RoomLink.objects.exists()


def test_a_link_keeps_its_address_and_agent(link: RoomLink, bob: User, sign_in: SignIn) -> None:
    other = make_agent(link.project, "Zoe")
    client = sign_in(bob)
    data = form_data(client.get(admin_url(RoomLink, "change", link.pk)))
    data |= {"agent": str(other.pk), "public_id": "short", "max_minutes": "7"}

    assert client.post(admin_url(RoomLink, "change", link.pk), data).status_code == 302

    stored = RoomLink.objects.get(pk=link.pk)
    assert (stored.agent, stored.public_id, stored.max_minutes) == (link.agent, link.public_id, 7)


def test_a_revoked_link_lets_nobody_in(link: RoomLink, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    data = {"action": "revoke", "_selected_action": str(link.pk)}

    first = client.post(admin_url(RoomLink, "changelist"), data, follow=True)
    second = client.post(admin_url(RoomLink, "changelist"), data, follow=True)

    assert messages_of(first)[0].startswith("1 link revoked")
    assert messages_of(second)[0].startswith("0 links revoked")
    link.refresh_from_db()
    assert link.revoked_at is not None
    assert Client().get(f"/r/{link.public_id}").context["boot"]["state"] == "revoked"


def test_the_list_tells_state_and_how_many_talk(link: RoomLink, bob: User, sign_in: SignIn) -> None:
    past = timezone.now() - timedelta(hours=1)
    expired = RoomLink.objects.create(project=link.project, agent=link.agent, name="Old", expires_at=past)
    make_session(link.agent, link=link)
    ended = make_session(link.agent, link=link)
    LiveSession.objects.filter(pk=ended.pk).update(state="ended")
    client = sign_in(bob)

    html = client.get(admin_url(RoomLink, "changelist")).content.decode()
    assert "1 of 10" in html
    assert "0 of 10" in html
    for state, found in (("open", [link]), ("expired", [expired]), ("revoked", [])):
        page = client.get(admin_url(RoomLink, "changelist"), {"state": state})
        assert list(page.context["cl"].result_list) == found


# -- Conversations ----------------------------------------------------------------------------------------------------
def session_page(client: Client, session: LiveSession) -> str:
    response = client.get(admin_url(LiveSession, "change", session.pk))
    assert response.status_code == 200
    return response.content.decode()


def test_a_conversation_shows_all_that_is_kept_of_it(agent: Agent, vera: User, sign_in: SignIn) -> None:
    html = session_page(sign_in(vera), make_session(agent, lines=3))

    assert '<span class="at">00:02:02</span><span class="who">Ada</span>' in html
    assert "Line 2 of Ada &lt;b&gt;&amp;</p>" in html
    assert '<span class="at">00:03:03</span><span class="who">Vince</span>' in html
    assert "<td>400</td><td>50</td><td>7</td><td>90</td><td>unknown</td><td>547</td>" in html
    cells = re.findall(r'<td data-label="(?:for|provider|model|amount|cost)">(.*?)</td>', html)
    assert cells == ["Voice", "espeak-ng (simple local voice)", "", "42 characters spoken", "not priced"]
    assert "The agent is late." in html
    assert '<td data-label="identity">visitor-1</td>' in html
    assert 'name="_save"' not in html


def test_words_of_visitors_stay_words(agent: Agent, vera: User, sign_in: SignIn) -> None:
    session = make_session(agent)
    evil = "<script>alert(1)</script>"
    LiveSession.objects.filter(pk=session.pk).update(visitor_name=evil)
    Segment.objects.filter(session=session).update(text=f"{{{{ evil }}}} {{}} {evil}")
    client = sign_in(vera)

    for html in (session_page(client, session), client.get(admin_url(LiveSession, "changelist")).content.decode()):
        assert evil not in html
        assert "&lt;script&gt;" in html


def test_an_empty_conversation_is_shown_too(agent: Agent, vera: User, sign_in: SignIn) -> None:
    session = LiveSession.objects.create(
        project=agent.project, agent=agent, room_name="empty", visitor_identity="v", spec={"name": "Ada"}
    )

    html = session_page(sign_in(vera), session)

    for text in (
        "Nobody has spoken yet.",
        "No turn was measured yet.",
        "No notices.",
        "No provider was used.",
        "Nobody.",
    ):
        assert text in html
    LiveSession.objects.filter(pk=session.pk).update(state="failed", reason="no_agent")
    over = session_page(sign_in(vera), session)
    assert "Nothing was said." in over
    assert over.count("not measured") == 2


def test_nobody_rewrites_a_conversation(agent: Agent, alice: User, root: User, sign_in: SignIn) -> None:
    session = make_session(agent)

    for user in (alice, root):
        client = sign_in(user)
        assert client.post(admin_url(LiveSession, "change", session.pk), {"visitor_name": "X"}).status_code == 403
        assert client.get(admin_url(LiveSession, "add")).status_code == 403


def end(client: Client, *sessions: LiveSession) -> Any:
    data = {"action": "end", "_selected_action": [str(session.pk) for session in sessions]}
    return client.post(admin_url(LiveSession, "changelist"), data, follow=True)


def test_an_editor_ends_a_conversation(
    agent: Agent, bob: User, sign_in: SignIn, quiet_events: list[SessionEvent]
) -> None:
    session, other = make_session(agent), make_session(agent)

    assert messages_of(end(sign_in(bob), session)) == ["1 conversation ended."]
    assert messages_of(end(sign_in(bob), session)) == ["0 conversations ended."]

    session.refresh_from_db()
    other.refresh_from_db()
    assert (session.state, session.reason, other.state) == ("ended", "ended_by_api", "active")
    assert [event.type for event in quiet_events] == ["session.state"]


def test_a_viewer_ends_nothing(agent: Agent, vera: User, sign_in: SignIn) -> None:
    session = make_session(agent)

    assert "conversations ended" not in str(messages_of(end(sign_in(vera), session)))

    session.refresh_from_db()
    assert session.state == "active"


def test_an_owner_erases_a_conversation(
    agent: Agent,
    alice: User,
    sign_in: SignIn,
    quiet_events: list[SessionEvent],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    first, second, third = make_session(agent), make_session(agent), make_session(agent)
    client = sign_in(alice)

    with django_capture_on_commit_callbacks(execute=True):
        assert client.post(admin_url(LiveSession, "delete", first.pk), {"post": "yes"}).status_code == 302
    data = {"action": "delete_selected", "_selected_action": str(second.pk), "post": "yes"}
    assert client.post(admin_url(LiveSession, "changelist"), data).status_code == 302

    assert list(LiveSession.objects.all()) == [third]
    assert set(Segment.objects.values_list("session_id", flat=True)) == {third.pk}
    assert {event.type for event in quiet_events} == {"session.state"}, "whoever still talked was told"


def test_it_finds_conversations_by_name_words_and_filters(agent: Agent, vera: User, sign_in: SignIn) -> None:
    other = make_agent(agent.project, "Zoe")
    first, second = make_session(agent), make_session(other)
    LiveSession.objects.filter(pk=second.pk).update(state="ended", visitor_name="Wanda")
    client = sign_in(vera)

    def found(**query: str) -> list[LiveSession]:
        return list(client.get(admin_url(LiveSession, "changelist"), query).context["cl"].result_list)

    assert found(q="Line 2 of Ada") == [first]
    assert found(q="wanda") == [second]
    assert found(q="nobody said this") == []
    assert found(state="live") == [first]
    assert found(agent__id__exact=str(other.pk)) == [second]
    assert set(found(created_at__gte=(timezone.now() - timedelta(days=1)).isoformat())) == {first, second}


def test_lists_and_pages_cost_the_same_for_many(agent: Agent, link: RoomLink, vera: User, sign_in: SignIn) -> None:
    client = sign_in(vera)

    def queries(url: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url).status_code == 200
        return len(captured)

    session = make_session(agent, link=link, lines=2)
    lists = [admin_url(LiveSession, "changelist"), admin_url(RoomLink, "changelist")]
    page = admin_url(LiveSession, "change", session.pk)
    few = [queries(url) for url in (*lists, page)]
    for number in range(8):
        another = make_agent(agent.project, f"Agent {number}")
        own_link = RoomLink.objects.create(project=agent.project, agent=another)
        make_session(another, link=own_link, lines=20)
    Segment.objects.bulk_create(
        Segment(session=session, seq=seq, segment_id=f"s{seq}", role="user", text="More.", start_ms=0, end_ms=1)
        for seq in range(3, 60)
    )

    assert [queries(url) for url in (*lists, page)] == few
    assert max(few) <= 20
