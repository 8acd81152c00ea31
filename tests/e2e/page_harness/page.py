"""What tests do to the room page and see of it."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.e2e.page_harness.server import RoomServer

MICROPHONE = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]

expect.set_options(timeout=30_000)


def talk(page: Page, room: RoomServer, name: str = "Anna") -> None:
    page.goto(room.url)
    page.fill("#name", name)
    page.click("#talk")
    expect(page.locator("#room[data-media=connected][data-socket=open]")).to_be_visible()


def notice(page: Page, key: str) -> Locator:
    return page.locator(f".notice[data-key={key}]")


def chip(page: Page, value: str) -> Locator:
    return page.locator(f"#state[data-chip={value}]")


def lines(page: Page) -> list[tuple[int, str, str]]:
    """(seq, role, text) of the settled lines, in the order of the page."""
    return [
        (
            int(str(line.get_attribute("data-seq"))),
            str(line.get_attribute("data-role")),
            line.locator(".text").inner_text(),
        )
        for line in page.locator("#transcript li.segment.final").all()
    ]


def kept(room: RoomServer) -> list[tuple[int, str, str]]:
    return [(line.seq, line.role, line.text) for line in room.segments]
