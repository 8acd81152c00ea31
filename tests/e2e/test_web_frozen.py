"""The web part stands still in the middle of a conversation: everybody is told, and nothing is lost or doubled."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.e2e.conftest import Enter
from tests.e2e.rooms import GREETING, MEETING, Rooms
from tests.e2e.stack import Molts, send
from tests.e2e.test_live_view import sign_in

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]


def web_processes(molts: Molts) -> list[psutil.Process]:
    return [process for process in molts.processes() if "molts.asgi:application" in process.cmdline()]


@pytest.mark.soak
def test_visitor_and_watcher_are_told_and_nothing_is_lost_or_doubled(molts: Molts, rooms: Rooms, enter: Enter) -> None:
    visitor, watcher = enter(), enter()
    session = visitor.talk(rooms.talk)
    visitor.wait_for_line("agent", GREETING, seconds=20)
    sign_in(molts, watcher.page)
    watcher.page.goto(f"{molts.url}/admin/live_sessions/livesession/{session}/change/")
    watcher.page.wait_for_selector("#link-state:text('following live')")

    web = web_processes(molts)
    assert web
    send(web, signal.SIGSTOP)
    try:
        visitor.type(MEETING[0])  # at once: `up` will replace what stands still
        visitor.wait_for_notice("words", seconds=30)
        watcher.page.wait_for_selector("#link-state:text('the connection is lost')", timeout=40_000)
        visitor.page.wait_for_selector("li.segment.failed >> text=not confirmed yet", timeout=40_000)
        visitor.page.click("button.resend")
    finally:
        send(web, signal.SIGCONT)
    visitor.wait_for_line("agent", MEETING[1], seconds=30)
    visitor.wait_for("no trouble left", lambda: visitor.page.locator(".notice").count() == 0, seconds=20)
    watcher.page.wait_for_selector("#link-state:text('following live')", timeout=60_000)

    asked = [line for line in visitor.lines if line.text == MEETING[0]]
    assert len(asked) == 1
    assert asked[0].seq is not None
    stored = [row.text for row in molts.rows(session)]
    assert stored.count(MEETING[0]) == stored.count(MEETING[1]) == 1
