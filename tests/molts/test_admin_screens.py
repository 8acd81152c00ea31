"""Every kind of admin page as people see it: on a phone, a tablet and a desktop, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from avatars.models import Agent, AgentRevision
from tests.axe import COLOURS, layout, violations
from tests.chromium import browser, open_tab
from tests.e2e.desk import PHONE, SIZES, crowding
from tests.forms import admin_url
from tests.molts.screens import House, empty_pages, faults_of, furnish, pages, settle, split

__all__ = ["browser"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.django_db(transaction=True)]

GROUPS = 3
OF_A_KIND = pytest.mark.parametrize("rest", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["one", "rest"])
"""One page of each kind, such as a list or what asks before it deletes; the rest."""


@pytest.fixture
def page(root: User, live_server: LiveServer, browser: Browser) -> Iterator[Page]:
    """A browser tab in which a superuser is signed in: every page is open to one. Errors of scripts fail the test."""
    errors: list[str] = []
    with open_tab(browser, root, live_server.url) as page:
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_default_timeout(60_000)
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        yield page
    assert not errors


@pytest.fixture
def house(page: Page, root: User) -> House:
    return furnish(root)


def turn_dark(page: Page, is_dark: bool) -> None:
    page.evaluate("dark => document.documentElement.classList.toggle('dark', dark)", is_dark)


def violations_in_light_and_dark(page: Page) -> tuple[list[str], list[str]]:
    turn_dark(page, False)
    light, in_light = violations(page), layout(page)
    turn_dark(page, True)
    # The same elements in the same places: nothing but their colours can be wrong in the dark alone.
    return light, violations(page, COLOURS if layout(page) == in_light else None)


def look(page: Page, found: dict[str, list[str]], *, name: str, url: str) -> None:
    page.goto("about:blank")  # else the next part of the same page would not be loaded
    page.goto(url)
    for size in SIZES:
        page.set_viewport_size(size)
        settle(page)
        found[f"{name} at {size['width']}"] = faults_of(page) + crowding(page)
    found[f"{name}, light"], found[f"{name}, dark"] = violations_in_light_and_dark(page)


def with_faults(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: faults for name, faults in found.items() if faults}


@OF_A_KIND
@pytest.mark.parametrize("group", range(GROUPS))
def test_every_page_is_whole(page: Page, house: House, group: int, rest: bool) -> None:
    found: dict[str, list[str]] = {}
    for name, url in islice(split(pages(house), rest=rest), group, None, GROUPS):
        look(page, found, name=name, url=url)
    assert with_faults(found) == {}


@OF_A_KIND
def test_every_page_is_whole_while_it_is_empty(page: Page, rest: bool) -> None:
    found: dict[str, list[str]] = {}
    for name, url in split(empty_pages(), rest=rest):
        look(page, found, name=name, url=url)
    page.context.clear_cookies()
    look(page, found, name="login", url="/admin/login/")
    assert with_faults(found) == {}


def test_what_is_chosen_can_be_told_from_what_is_not_in_the_dark(page: Page, house: House) -> None:
    page.goto(f"{admin_url(Agent, 'change', house.agent.pk)}#turns")
    turn_dark(page, True)
    choice = page.get_by_label("Snappy")
    expect(choice).to_be_visible()
    assert choice.evaluate("box => getComputedStyle(box).colorScheme") == "dark", "else its empty circle is white"


def test_a_box_for_text_grows_with_what_is_typed(page: Page, house: House) -> None:
    page.goto(f"{admin_url(Agent, 'change', house.agent.pk)}#knowledge")
    box = page.get_by_label("It says").first
    expect(box).to_be_visible()
    box.fill("One line.")
    low = box.bounding_box()
    box.fill("\n".join(f"Line {number}" for number in range(1, 13)))
    high = box.bounding_box()
    assert low
    assert high
    assert high["height"] > 2 * low["height"]
    assert box.evaluate("box => box.scrollHeight <= box.clientHeight + 2")


def test_the_menu_of_a_revision_can_be_pressed_on_a_phone(page: Page, house: House) -> None:
    page.set_viewport_size(PHONE)
    page.goto(admin_url(AgentRevision, "change", house.first_revision.pk))
    page.get_by_role("button", name="Menu", exact=True).click()
    expect(page.get_by_role("link", name="Provider keys")).to_be_visible()
    page.get_by_role("button", name="Close the menu").click()
    page.get_by_role("link", name="Roll back to this").click()
    expect(page.get_by_role("button", name="Roll back")).to_be_visible()


def test_faults_are_seen_where_there_are_some(page: Page) -> None:
    page.set_viewport_size(PHONE)
    page.goto("/admin/login/")
    settle(page)
    assert faults_of(page) == []
    page.evaluate(
        """() => document.querySelector("main").insertAdjacentHTML("beforeend", `
            <p style="inline-size: 4rem; overflow-wrap: anywhere">unmistakable</p>
            <p style="overflow: hidden; inline-size: 3rem; white-space: nowrap">cut off here</p>
            <div style="overflow-x: auto; inline-size: 5rem"><p style="inline-size: 20rem">far</p></div>
            <table><tr><td style="display: block; inline-size: 2.5rem">30 Nov 2026, 11:53</td></tr></table>
            <textarea name="small" style="field-sizing: fixed; block-size: 20px; max-block-size: 20px;
              min-block-size: 0">a\\nb\\nc\\nd</textarea>
            <div style="display: flex"><label for="near">Near</label><input id="near"></div>
            <p style="inline-size: 40rem">Wider than any phone</p>`)"""
    )
    faults = "\n".join(faults_of(page))
    for fault in (
        *("“unmistakable” is broken in two", "is cut", "must be scrolled", "“30 Nov 2026, 11:53” stands on"),
        *("small hides", "the label “Near” touches its field", "pixels wider than the screen"),
    ):
        assert fault in faults


def test_words_that_are_too_pale_in_the_dark_alone_are_seen(page: Page) -> None:
    page.goto("/admin/login/")
    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<p style=\"color: #444\">Dim</p>')")
    light, dark = violations_in_light_and_dark(page)
    assert light == []
    assert [fault.partition(":")[0] for fault in dark] == ["color-contrast"]
