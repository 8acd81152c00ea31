"""The start page's moving faces, in Chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from avatars.models import Agent, Avatar
from sessions.models import RoomLink
from tests.axe import violations

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

# Chromium may be built without the clips' codec: what it is told counts.
TOLD = """HTMLMediaElement.prototype.play = function () { this.dataset.told = "play"; return Promise.resolve(); };
HTMLMediaElement.prototype.pause = function () { this.dataset.told = "pause"; };"""


@pytest.fixture
def start(page: Page, agent: Agent) -> Page:
    agent.avatar = Avatar.objects.create(
        project=agent.project, name="Mira", engine="puppet", options={"character": "mira"}
    )
    agent.save()
    RoomLink.objects.create(project=agent.project, agent=agent, on_start_page=True)
    page.add_init_script(TOLD)
    return page


def expect_told(page: Page, order: str) -> None:
    expect(page.locator(".picture video")).to_have_attribute("data-told", order)


def test_faces_move_until_they_are_paused_by_keyboard_and_stay_so(start: Page) -> None:
    start.emulate_media(reduced_motion="no-preference")
    start.goto("/")
    expect_told(start, "play")
    pause = start.get_by_role("button", name="Pause the pictures")
    pause.focus()
    start.keyboard.press("Enter")
    expect_told(start, "pause")
    play = start.get_by_role("button", name="Let the pictures move")
    expect(play).to_be_focused()
    assert violations(start) == []

    start.reload()
    expect_told(start, "pause")
    play.click()
    expect_told(start, "play")


def test_whoever_wants_less_motion_sees_still_faces_and_no_button(start: Page) -> None:
    start.emulate_media(reduced_motion="reduce")
    start.goto("/")
    expect_told(start, "pause")
    expect(start.locator("#motion")).to_be_hidden()
    expect(start.locator(".picture video")).to_be_hidden()
    expect(start.locator(".picture img")).to_be_visible()
    assert start.locator(".picture video").evaluate("video => video.currentSrc") == ""
