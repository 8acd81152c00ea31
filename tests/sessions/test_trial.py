"""The editor's own door to an agent."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from avatars.models import Agent
from projects.models import Project
from sessions.models import RoomLink
from tests.sessions.factories import make_session

SignIn = Callable[[User], Client]


def url(agent: Agent) -> str:
    return reverse("trial-link", args=[agent.pk])


def test_an_editor_gets_a_room_that_our_own_pages_may_show(agent: Agent, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)

    response = client.post(url(agent))

    link = RoomLink.objects.get()
    assert response["Location"] == link.get_absolute_url()
    assert link.expires_at is not None
    assert not link.is_expired
    room = client.get(response["Location"])
    assert "frame-ancestors 'self';" in f"{room['Content-Security-Policy']};"
    assert room["X-Frame-Options"] == "SAMEORIGIN"


def test_talking_again_ends_what_still_runs_and_keeps_the_door(agent: Agent, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    first = client.post(url(agent))["Location"]
    session = make_session(agent, link=RoomLink.objects.get())

    assert client.post(url(agent))["Location"] == first

    session.refresh_from_db()
    assert session.state == "ended"
    assert RoomLink.objects.count() == 1


def test_it_stays_one_editors_door_whatever_was_set(agent: Agent, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    client.post(url(agent))
    RoomLink.objects.update(on_start_page=True, allowed_origins=["https://a.example"], max_concurrent=9)

    client.post(url(agent))

    link = RoomLink.objects.get()
    assert (link.on_start_page, link.allowed_origins, link.max_concurrent) == (False, [], 1)


def test_its_talks_are_named_so(agent: Agent, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    client.post(url(agent))
    make_session(agent, link=RoomLink.objects.get())

    html = client.get(reverse("admin:live_sessions_livesession_changelist")).content.decode()

    assert ">Trial<" in html
    assert "Trial by bob" not in html


def test_each_editor_has_a_door_of_their_own(agent: Agent, alice: User, bob: User, sign_in: SignIn) -> None:
    assert sign_in(alice).post(url(agent))["Location"] != sign_in(bob).post(url(agent))["Location"]


def test_a_link_that_only_bears_the_name_is_left_alone(agent: Agent, bob: User, sign_in: SignIn) -> None:
    named = RoomLink.objects.create(project=agent.project, agent=agent, name="Trial by bob")
    assert sign_in(bob).post(url(agent))["Location"] != named.get_absolute_url()
    named.refresh_from_db()
    assert named.expires_at is None


def test_a_revoked_door_stays_shut(agent: Agent, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    first = client.post(url(agent))["Location"]
    RoomLink.objects.update(revoked_at=timezone.now())
    assert client.post(url(agent))["Location"] != first
    assert RoomLink.objects.exclude(revoked_at=None).count() == 1


def test_nobody_else_gets_one(
    agent: Agent, vera: User, charlie: User, other_project: Project, sign_in: SignIn, client: Client
) -> None:
    for stranger in (sign_in(vera), sign_in(charlie), client):
        assert stranger.post(url(agent)).status_code == 404
    assert not RoomLink.objects.exists()
