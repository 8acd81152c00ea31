"""The page of a conversation that is over."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from avatars.models import Agent
from sessions import rooms
from sessions.choices import SessionState
from sessions.models import LiveSession, RoomLink, Segment
from sessions.services import Latency, record_turn
from sessions.tokens import COOKIE_MAX_AGE, cookie_name, sign_cookie
from tests.sessions.factories import make_session, say

pytestmark = pytest.mark.usefixtures("quiet_events")


@pytest.fixture(autouse=True)
def _no_media_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def close_room(name: str) -> None:
        pass

    monkeypatch.setattr(rooms, "close_room", close_room)


@pytest.fixture
def session(agent: Agent, link: RoomLink) -> LiveSession:
    """Zoë asked one thing and got an answer after 1.234 s; it is over."""
    session = make_session(agent, link=link, visitor_name="Zoë <b>", age_seconds=95)
    say(session, "user", "What is <your> name?", 2_000)
    say(session, "agent", "My name is Ada.", 4_000)
    answer = Segment.objects.get(session=session, role="agent")
    record_turn(session_id=session.pk, index=1, latency=Latency(total_ms=1_234), agent_segment_id=answer.segment_id)
    ended = session.created_at + timedelta(seconds=83)
    LiveSession.objects.filter(pk=session.pk).update(state=SessionState.ENDED, reason="silence", ended_at=ended)
    session.refresh_from_db()
    return session


@pytest.fixture
def visitor(session: LiveSession) -> Client:
    """The browser that held the conversation."""
    client = Client()
    client.cookies[cookie_name(session.pk)] = sign_cookie(session.pk)
    return client


def address(link: RoomLink, session: LiveSession) -> str:
    return f"/r/{link.public_id}/sessions/{session.pk}/summary"


def text_of(response: Any) -> str:
    return " ".join(response.content.decode().split())


def test_it_tells_who_when_how_long_and_what_was_said(visitor: Client, link: RoomLink, session: LiveSession) -> None:
    page = visitor.get(address(link, session))
    text = text_of(page)
    assert page.status_code == 200
    assert "Your conversation with Ada" in text
    assert "Zoë &lt;b&gt;" in text
    assert "1 min 23 s" in text
    assert "It ended because nobody spoke for a while." in text
    assert "What is &lt;your&gt; name?" in text
    assert "Answered after 1.2 s" in text
    assert f'datetime="{timezone.localtime(session.created_at).isoformat()[:19]}' in text
    assert page["Referrer-Policy"] == "same-origin"
    assert "no-store" in page["Cache-Control"]


def test_every_download_of_it_works(visitor: Client, link: RoomLink, session: LiveSession) -> None:
    text = text_of(visitor.get(address(link, session)))
    for kind in ("txt", "vtt", "json"):
        place = f"/r/{link.public_id}/sessions/{session.pk}/transcript?format={kind}"
        assert f'href="{place}"' in text
        assert "My name is Ada." in visitor.get(place).content.decode()


def test_lines_carry_the_agents_language_not_the_pages(visitor: Client, link: RoomLink, session: LiveSession) -> None:
    text = text_of(visitor.get(address(link, session), headers={"accept-language": "ar"}))
    assert '<html lang="ar" dir="rtl">' in text
    assert f'dir="auto" lang="{session.spec["language"]}">My name is Ada.' in text
    assert "1 د 23 ث" in text


def test_figures_are_written_as_the_language_writes_them(visitor: Client, link: RoomLink, session: LiveSession) -> None:
    text = text_of(visitor.get(address(link, session), headers={"accept-language": "de"}))
    assert "Antwort nach 1,2 s" in text
    assert "Ihr Gespräch mit Ada" in text


def test_erasing_leaves_nothing_and_says_so_for_as_long_as_the_key_lives(
    visitor: Client, link: RoomLink, session: LiveSession
) -> None:
    answer = visitor.post(address(link, session), follow=True)
    assert answer.redirect_chain == [(address(link, session), 302)]
    assert "Nothing is kept" in text_of(answer)
    assert not LiveSession.objects.exists()
    assert not Segment.objects.exists()
    again = visitor.get(address(link, session))
    assert (again.status_code, "Every line of this conversation has been deleted." in text_of(again)) == (200, True)
    assert visitor.post(address(link, session)).status_code == 302, "a second press changes nothing"


def test_a_link_that_was_deleted_takes_no_conversation_with_it(
    visitor: Client, link: RoomLink, session: LiveSession
) -> None:
    link.delete()
    text = text_of(visitor.get(address(link, session)))
    assert "My name is Ada." in text
    assert f'href="/r/{link.public_id}"' not in text, "nobody talks by it any more"
    transcript = f"/r/{link.public_id}/sessions/{session.pk}/transcript"
    assert "My name is Ada." in visitor.get(transcript).content.decode()
    assert "Nothing is kept" in text_of(visitor.post(address(link, session), follow=True))
    assert not LiveSession.objects.exists()


def test_a_deleted_link_opens_nothing_to_others_and_lets_nobody_begin_or_come_back(
    visitor: Client, agent: Agent, link: RoomLink, session: LiveSession
) -> None:
    running = make_session(agent, link=link)
    visitor.cookies[cookie_name(running.pk)] = sign_cookie(running.pk)
    other = RoomLink.objects.create(project=link.project, agent=agent)
    link.delete()
    assert Client().get(address(link, session)).status_code == 404
    assert visitor.get(address(other, session)).status_code == 404, "another link's address is not its own"
    for body in ({}, {"resume": str(running.pk)}):
        answer = visitor.post(f"/r/{link.public_id}/start", body, content_type="application/json")
        assert answer.status_code == 404
    assert LiveSession.objects.count() == 2


def test_without_the_key_it_is_a_clear_page_and_erases_nothing(link: RoomLink, session: LiveSession) -> None:
    stranger = Client()
    page = stranger.get(address(link, session))
    assert page.status_code == 404
    assert "Not yours to open" in text_of(page)
    assert "My name is Ada." not in text_of(page)
    stranger.post(address(link, session))
    assert LiveSession.objects.filter(pk=session.pk).exists()


def test_a_stranger_cannot_tell_an_erased_one_from_anothers(link: RoomLink, session: LiveSession) -> None:
    def seen() -> str:
        return re.sub(r'csrfmiddlewaretoken" value="\w+"', "", text_of(Client().get(address(link, session))))

    theirs = seen()
    LiveSession.objects.all().delete()
    assert seen() == theirs


def test_the_key_opens_it_under_its_own_link_only(
    visitor: Client, other_link: RoomLink, link: RoomLink, session: LiveSession
) -> None:
    assert visitor.get(address(other_link, session)).status_code == 404
    visitor.post(address(other_link, session))
    assert LiveSession.objects.filter(pk=session.pk).exists()
    unknown = f"/r/unknown/sessions/{session.pk}/summary"
    assert visitor.get(unknown).status_code == 404


def test_the_key_is_good_for_a_day(
    visitor: Client, link: RoomLink, session: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    later = time.time() + COOKIE_MAX_AGE + 60
    monkeypatch.setattr("django.core.signing.time.time", lambda: later)
    assert visitor.get(address(link, session)).status_code == 404


def test_one_that_still_runs_leads_back_to_it(visitor: Client, link: RoomLink, session: LiveSession) -> None:
    LiveSession.objects.filter(pk=session.pk).update(state=SessionState.ACTIVE, ended_at=None, reason="")
    text = text_of(visitor.get(address(link, session)))
    assert "Still running" in text
    assert "Back to the conversation" in text


def test_one_without_words_says_so(visitor: Client, link: RoomLink, session: LiveSession) -> None:
    Segment.objects.all().delete()
    text = text_of(visitor.get(address(link, session)))
    assert "Nothing was said." in text
    assert "format=txt" not in text


def test_another_site_cannot_erase_it(link: RoomLink, session: LiveSession) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies[cookie_name(session.pk)] = sign_cookie(session.pk)
    assert strict.post(address(link, session)).status_code == 403
    assert LiveSession.objects.filter(pk=session.pk).exists()
