"""Somebody with an empty installation, a mouse and a keyboard: to a conversation, and past a wrong key."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Enter
from tests.e2e.desk import Desk
from tests.e2e.stack import Molts
from tests.e2e.vendor import COMPLAINT, RIGHT_KEY, RunningVendor

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]

ANSWER = "The table is yours at eight."


@pytest.fixture
def vendor() -> Iterator[RunningVendor]:
    with RunningVendor() as vendor:
        vendor.fake.text = ANSWER
        yield vendor


@pytest.fixture
def desk(blank: Molts, enter: Enter) -> Desk:
    desk = Desk(enter().page, blank)
    desk.sign_in()
    return desk


def make_project(desk: Desk, name: str) -> None:
    desk.open("Projects and members")
    desk.add()
    desk.fill("Name", name)
    desk.save()


def begin_key(desk: Desk, *, name: str, url: str, secret: str) -> None:
    """Fill in the form of a key, without saving it."""
    desk.open("Provider keys")
    desk.add()
    desk.fill("Name", name)
    desk.choose("Provider", "OpenAI-compatible server")
    desk.fill("Base URL", url)
    desk.fill("Secret", secret)


def test_it_leads_from_an_empty_installation_to_a_conversation(
    blank: Molts, desk: Desk, vendor: RunningVendor, enter: Enter
) -> None:
    make_project(desk, "Harbour House")

    begin_key(desk, name="Kitchen model", url=vendor.fake.url, secret=RIGHT_KEY)
    desk.save()

    desk.open("Voices")
    desk.add()
    desk.fill("Name", "Calm")
    desk.choose("Provider", "espeak-ng (simple local voice)")
    desk.save()

    desk.open("Agents")
    desk.add()
    desk.fill("Name", "Nora")
    desk.fill("Greeting", "Good evening, this is Nora.")
    desk.choose("Voice", "Calm")
    desk.tab("Pipeline")
    desk.press("Add a model")
    desk.choose("Provider", "OpenAI-compatible server")
    desk.field("Provider key").select_option(index=1)
    desk.fill("Model", "small")
    desk.save()

    desk.open("Links")
    desk.add()
    desk.choose("Agent", "Nora")
    desk.field("On start page").check(force=True)
    desk.press("Save and continue editing")
    address = desk.page.get_by_label("Address of the link").input_value()

    visitor = enter()
    visitor.page.goto(blank.url)
    visitor.page.get_by_role("link", name="Talk with Nora").click()
    assert visitor.page.url == address
    visitor.page.click("#talk")
    visitor.wait_for_line("agent", "this is Nora", seconds=20)
    visitor.type("Is there a table for two?")
    visitor.wait_for_line("agent", ANSWER, seconds=20)
    visitor.wait_for("her voice", lambda: visitor.heard.any(), seconds=10)
    visitor.leave()

    desk.open("Conversations")
    desk.main.locator("a[href*='/change/']").filter(visible=True).first.click()
    expect(desk.page.get_by_text(ANSWER).first).to_be_visible()


@pytest.mark.soak
def test_a_wrong_key_is_found_and_put_right_from_the_error_alone(
    blank: Molts, desk: Desk, vendor: RunningVendor
) -> None:
    make_project(desk, "Second house")
    known = ["sk-wrong-0123456789abcdef", RIGHT_KEY]
    begin_key(desk, name="Model of the hall", url=vendor.fake.url, secret=known[0])
    desk.choose("Project", "Second house")
    tested = desk.page.get_by_role("region", name="Test connection")

    desk.press("Test connection")

    expect(tested.get_by_text(COMPLAINT).first).to_be_visible(timeout=12_000)
    assert known[0] not in tested.inner_text()
    begins = re.search(r"begin with (\S+)", tested.inner_text())
    assert begins
    (right,) = [key for key in known if key.startswith(begins[1])]
    desk.fill("Secret", right)
    desk.press("Test connection")
    expect(tested.get_by_text(re.compile(r"\d+ ms")).first).to_be_visible(timeout=12_000)
    expect(tested.get_by_text(COMPLAINT)).to_have_count(0)
    desk.save()
