"""What admins are shown when a part of an agent did not answer in a conversation."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from avatars.models import Agent
from molts import doctor
from molts.admin.figures import USUAL_RANGE, count_conversations, count_notices
from molts.doctor_checks.findings import Level
from sessions import events, services
from sessions.choices import NoticeCode, NoticeLevel
from sessions.models import LiveSession, SessionNotice, Turn
from sessions.troubles import recent_troubles
from tests.forms import admin_url
from tests.projects.world import make_session

SignIn = Callable[[User], Client]

pytestmark = pytest.mark.django_db
REASON = "OpenAI: 401: Incorrect API key provided: [hidden]."


@pytest.fixture(autouse=True)
def _no_media_server(settings: Settings) -> None:
    settings.LIVEKIT_URL = "ws://127.0.0.1:9"


def tell(session: LiveSession, code: str, *, level: str = "error", reason: str = REASON) -> None:
    text = "The agent cannot answer."
    services.add_notice(
        session_id=session.pk, level=NoticeLevel(level), code=NoticeCode(code), text=text, reason=reason
    )


def listed(client: Client, **query: str) -> list[LiveSession]:
    return list(client.get(admin_url(LiveSession, "changelist"), query).context["cl"].result_list)


@pytest.mark.parametrize("code", ["llm_lost", "stt_lost"])
def test_a_talk_without_a_needed_part_counts_as_failed(agent: Agent, vera: User, sign_in: SignIn, code: str) -> None:
    fine, troubled = make_session(agent), make_session(agent)
    tell(troubled, code)
    assert listed(sign_in(vera), state="failed") == [troubled]
    (row,) = count_conversations(LiveSession.objects.order_by(), USUAL_RANGE)
    assert (row["number"], row["failed"]) == (2, 1)
    assert fine.is_live


@pytest.mark.parametrize("code", ["tts_lost", "llm_fallback", "avatar_lost"])
def test_a_talk_that_another_part_carried_did_not_fail(agent: Agent, vera: User, sign_in: SignIn, code: str) -> None:
    session = make_session(agent)
    tell(session, code, level="warning")
    assert listed(sign_in(vera), state="failed") == []
    assert listed(sign_in(vera), notices="any") == [session]
    assert code in [row["code"] for row in count_notices(LiveSession.objects.order_by())]


def test_the_list_says_what_the_worst_was_and_why_and_shows_no_green(agent: Agent, vera: User, sign_in: SignIn) -> None:
    troubled = make_session(agent)
    LiveSession.objects.filter(pk=troubled.pk).update(state="active")
    tell(troubled, "llm_lost")
    tell(troubled, "tts_fallback", level="warning", reason="Groq: 429: Slow down.")
    html = sign_in(vera).get(admin_url(LiveSession, "changelist")).content.decode()
    assert "No language model answered" in html
    assert REASON in html
    assert '<span class="chip chip-bad">running</span>' in html


def test_the_page_of_the_talk_says_why_in_its_notices_and_its_picture(
    agent: Agent, vera: User, sign_in: SignIn
) -> None:
    session = make_session(agent)
    tell(session, "llm_lost")
    response = sign_in(vera).get(admin_url(LiveSession, "change", session.pk))
    assert response.content.decode().count(REASON) >= 2
    assert any(REASON in mark["text"] for mark in response.context["talk"]["timeline"]["notices"])


def test_visitors_are_not_told_the_reason(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(services, "publish_on_commit", lambda session_id, event: told.append(event))
    tell(make_session(agent), "llm_lost")
    assert REASON not in events.encode(told[0])
    assert "cannot answer" in events.encode(told[0])


def test_a_long_reason_is_cut(agent: Agent) -> None:
    session = make_session(agent)
    tell(session, "llm_lost", reason="x" * 5_000)
    assert len(session.notices.get(code="llm_lost").reason) == 300


def test_doctor_tells_what_vendors_did_lately(agent: Agent) -> None:
    assert doctor.check_conversations().level == Level.OK
    session = make_session(agent)
    for _ in range(3):
        tell(session, "llm_lost")
    found = doctor.check_conversations()
    assert found.level == Level.WARNING
    assert found.text.count(REASON) == 1
    assert "Ada: No language model answered" in found.text
    SessionNotice.objects.update(created_at=timezone.now() - timedelta(hours=7))
    assert doctor.check_conversations().level == Level.OK


def test_the_editor_tells_until_a_talk_went_well(agent: Agent) -> None:
    def troubles() -> dict[str, str]:
        return recent_troubles(agent=agent)

    assert troubles() == {}
    session = make_session(agent)
    tell(session, "llm_lost")
    assert list(troubles()) == ["llm"]
    assert troubles()["llm"].endswith(REASON)
    tell(session, "llm_back", level="info", reason="")
    assert troubles() == {}
    tell(session, "stt_fallback", level="warning")
    assert list(troubles()) == ["stt"]
    Turn.objects.create(session=session, index=9)  # in the same talk: it says nothing
    assert list(troubles()) == ["stt"]
    make_session(agent)
    assert troubles() == {}


def test_the_editor_shows_no_green_for_what_failed_lately(agent: Agent, root: User, sign_in: SignIn) -> None:
    def colours() -> set[str]:
        html = sign_in(root).get(admin_url(Agent, "change", agent.pk)).content.decode()
        found = re.search(r'data-chain="llm".*?<details class="m-now([^"]*)"', html, re.DOTALL)
        assert found
        return set(found[1].split())

    assert colours() == set()
    tell(make_session(agent), "llm_lost")
    assert colours() == {"m-now-troubled"}
