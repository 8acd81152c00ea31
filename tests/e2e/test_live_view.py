"""Somebody of the project follows a running conversation in the admin, puts words into it and ends it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.e2e.browser import Visitor
from tests.e2e.conftest import Enter
from tests.e2e.rooms import GREETING, MEETING, Rooms
from tests.e2e.stack import Molts, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]


def sign_in(molts: Molts, page: Page) -> None:
    name, password = molts.admin
    page.goto(f"{molts.url}/admin/")
    page.fill("#id_username", name)
    page.fill("#id_password", password)
    page.press("#id_password", "Enter")
    page.wait_for_url("**/admin/")


def test_it_follows_steers_and_ends_a_running_conversation(molts: Molts, rooms: Rooms, enter: Enter) -> None:
    visitor, watcher = enter(), enter()
    session = visitor.talk(rooms.talk)
    visitor.wait_for_line("agent", GREETING, seconds=20)
    page = watcher.page
    sign_in(molts, page)

    page.goto(f"{molts.url}/admin/live_sessions/livesession/?state=live")
    page.click(f"#result_list a[href*='{session}']")
    page.wait_for_selector("#link-state:text('following live')")
    assert session in page.url
    page.wait_for_selector(f"#lines >> text={GREETING}")

    visitor.type(MEETING[0])
    page.wait_for_selector(f"#lines .line.user >> text={MEETING[0]}", timeout=15_000)
    page.wait_for_selector(f"#lines .line.agent >> text={MEETING[1]}", timeout=20_000)
    wait_for_bars(watcher, 3)
    assert page.inner_text("#fact-lines") == "3"

    page.select_option("#say-as", "agent")
    page.fill("#say-text", "Welcome to the tests.")
    page.press("#say-text", "Enter")
    visitor.wait_for_line("agent", "Welcome to the tests.", seconds=20)
    page.wait_for_selector("#lines .line.agent >> text=Welcome to the tests.", timeout=15_000)

    page.click("summary:text('End…')")
    page.click("button:text('End this conversation')")
    page.wait_for_selector("#state-chip >> text=ended")
    visitor.wait_for_phase("ended", seconds=15)
    assert molts.session(session)["reason"] == "ended_by_api"
    assert not [line for line in watcher.console if line.startswith("error")]


def wait_for_bars(watcher: Visitor, count: int) -> None:
    settled = "#bars rect:not(.speaking)"
    watcher.wait_for(f"{count} bars", lambda: watcher.page.locator(settled).count() >= count, seconds=10)


@pytest.mark.soak
def test_it_tells_of_the_end_without_a_reload(molts: Molts, rooms: Rooms, enter: Enter) -> None:
    visitor, watcher = enter(), enter()
    session = visitor.talk(rooms.quiet)
    sign_in(molts, watcher.page)
    watcher.page.goto(f"{molts.url}/admin/live_sessions/livesession/{session}/change/")
    watcher.page.wait_for_selector("#link-state:text('following live')")

    visitor.leave()

    watcher.page.wait_for_selector("#state-chip >> text=ended")
    wait_for("the row", lambda: molts.session(session)["state"] == "ended" or None, seconds=30)
    assert watcher.page.inner_text("#agent-state") == "Ended by the visitor"
    assert watcher.page.locator("#steer").count() == 0
