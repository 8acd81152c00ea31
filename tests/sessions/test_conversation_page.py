"""The page of one conversation in Chromium: what its script draws, and what it does with what the socket tells."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, WebSocketRoute, expect
from pytest_django.live_server_helper import LiveServer

from avatars.models import Agent
from sessions.models import LiveSession
from tests.axe import violations
from tests.chromium import browser, open_tab
from tests.forms import admin_url
from tests.projects.world import make_session

__all__ = ["browser"]  # a fixture
pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
MINUTES = 3
UNKNOWN: dict[str, Any] = dict.fromkeys(("endpointing_ms", "stt_ms", "llm_ms", "tts_ms", "avatar_ms"))


@pytest.fixture
def page(bob: User, live_server: LiveServer, browser: Browser) -> Iterator[Page]:
    """A tab in which bob, an editor, is signed in. Errors of scripts fail the test."""
    errors: list[str] = []
    with open_tab(browser, bob, live_server.url) as page:
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert not errors


@pytest.fixture
def session(agent: Agent) -> LiveSession:
    """It runs, and began some minutes before its notice."""
    session = make_session(agent)
    began = session.notices.get().created_at - timedelta(minutes=MINUTES)
    LiveSession.objects.filter(pk=session.pk).update(created_at=began)
    session.refresh_from_db()
    return session


def end(session: LiveSession) -> None:
    LiveSession.objects.filter(pk=session.pk).update(
        state="ended", reason="silence", ended_at=session.created_at + timedelta(minutes=MINUTES)
    )


def open_page(page: Page, session: LiveSession) -> None:
    page.goto(admin_url(LiveSession, "change", session.pk))


class Server:
    """The other end of the page's socket."""

    def __init__(self, page: Page, session: LiveSession) -> None:
        self.session = session
        self.sockets: list[WebSocketRoute] = []
        self.missed: list[dict[str, Any]] = []
        """Lines that whoever comes next has not had."""
        page.route_web_socket("**/ws/sessions/**", self._open)

    def _open(self, socket: WebSocketRoute) -> None:
        self.sockets.append(socket)
        socket.on_message(lambda _: self.tell("pong"))
        self.tell("snapshot", session=self._data(), segments=self.missed, last_seq=self.session.last_seq)

    def _data(self) -> dict[str, Any]:
        return {
            "id": str(self.session.pk),
            "state": "active",
            "reason": None,
            "agent_name": "Ada",
            "agent_state": "listening",
            "started_at": self.session.created_at.isoformat(),
            "ended_at": None,
            "max_seconds": None,
        }

    def tell(self, kind: str, *, offset_ms: int = MINUTES * 60_000, **fields: Any) -> None:
        event = {"type": kind, "at": self.session.created_at.isoformat(), "offset_ms": offset_ms, **fields}
        self.sockets[-1].send(json.dumps(event))

    def say(self, seq: int, text: str, *, interrupted: bool = False) -> None:
        self.tell("transcript.final", **line(seq, text, interrupted=interrupted))


def line(seq: int, text: str, *, interrupted: bool = False) -> dict[str, Any]:
    """A settled line of the visitor."""
    times = {"start_ms": 150_000, "end_ms": 160_000}
    words = {"role": "user", "text": text, "interrupted": interrupted, "revised": False}
    return {"seq": seq, "segment_id": f"n{seq}", **words, **times}


@pytest.fixture
def follow(page: Page, session: LiveSession) -> Callable[[], Server]:
    """Opens the page of the running conversation and waits until it follows."""

    def follow() -> Server:
        server = Server(page, session)
        open_page(page, session)
        expect(page.locator("#link-state")).to_have_text("following live")
        return server

    return follow


def test_its_picture_leads_to_the_lines_and_names_parts_in_words(page: Page, session: LiveSession) -> None:
    end(session)
    open_page(page, session)

    for line in session.segments.all():
        bar = page.locator(f'#bars a[href="#line-{line.seq}"]')
        title = f"00:0{line.seq}:0{line.seq}–00:0{line.seq}:0{line.seq}: Line {line.seq} of Ada <b>&"
        expect(bar).to_have_attribute("aria-label", title)
        assert bar.locator("title").text_content() == title
    assert page.locator("#bars rect").first.get_attribute("class") == "user"
    expect(page.get_by_role("region", name="Timeline")).to_be_visible()
    expect(page.locator("#timeline")).to_have_attribute(
        "aria-label",
        "From 00:00:00 to 00:03:00: the visitor spoke 1 times, 00:00:00 in all, "
        "the agent spoke 1 times, 00:00:00 in all, 1 notices.",
    )
    assert page.locator("#marks circle.warning title").text_content() == "00:03:00 The agent is late."
    assert page.locator(".wait rect").evaluate_all("parts => parts.map((part) => part.textContent)") == [
        "Waiting for silence 400 ms",
        "Speech recognition 50 ms",
        "Language model 7 ms",
        "Voice 90 ms",
    ]
    assert violations(page) == []

    page.locator('#bars a[href="#line-2"]').focus()
    page.keyboard.press("Enter")
    expect(page.locator("#line-2:target")).to_be_visible()


