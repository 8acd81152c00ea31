"""The agent's moving face on the room page: it comes over the portrait and goes again, and nothing jumps."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.axe import AXE
from tests.e2e.conftest import Join
from tests.e2e.page_harness import RoomServer, notice, talk

pytestmark = pytest.mark.slow

PORTRAIT = "#face img.portrait"
MOVING = "#face[data-moving]"


def box(page: Page, selector: str) -> dict[str, float]:
    found = page.locator(selector).bounding_box()
    assert found is not None
    return {name: round(value, 1) for name, value in dict(found).items()}  # type: ignore[call-overload]


def opacity(page: Page) -> float:
    return float(page.evaluate("getComputedStyle(document.querySelector('#avatar')).opacity"))


def test_the_face_comes_over_the_portrait_freezes_and_comes_back(page: Page, room: RoomServer, join: Join) -> None:
    talk(page, room)
    before = box(page, PORTRAIT), box(page, "#conversation")
    agent = join(face=True)
    room.become("listening")

    expect(page.locator(MOVING)).to_be_visible()
    expect(page.locator("#avatar")).to_have_css("opacity", "1")
    assert page.evaluate("document.querySelector('#avatar').videoWidth") == 240
    assert (box(page, "#avatar"), box(page, "#conversation")) == before, "a tall picture fills the same square"
    expect(page.locator(PORTRAIT)).to_have_css("visibility", "hidden")
    assert page.locator("#avatar").get_attribute("aria-hidden") is None

    agent.frozen.set()
    expect(page.locator(MOVING)).to_have_count(0)
    expect(page.locator(PORTRAIT)).to_have_css("visibility", "visible")
    expect(page.locator("#avatar")).to_have_css("opacity", "0")
    assert box(page, PORTRAIT) == before[0]

    agent.frozen.clear()
    expect(page.locator(MOVING)).to_be_visible()


@pytest.mark.soak
def test_a_face_that_is_taken_away_leaves_the_portrait_and_a_place_for_the_next(
    page: Page, room: RoomServer, join: Join
) -> None:
    talk(page, room)
    agent = join(face=True)
    room.become("listening")
    expect(page.locator(MOVING)).to_be_visible()

    agent.faceless.set()
    expect(page.locator(MOVING)).to_have_count(0)
    expect(page.locator("canvas.last")).to_have_count(0)
    expect(page.locator("#avatar")).to_have_count(1)
    room.notice("warning", "avatar_lost", "The face is gone for now.")
    expect(notice(page, "avatar_lost")).to_contain_text("You can keep talking")
    expect(notice(page, "avatar_lost").get_by_role("link")).to_have_count(0)
    expect(page.locator("#speaker audio")).to_have_count(1)

    join(face=True)
    room.notice("info", "avatar_back", "The face is back.")
    expect(page.locator(MOVING)).to_be_visible()
    expect(notice(page, "avatar_lost")).to_have_count(0)


@pytest.mark.soak
def test_axe_finds_nothing_wrong_with_a_moving_face(page: Page, room: RoomServer, join: Join) -> None:
    page.emulate_media(reduced_motion="reduce")
    talk(page, room)
    join(face=True)
    room.become("speaking")
    expect(page.locator(MOVING)).to_be_visible()
    assert opacity(page) == 1.0, "no fading for whoever wants less motion"
    expect(page.locator(PORTRAIT)).to_have_css("visibility", "hidden")

    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then((result) => result.violations.map((each) => each.id))")
    assert found == []
