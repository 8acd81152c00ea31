"""How a visitor enters the room: told first what awaits them, by voice or by typing, whoever made the conversation."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Join, Launch
from tests.e2e.page_harness import MICROPHONE, MediaServer, RoomServer, chip, notice

pytestmark = pytest.mark.slow

# Counts how often the page asks for the microphone.
ASKED = """
  window.asked = 0;
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = (...wanted) => { window.asked += 1; return open(...wanted); };
"""
NO_STORAGE = """
  for (const name of ["localStorage", "sessionStorage"])
    Object.defineProperty(window, name, { get() { throw new DOMException("blocked", "SecurityError"); } });
"""


@pytest.fixture
def page(launch: Launch) -> Page:
    page = launch(MICROPHONE)
    page.add_init_script(ASKED)
    return page


def expect_connected(page: Page) -> None:
    expect(page.locator("#room[data-media=connected][data-socket=open]")).to_be_visible()


LINES = """(element) => {
  const range = document.createRange();
  range.selectNodeContents(element);
  return new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size;
}"""


@pytest.mark.parametrize("width", [320, *(pytest.param(width, marks=pytest.mark.soak) for width in (390, 768, 1440))])
@pytest.mark.parametrize(
    ("talk", "instead"),
    [
        ("Sprechen", "Lieber tippen"),
        pytest.param("Talk", "Type instead", marks=pytest.mark.soak),
        pytest.param("تحدّث", "الكتابة بدلًا من ذلك", marks=pytest.mark.soak),
    ],
)
def test_no_word_of_a_button_is_broken_in_two(
    page: Page, room: RoomServer, width: int, talk: str, instead: str
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(room.url)
    page.locator("#talk-label").evaluate("(label, text) => { label.textContent = text; }", talk)
    page.locator("#type-instead span").evaluate("(label, text) => { label.textContent = text; }", instead)
    for name in ("#talk-label", "#type-instead span"):
        assert page.locator(name).evaluate(LINES) == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# -- told first -------------------------------------------------------------------------------------------------------
def test_whom_a_program_invites_is_told_first_what_awaits_them(page: Page, room: RoomServer, join: Join) -> None:
    room.begin()
    room.invited = True
    invited = room.session_id
    page.goto(room.url)
    expect(page.get_by_text(re.compile("An AI answers, not a person"))).to_be_visible()
    expect(page.get_by_text(re.compile("written down and kept"))).to_be_visible()
    expect(page.locator("#name")).to_be_hidden()
    page.wait_for_function("performance.getEntriesByName('room-ready').length")
    assert room.after == [], "nothing is joined before the visitor says so"
    assert room.invited

    page.click("#talk")
    expect_connected(page)
    assert (room.session_id, room.names) == (invited, []), "it is the conversation of the program, and no other"
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    join()
    room.become("listening")
    expect(chip(page, "listening")).to_be_visible()
    page.reload()
    expect_connected(page)
    page.click("#leave")
    expect(page.locator("#summary")).to_be_visible()
    expect(page.locator("#keep")).to_be_visible()


@pytest.mark.soak
def test_whom_a_program_invites_may_type(page: Page, room: RoomServer) -> None:
    room.begin()
    room.invited = True
    invited = room.session_id
    page.goto(room.url)
    page.click("#type-instead")
    expect_connected(page)
    assert (room.session_id, room.names) == (invited, [])
    assert page.evaluate("asked") == 0
    page.click("#leave")
    expect(page.locator("#summary")).to_be_visible()
    expect(page.locator("#again")).to_be_hidden()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (409, "link_claimed", "already open in another browser"),
        pytest.param(410, "session_ended", "That conversation has ended", marks=pytest.mark.soak),
        pytest.param(404, "not_found", "There is nothing here", marks=pytest.mark.soak),
    ],
)
def test_whoever_comes_too_late_is_told_whom_to_ask(
    page: Page, room: RoomServer, status: int, code: str, words: str
) -> None:
    room.begin()
    room.invited = True
    page.goto(room.url)
    room.refusal = (status, code)
    page.click("#talk")
    expect(page.get_by_role("heading", name=re.compile(words))).to_be_visible()
    expect(page.locator("#blocked-text")).to_contain_text("ask", ignore_case=True)
    expect(page.locator("#talk")).to_be_hidden()


@pytest.mark.parametrize(
    "size", [(390, 844), *(pytest.param(size, marks=pytest.mark.soak) for size in ((768, 1024), (1440, 900)))]
)
def test_it_says_so_beside_the_button_also_where_the_check_has_opened_itself(
    launch: Launch, room: RoomServer, size: tuple[int, int]
) -> None:
    page = launch(["--deny-permission-prompts"])
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(room.url)
    expect(page.locator("#check")).to_have_attribute("open", "")
    for words in ("An AI answers, not a person", "written down and kept", "Typing needs no microphone"):
        expect(page.get_by_text(re.compile(words))).to_be_in_viewport()
    expect(page.locator("#type-instead")).to_be_in_viewport()


# -- without a microphone ---------------------------------------------------------------------------------------------
def test_a_visitor_types_without_being_asked_for_a_microphone(
    page: Page, room: RoomServer, media: MediaServer, join: Join
) -> None:
    page.goto(room.url)
    page.fill("#name", "Anna")
    page.click("#type-instead")
    expect_connected(page)
    assert room.names == ["Anna"]
    agent = join()
    room.become("listening")
    expect(page.locator("#say-text")).to_be_focused()
    page.keyboard.type("Is the pool open?")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('li.segment.pending')")
    room.final("user", "Is the pool open?")
    room.final("agent", "It is.")
    expect(page.locator("li.segment.final")).to_have_count(2)
    expect(page.locator(".notice")).to_have_count(0)
    expect(page.locator("#speaker audio")).to_have_count(1)
    assert page.evaluate("document.querySelector('#speaker audio').paused") is False, "the agent is heard"
    assert page.evaluate("asked") == 0
    assert agent.heard_samples == 0
    expect(page.locator("#mute")).to_have_accessible_name("Mic off")

    page.reload()
    expect_connected(page)
    expect(page.locator("li.segment.final")).to_have_count(2)
    assert page.evaluate("asked") == 0, "a reload does not listen to somebody who types"
    expect(page.locator(".notice[data-key=mic]")).to_have_count(0)

    page.click("#mute")
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    media.wait_for_sending(room.room_name, "visitor")


def test_typing_works_where_a_microphone_is_refused_and_where_nothing_is_stored(
    launch: Launch, room: RoomServer
) -> None:
    page = launch(["--deny-permission-prompts"])
    page.add_init_script(NO_STORAGE)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(room.url)
    page.click("#type-instead")
    expect_connected(page)
    expect(page.locator(".notice")).to_have_count(0)
    page.click("#mute")
    expect(notice(page, "mic")).to_be_visible()
    notice(page, "mic").get_by_role("button", name="Continue by text").click()
    expect(page.locator(".notice")).to_have_count(0)
    assert problems == []


@pytest.mark.soak
def test_talking_again_goes_on_as_before(page: Page, room: RoomServer) -> None:
    page.goto(room.url)
    page.click("#type-instead")
    expect_connected(page)
    page.click("#leave")
    page.click("#again")
    expect_connected(page)
    assert page.evaluate("asked") == 0
    page.click("#mute")
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    page.click("#leave")
    page.click("#again")
    expect_connected(page)
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()


@pytest.mark.soak
def test_it_waits_for_no_answer_to_the_browsers_question_once_the_visitor_types(
    launch: Launch, room: RoomServer
) -> None:
    page = launch(["--use-fake-device-for-media-stream"])
    page.add_init_script("navigator.mediaDevices.getUserMedia = () => new Promise(() => {});")
    page.goto(room.url)
    page.click("#talk")
    notice(page, "mic-ask").get_by_role("button", name="Continue by text").click()
    expect_connected(page)
    expect(page.locator(".notice")).to_have_count(0)