def test_without_scripts_only_the_picture_is_missing(
    bob: User, live_server: LiveServer, browser: Browser, session: LiveSession
) -> None:
    end(session)
    with open_tab(browser, bob, live_server.url, scripts=False) as page:
        open_page(page, session)

        expect(page.locator("#line-2")).to_contain_text("Line 2 of Ada <b>&")
        expect(page.locator("#waits tbody tr")).to_contain_text("547")
        expect(page.locator("#notices")).to_contain_text("The agent is late.")
        expect(page.locator(".when .none")).to_contain_text("need JavaScript")
        expect(page.locator("#timeline")).to_be_hidden()


def test_what_happens_is_drawn_as_what_was(page: Page, follow: Callable[[], Server]) -> None:
    server = follow()

    server.tell("transcript.partial", segment_id="n3", role="user", text="And", offset_ms=150_000)
    expect(page.locator("#lines .partial p")).to_have_text("And")
    expect(page.locator("#bars .speaking")).to_have_count(1)
    server.say(3, "And then?", interrupted=True)
    server.say(3, "And then?", interrupted=True)  # once more, as after a cut

    expect(page.locator("#line-3")).to_contain_text("And then? interrupted")
    expect(page.locator("#lines .partial")).to_have_count(0)
    expect(page.locator("#bars rect")).to_have_count(3)
    expect(page.locator("#bars a").last).to_have_attribute("aria-label", "00:02:30–00:02:40 (interrupted): And then?")
    expect(page.locator("#fact-lines")).to_have_text("3")
    expect(page.locator("#fact-cuts")).to_have_text("1")

    server.tell("turn.metrics", turn=2, total_ms=1_094, **UNKNOWN)
    expect(page.locator("#waits tbody tr")).to_have_count(2)
    unmeasured = page.locator(".wait .part-unknown")
    expect(unmeasured).to_have_attribute("width", "100.000%")
    assert unmeasured.text_content() == "Not measured in parts 1094 ms"
    assert page.locator(".wait .part-endpointing").get_attribute("width") == "36.563%", "all on one scale"

    server.tell("notice", level="error", code="llm_lost", text="Nobody answers.")
    expect(page.locator("#notices .error")).to_contain_text("Nobody answers. llm_lost")
    expect(page.locator("#marks circle.error title")).to_have_text("00:03:00 Nobody answers.")
    server.tell("agent.state", state="speaking")
    expect(page.locator("#agent-state")).to_have_text("Speaking")


def test_its_last_lines_come_after_the_end(page: Page, follow: Callable[[], Server]) -> None:
    server = follow()
    server.tell("transcript.partial", segment_id="lost", role="user", text="Hm", offset_ms=170_000)
    expect(page.locator("#bars .speaking")).to_have_count(1)

    server.tell("session.state", state="ended", reason="silence")
    expect(page.locator("#state-chip")).to_have_text("ended")
    expect(page.locator("#agent-state")).to_have_text("Silence")
    expect(page.locator("#link-state a")).to_have_text("Show the whole record")
    expect(page.locator("#steer")).to_have_count(0)
    expect(page.locator("#bars .speaking, #lines .partial")).to_have_count(0)
    server.say(3, "Good bye.")
    expect(page.locator("#line-3")).to_contain_text("Good bye.")
    assert page.locator("#bars rect").last.get_attribute("x"), "it has its place"

    server.sockets[-1].close(code=4410)
    expect(page.locator("#link-state a")).to_have_text("Show the whole record")
    assert len(server.sockets) == 1


def test_a_cut_is_told_and_mended(page: Page, follow: Callable[[], Server]) -> None:
    server = follow()
    server.say(3, "Before.")
    expect(page.locator("#line-3")).to_be_visible()

    server.missed.append(line(4, "Meanwhile."))
    server.sockets[-1].close(code=1011)

    expect(page.locator("#line-4")).to_contain_text("Meanwhile.")
    expect(page.locator("#link-state")).to_have_text("following live")
    assert len(server.sockets) == 2
    assert server.sockets[-1].url.endswith("?after=3")

    server.sockets[-1].close(code=4404)
    expect(page.locator("#link-state")).to_have_text("no longer following: load the page again")
