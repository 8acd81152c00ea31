"""What a visitor finds after a conversation, in their own language."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.axe import violations_in
from tests.e2e.conftest import Enter
from tests.e2e.rooms import MEETING, Rooms
from tests.e2e.stack import Molts

pytestmark = pytest.mark.slow


def test_the_summary_keeps_the_conversation_until_it_is_erased(molts: Molts, rooms: Rooms, enter: Enter) -> None:
    question, answer, _ = MEETING
    visitor = enter()
    session_id = visitor.talk(rooms.quiet)
    visitor.wait_for_chip("listening", seconds=20)
    visitor.type(question)
    visitor.wait_for_line("agent", "meeting is today", seconds=15)
    visitor.leave()
    page = visitor.page
    summary = f"{rooms.quiet}/sessions/{session_id}/summary"

    page.goto(summary)
    expect(page.locator(".transcript")).to_contain_text(question)
    expect(page.locator(".transcript")).to_contain_text(answer)
    expect(page.locator(".transcript")).to_contain_text("Answered after")
    assert [violations_in(page, scheme) for scheme in ("light", "dark")] == [[], []]
    page.reload()
    expect(page.locator(".transcript .segment")).to_have_count(2)
    with page.expect_download() as download:
        page.click("text=TXT")
    assert answer in download.value.path().read_text()

    page.click(".erase summary")
    assert [violations_in(page, scheme) for scheme in ("light", "dark")] == [[], []]
    page.click("#erase")
    expect(page.locator("h1")).to_have_text("Nothing is kept")
    assert molts.query("SELECT COUNT(*) AS n FROM live_sessions_segment WHERE session_id = ?", hexed(session_id)) == [
        {"n": 0}
    ]
    page.reload()
    expect(page.locator("h1")).to_have_text("Nothing is kept")
    page.click("text=Talk again")
    visitor.wait_for_phase("lobby", seconds=10)


def hexed(session_id: str) -> str:
    return session_id.replace("-", "")


@pytest.mark.parametrize(
    ("name", "title", "direction"),
    [pytest.param("Deutsch", "Sprechen", "ltr", marks=pytest.mark.soak), ("العربيّة", "تحدّث", "rtl")],
)
def test_the_language_is_chosen_on_the_page_and_goes_through_the_whole_talk(
    molts: Molts, rooms: Rooms, enter: Enter, name: str, title: str, direction: str
) -> None:
    visitor = enter()
    page = visitor.page
    page.goto(rooms.quiet)
    page.click(".language summary")
    page.click(f".language button:has-text('{name}')")

    expect(page.locator("html")).to_have_attribute("dir", direction)
    expect(page.locator("#talk")).to_contain_text(title)
    visitor.talk(rooms.quiet)
    visitor.wait_for_chip("listening", seconds=20)
    expect(page.locator("#state-text")).not_to_have_text("Listening")
    visitor.type(MEETING[0])
    visitor.wait_for_line("agent", "meeting is today", seconds=15)
    expect(page.locator("#transcript .segment .text").last).to_have_attribute("lang", "en")
    visitor.leave()
    page.goto(f"{rooms.quiet}/sessions/{visitor_session(page)}/summary")
    expect(page.locator("html")).to_have_attribute("dir", direction)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def visitor_session(page: Page) -> str:
    return str(page.evaluate("window.molts.state().sessionId"))
