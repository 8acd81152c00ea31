"""A server that stands still closes nothing. The page notices all the same, says so, and loses and doubles nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Join
from tests.e2e.page_harness import MediaServer, RoomServer, chip, kept, lines, notice, talk

pytestmark = pytest.mark.slow

TOLD_WITHIN_MS = 10_000
PHONES = [(390, 844), (412, 915), (375, 667), (360, 640)]


@pytest.fixture
def thawed(room: RoomServer) -> Iterator[None]:
    yield
    room.frozen = False


def type_line(page: Page, text: str) -> None:
    page.fill("#say-text", text)
    page.press("#say-text", "Enter")


@pytest.mark.usefixtures("thawed")
def test_it_says_that_the_server_stands_still_and_goes_on_by_itself(page: Page, room: RoomServer, join: Join) -> None:
    talk(page, room)
    agent = join()
    room.become("listening")
    room.final("agent", "Hello.")
    expect(page.locator("li.segment.final")).to_have_count(1)
    room.frozen = True
    began = time.monotonic()
    expect(notice(page, "words")).to_contain_text("Transcript interrupted", timeout=TOLD_WITHIN_MS)
    print(f"told after {time.monotonic() - began:.1f} s")
    expect(chip(page, "reconnecting")).to_be_visible()
    expect(page.locator("#room")).to_have_attribute("data-media", "connected")

    # The room goes on without the server: the line arrives, only nobody can say so.
    type_line(page, "Is the pool open?")
    asked = page.locator("li.segment.failed")
    expect(asked.locator(".note")).to_have_text("not confirmed yet", timeout=TOLD_WITHIN_MS)
    expect(page.locator("#alarm")).to_contain_text("You can send it again")
    desktop = page.viewport_size
    assert desktop
    for width, height in PHONES:
        page.set_viewport_size({"width": width, "height": height})
        for part in (asked.locator(".text"), asked.locator(".note"), asked.get_by_role("button", name="Send again")):
            expect(part, f"at {width}x{height}").to_be_in_viewport(ratio=0.99)
    page.set_viewport_size(desktop)
    asked.get_by_role("button", name="Send again").click()
    expect(page.locator("li.segment.pending")).to_have_count(1)
    page.wait_for_function("document.querySelector('li.segment .note').textContent !== 'not confirmed yet'")
    first, again = agent.wait_for_chats(2)
    assert first == again == "Is the pool open?"
    assert len(set(agent.chat_lines)) == 1, "however often it is sent, it is the same line"

    room.final("user", "Is the pool open?")
    room.final("agent", "It is.")
    room.frozen = False
    expect(page.locator("#room[data-socket=open]")).to_be_visible(timeout=20_000)
    expect(page.locator(".notice")).to_have_count(0)
    expect(page.locator("li.segment")).to_have_count(3)
    assert lines(page) == kept(room)
    assert room.after[-1] == 1


@pytest.mark.soak
@pytest.mark.usefixtures("thawed")
def test_a_line_that_hangs_on_its_way_to_the_server_is_offered_again(page: Page, room: RoomServer) -> None:
    room.media_url = "ws://127.0.0.1:9"
    page.goto(room.url)
    page.click("#type-instead")
    expect(page.locator("#room[data-media=reconnecting][data-socket=open]")).to_be_visible()
    room.become("listening")
    expect(page.locator("#state[data-agent-state=listening]")).to_be_attached()
    room.frozen = True
    type_line(page, "Can you read this?")
    expect(page.locator("li.segment.pending .note")).to_have_text("sending")
    expect(page.locator("li.segment.failed")).to_have_count(1, timeout=TOLD_WITHIN_MS)
    room.frozen = False
    expect(page.locator("#room[data-socket=open]")).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Send again").click()
    page.wait_for_function("document.querySelector('li.segment.pending')")
    while not room.said:
        page.wait_for_timeout(50)
    assert len({line for line, _text in room.orders}) == 1
    room.final("user", "Can you read this?")
    expect(page.locator("li.segment.final")).to_have_count(1)
    expect(page.locator("li.segment")).to_have_count(1)
    assert lines(page) == kept(room)


@pytest.mark.soak
@pytest.mark.usefixtures("thawed")
def test_it_says_that_the_server_does_not_begin(page: Page, room: RoomServer) -> None:
    page.goto(room.url)
    room.frozen = True
    page.click("#type-instead")
    expect(notice(page, "slow-start")).to_contain_text("has not answered yet", timeout=TOLD_WITHIN_MS)
    room.frozen = False
    expect(page.locator("#room[data-media=connected][data-socket=open]")).to_be_visible(timeout=20_000)
    expect(page.locator(".notice")).to_have_count(0)


def test_it_says_that_the_media_server_stands_still(
    page: Page, room: RoomServer, media: MediaServer, join: Join
) -> None:
    talk(page, room)
    agent = join()
    room.become("listening")
    expect(chip(page, "listening")).to_be_visible()
    assert media.pid is not None
    os.kill(media.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        expect(notice(page, "media")).to_contain_text("Connection lost", timeout=40_000)
        told = time.monotonic() - began
    finally:
        os.kill(media.pid, signal.SIGCONT)
    print(f"told after {told:.1f} s")
    expect(page.locator("#room[data-media=connected]")).to_be_visible(timeout=20_000)
    expect(notice(page, "media")).to_have_count(0)
    assert told < TOLD_WITHIN_MS / 1000
    agent.heard_peak = 0
    while not agent.heard_peak:
        page.wait_for_timeout(100)
