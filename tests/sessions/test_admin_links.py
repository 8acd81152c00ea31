"""The page of a room link: everything one needs to hand it out, and to take it back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from avatars.models import Agent
from projects.models import AuditEntry
from sessions.admin.parts import conversations_url
from sessions.models import RoomLink
from tests.forms import admin_url, form_data, form_errors, messages_of
from tests.projects.world import make_session

SignIn = Callable[[User], Client]


def link_page(client: Client, link: RoomLink) -> str:
    return client.get(admin_url(RoomLink, "change", link.pk)).content.decode()


def test_it_shows_how_to_hand_it_out(link: RoomLink, bob: User, sign_in: SignIn) -> None:
    make_session(link.agent, link=link)
    html = link_page(sign_in(bob), link)

    assert f'data-copy="{link.url}"' in html
    assert '<svg class="qr"' in html.replace("\n", " ") or 'class="qr"' in html
    assert 'href="data:image/svg+xml' in html
    assert "1 of 10" in html
    assert f"?link__id__exact={link.pk}" in html
    assert "First name the sites" in html, "no other site is allowed yet"


def test_sites_are_named_one_a_line(link: RoomLink, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    url = admin_url(RoomLink, "change", link.pk)
    data = form_data(client.get(url))

    written = "https://Shop.example.org/\n\nhttp://localhost:9000\nhttps://shop.example.org"
    assert client.post(url, data | {"allowed_origins": written}).status_code == 302
    link.refresh_from_db()
    assert link.allowed_origins == ["https://shop.example.org", "http://localhost:9000"]
    assert form_data(client.get(url))["allowed_origins"] == "https://shop.example.org\nhttp://localhost:9000"
    html = link_page(client, link)
    assert f"/embed.js&quot; data-link=&quot;{link.public_id}&quot; async&gt;&lt;/script&gt;" in html
    assert "data-target=&quot;#talk&quot;" in html
    assert client.post(url, data | {"allowed_origins": ""}).status_code == 302
    link.refresh_from_db()
    assert link.allowed_origins == []


@pytest.mark.parametrize("written", ["shop.example.org", "https://*.example.org", "https://a.example/; script-src *"])
def test_what_is_no_site_is_said_at_the_field(link: RoomLink, bob: User, sign_in: SignIn, written: str) -> None:
    client = sign_in(bob)
    url = admin_url(RoomLink, "change", link.pk)
    data = form_data(client.get(url)) | {"allowed_origins": written}

    assert "is not the address of a site" in str(form_errors(client.post(url, data))["allowed_origins"])
    link.refresh_from_db()
    assert link.allowed_origins == []


def test_it_is_revoked_from_its_page(link: RoomLink, bob: User, sign_in: SignIn) -> None:
    client = sign_in(bob)
    url = reverse("admin:live_sessions_roomlink_revoke", args=[link.pk])

    first, second = client.post(url, follow=True), client.post(url, follow=True)

    assert "lets nobody in" in messages_of(first)[0]
    assert messages_of(second) == []
    link.refresh_from_db()
    assert link.revoked_at is not None
    assert [entry.text for entry in AuditEntry.objects.all()] == ["Revoked."]
    html = link_page(client, link)
    assert "It lets nobody in any more." in html
    assert "Revoke this link" not in html


@pytest.mark.usefixtures("other_project")  # charlie has a project of his own
def test_only_its_own_editors_revoke_it(link: RoomLink, vera: User, charlie: User, sign_in: SignIn) -> None:
    url = reverse("admin:live_sessions_roomlink_revoke", args=[link.pk])

    assert sign_in(vera).post(url).status_code == 403
    assert sign_in(charlie).post(url).status_code == 404
    assert sign_in(vera).get(url).status_code == 405
    assert "Revoke this link" not in link_page(sign_in(vera), link)
    link.refresh_from_db()
    assert link.revoked_at is None


def test_its_conversations_are_one_click_away(link: RoomLink, bob: User, sign_in: SignIn) -> None:
    mine, _ = make_session(link.agent, link=link), make_session(link.agent)

    response = sign_in(bob).get(conversations_url(link__id__exact=link.pk))

    assert list(response.context["cl"].result_list) == [mine]
    assert "Show all" in response.content.decode()


def test_a_viewer_reads_the_sites_in_words(link: RoomLink, vera: User, sign_in: SignIn) -> None:
    assert "none but this server&#x27;s own pages" in link_page(sign_in(vera), link)
    RoomLink.objects.filter(pk=link.pk).update(allowed_origins=["https://a.example", "https://b.example"])

    html = link_page(sign_in(vera), link)

    assert "https://a.example, https://b.example" in html
    assert "[&quot;https" not in html


def test_deleting_a_link_keeps_its_conversations(link: RoomLink, bob: User, sign_in: SignIn) -> None:
    session = make_session(link.agent, link=link)
    client = sign_in(bob)
    url = admin_url(RoomLink, "delete", link.pk)
    assert "Line 1" not in client.get(url).content.decode()

    assert client.post(url, {"post": "yes"}).status_code == 302

    session.refresh_from_db()
    assert (session.link, RoomLink.objects.count()) == (None, 0)


def test_an_expired_link_says_how_to_open_it_again(link: RoomLink, bob: User, sign_in: SignIn) -> None:
    RoomLink.objects.filter(pk=link.pk).update(expires_at=timezone.now() - timedelta(days=1))

    assert "Give it a later end below" in link_page(sign_in(bob), link)


def test_a_link_is_not_made_to_end_in_the_past(link: RoomLink, bob: User, sign_in: SignIn) -> None:
    client, url = sign_in(bob), admin_url(RoomLink, "change", link.pk)
    assert "In UTC." in link_page(client, link)
    data = form_data(client.get(url)) | {"expires_at_0": "2020-01-01", "expires_at_1": "10:00:00"}

    assert "This time is over" in str(form_errors(client.post(url, data))["expires_at"])

    RoomLink.objects.filter(pk=link.pk).update(expires_at=timezone.now().replace(microsecond=0) - timedelta(days=1))
    data = form_data(client.get(url)) | {"name": "Old"}
    assert client.post(url, data).status_code == 302, "what is over already may be renamed"


def test_links_for_one_conversation_stand_apart(link: RoomLink, bob: User, sign_in: SignIn) -> None:
    single = RoomLink.objects.create(project=link.project, agent=link.agent, one_session=True)
    client = sign_in(bob)

    def listed(**query: str) -> list[RoomLink]:
        return list(client.get(admin_url(RoomLink, "changelist"), query).context["cl"].result_list)

    assert listed() == [link]
    assert listed(state="single") == [single]
    assert "This link" in link_page(client, single), "what a conversation points to can be looked at"


@pytest.mark.parametrize("kind", ["single", "trial"])
def test_the_address_of_somebody_s_own_conversation_is_not_shown(
    link: RoomLink, bob: User, vera: User, sign_in: SignIn, kind: str
) -> None:
    own = {"one_session": True} if kind == "single" else {"trial_by": bob}
    hidden = RoomLink.objects.create(project=link.project, agent=link.agent, **own)
    make_session(link.agent, link=hidden)
    client, url = sign_in(vera), admin_url(RoomLink, "changelist")

    assert list(client.get(url).context["cl"].result_list) == [link]
    listed = client.get(url, {"state": kind})
    assert list(listed.context["cl"].result_list) == [hidden]
    page = link_page(client, hidden)
    for html in (listed.content.decode(), page):
        assert hidden.public_id not in html
        assert hidden.public_id[:6] not in html
    assert "Its address is not shown" in page
    assert 'class="qr"' not in page
    guessed = client.get(url, {"state": kind, "public_id__startswith": hidden.public_id[:1]})
    wrong = client.get(url, {"state": kind, "public_id__startswith": "!"})
    shown = [list(answer.context["cl"].result_list) for answer in (guessed, wrong)]
    assert shown == [[hidden], [hidden]], "nor spelt out letter by letter"
    assert not client.get(url, {"state": kind, "q": hidden.public_id[:8]}).context["cl"].result_list


def test_an_empty_list_names_the_next_step(agent: Agent, bob: User, sign_in: SignIn) -> None:
    html = sign_in(bob).get(admin_url(RoomLink, "changelist")).content.decode()

    assert "A link lets people talk with one of your agents" in html
    assert admin_url(RoomLink, "add") in html
