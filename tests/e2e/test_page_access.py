"""The room page for everybody: by keyboard alone, for screen readers, on every screen, in both directions."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from playwright.sync_api import FloatRect, Locator, Page, expect

from sessions import events
from tests.axe import violations
from tests.e2e.conftest import Join, Launch
from tests.e2e.page_harness import RoomServer, chip, notice, talk

pytestmark = pytest.mark.slow

TURNED = """new MutationObserver(() => { if (document.documentElement) document.documentElement.dir = "rtl"; })
  .observe(document, { childList: true, subtree: true })"""


def rarely(*cases: tuple[Any, ...]) -> list[Any]:
    """Sizes that differ from others by degree: `make soak` looks at them."""
    return [pytest.param(*case, marks=pytest.mark.soak) for case in cases]


def live(page: Page, room: RoomServer) -> None:
    talk(page, room)
    room.become("listening")
    room.final("agent", "Hello, this is Mira. How can I help you?")
    room.final("user", "Is there a room free this weekend, and does it look out to the sea?")
    room.push(
        events.TurnMetrics(
            turn=1, endpointing_ms=310, stt_ms=140, llm_ms=420, tts_ms=180, avatar_ms=None, total_ms=1_050
        )
    )
    expect(page.locator("li.segment.final")).to_have_count(2)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.soak)])
def test_axe_finds_nothing_wrong_in_any_state(
    page: Page, room: RoomServer, join: Join, scheme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(room.url)
    assert violations(page) == [], "lobby"
    page.click("#check summary")
    expect(page.locator("#mic-hint")).not_to_be_empty()
    assert violations(page) == [], "check"
    live(page, room)
    join()
    assert violations(page) == [], "talk"
    room.become("speaking")
    room.partial("agent", "a9", "I have put your name down for the blue room")
    room.notice("warning", "stt_fallback", "Speech recognition changed.")
    room.notice("info", "recording", "It is kept for 30 days.")
    page.click("#captions-toggle")
    page.click("#timing-toggle")
    expect(page.locator(".turn-parts li").first).to_be_visible()
    assert violations(page) == [], "captions, timing and notices"
    page.set_viewport_size({"width": 390, "height": 844})
    assert violations(page) == [], "the same on a phone"
    page.click("#settings-open")
    assert violations(page) == [], "sound and captions"
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    assert violations(page) == [], "keys"
    page.keyboard.press("Escape")
    page.click("#leave")
    expect(page.locator("#summary")).to_be_visible()
    assert violations(page) == [], "end"
    page.click("#erase")
    assert violations(page) == [], "erase"


def test_the_whole_conversation_works_by_keyboard(page: Page, room: RoomServer, join: Join) -> None:
    press = page.keyboard.press
    page.goto(room.url)
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.id") != "name":
        press("Tab")
    page.keyboard.type("Anna")
    press("Enter")
    expect(page.locator("#room[data-media=connected][data-socket=open]")).to_be_visible()
    agent = join()
    room.become("listening")
    expect(page.locator("#say-text")).to_be_focused()
    page.keyboard.type("mcts?")
    press("Enter")
    page.wait_for_timeout(800)
    assert agent.chats == ["mcts?"], "letters are words while one types"
    press("Escape")
    press("m")
    expect(page.locator("#mute[data-mic=muted]")).to_be_visible()
    press("m")
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    press("c")
    expect(page.locator("#room[data-captions=small]")).to_be_visible()
    press("t")
    expect(page.locator("#timing")).to_be_visible()
    press("t")
    expect(page.locator("#timing")).to_be_hidden()
    press("s")
    expect(page.locator("#settings")).to_be_visible()
    press("m")
    expect(page.locator("#mute[data-mic=on]")).to_be_attached()
    press("Escape")
    expect(page.locator("#settings")).to_be_hidden()
    press("?")
    expect(page.locator("#help")).to_contain_text("Mute or unmute")
    press("Escape")
    press("/")
    expect(page.locator("#say-text")).to_be_focused()
    expect(page.locator("#say-text")).to_have_value("")
    press("Escape")
    press("l")
    expect(page.locator("#room[data-phase=live]")).to_be_visible()
    press("Shift+L")
    expect(page.locator("#summary-title")).to_be_focused()
    press("Tab")
    expect(page.locator("#again")).to_be_focused()
    press("Enter")
    expect(page.locator("#room[data-phase=live]")).to_be_visible()


@pytest.mark.soak
def test_the_keys_can_be_switched_off(page: Page, room: RoomServer) -> None:
    live(page, room)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    page.uncheck("#shortcuts")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("c")
    page.keyboard.press("t")
    expect(page.locator("#timing")).to_be_hidden()
    expect(page.locator("#room[data-captions=off]")).to_be_visible()


def box(locator: Locator) -> FloatRect:
    found = locator.bounding_box()
    assert found
    return found


def overlap(one: FloatRect, other: FloatRect) -> bool:
    return (
        one["x"] < other["x"] + other["width"] - 1
        and other["x"] < one["x"] + one["width"] - 1
        and one["y"] < other["y"] + other["height"] - 1
        and other["y"] < one["y"] + one["height"] - 1
    )


@pytest.mark.soak
@pytest.mark.parametrize(("width", "height"), [(390, 844), (768, 1024), (1440, 900)])
def test_the_face_stays_where_it_is_when_something_is_to_be_said(
    page: Page, room: RoomServer, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    live(page, room)
    tile = page.locator(".tile")
    before = box(tile)
    room.notice("warning", "stt_fallback", "Speech recognition runs on its simplest means now, so it may mishear.")
    room.notice("info", "recording", "It is kept for 30 days.")
    expect(notice(page, "recording")).to_be_attached()
    assert box(tile) == before
    assert not overlap(box(tile), box(page.locator("#notice-area")))
    face, word = box(tile), box(page.locator("#state"))
    assert word["y"] > face["y"] + face["height"] * 0.7, "the word on the state leaves the face free"
    expect(page.locator("li.segment").last).to_be_in_viewport()


@pytest.mark.parametrize(("width", "height", "share"), [(320, 568, 0.18), *rarely((390, 664, 0.28), (390, 844, 0.35))])
def test_a_phone_gives_the_face_what_words_and_controls_leave(
    page: Page, room: RoomServer, width: int, height: int, share: float
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    live(page, room)
    assert box(page.locator(".tile"))["height"] > share * height
    assert box(page.locator("#scroller"))["height"] > 90, "several lines can be read"
    for name in ("#say-form", "#leave"):
        expect(page.locator(name)).to_be_in_viewport(ratio=0.99)

    room.notice("warning", "offline_recogniser", "")
    expect(notice(page, "offline_recogniser")).to_be_visible()
    assert not overlap(box(page.locator("#who")), box(page.locator("#notice-area")))
    expect(notice(page, "offline_recogniser").get_by_role("button", name="OK")).to_be_in_viewport(ratio=0.99)
    expect(page.locator("#say-form")).to_be_in_viewport(ratio=0.99)
    expect(page.locator("li.segment").last).to_be_in_viewport()


PHONES = [(320, 568), (360, 640), (375, 667), (390, 664), (390, 844), (412, 732), (667, 375), (844, 390), (932, 430)]
HIT = """(button) => {
  const { x, y, width, height } = button.getBoundingClientRect();
  return button.contains(document.elementFromPoint(x + width / 2, y + height / 2));
}"""


@pytest.mark.soak
def test_nothing_stands_before_the_controls_on_a_phone(launch: Launch, room: RoomServer) -> None:
    page = launch(["--use-fake-device-for-media-stream", "--deny-permission-prompts"])
    live(page, room)
    room.partial(
        "agent", "a9", "I have put your name down for the blue room, which looks out to the harbour and the sea"
    )
    expect(notice(page, "mic")).to_be_visible()
    expect(page.locator("#announcer, #alarm").get_by_text("Your microphone is blocked")).to_be_attached()
    covered = []
    for noticed in (True, False):
        if not noticed:
            notice(page, "mic").get_by_role("button", name="Continue by text").click()
            expect(notice(page, "mic")).to_have_count(0)
        for captions in ("small", "large", "off"):
            page.evaluate("document.getElementById('captions-toggle').click()")
            expect(page.locator(f"#room[data-captions={captions}]")).to_be_visible()
            for width, height in PHONES:
                page.set_viewport_size({"width": width, "height": height})
                for name in ("leave", "mute", "say"):
                    if not page.locator(f"#{name}").evaluate(HIT):
                        covered.append(f"{name} at {width}x{height}, captions {captions}, notice {noticed}")
    assert covered == []


@pytest.mark.parametrize(
    ("width", "height", "direction"),
    [
        (320, 568, "ltr"),
        (1440, 900, "rtl"),
        *rarely((320, 568, "rtl"), (844, 390, "rtl"), (844, 390, "ltr"), (1440, 900, "ltr")),
        *rarely(*((width, height, way) for width, height in ((390, 844), (768, 1024)) for way in ("ltr", "rtl"))),
    ],
)
def test_nothing_is_cut_or_covered(page: Page, room: RoomServer, width: int, height: int, direction: str) -> None:
    page.set_viewport_size({"width": width, "height": height})
    if direction == "rtl":
        page.add_init_script(TURNED)
    page.goto(room.url)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits)
    page.click("#check summary")
    expect(page.locator("#mic-hint")).not_to_be_empty()
    assert page.evaluate(fits)
    live(page, room)
    page.click("#captions-toggle")
    room.partial("agent", "a9", "I have put your name down for the blue room, which looks out to the harbour")
    expect(page.locator("#caption-text")).not_to_be_empty()
    assert page.evaluate(fits)
    parts = [page.locator(name) for name in ("#mute", "#captions-toggle", "#settings-open", "#leave", "#say-form")]
    for part in parts:
        expect(part).to_be_in_viewport(ratio=0.99)
    for index, part in enumerate(parts):
        for other in parts[index + 1 :]:
            assert not overlap(box(part), box(other))
    if height > 560:
        assert not overlap(box(page.locator(".captions")), box(page.locator("#conversation")))
        assert not overlap(box(page.locator(".captions")), box(page.locator("#state")))
    if direction == "rtl" and width >= 900:
        assert box(page.locator("#conversation"))["x"] < box(page.locator(".tile"))["x"]
    page.click("#settings-open")
    expect(page.locator("#settings")).to_be_in_viewport(ratio=0.99)
    assert page.evaluate(fits)
    page.get_by_role("button", name="Done").click()
    page.click("#leave")
    expect(page.locator("#again")).to_be_in_viewport()
    assert page.evaluate(fits)


@pytest.mark.soak
def test_it_speaks_the_language_of_its_catalog(page: Page, room: RoomServer) -> None:
    room.catalog = {"Listening": "Hört zu", "Mute": "Stumm", "{name} is late": "{name} verspätet sich"}
    live(page, room)
    expect(chip(page, "listening")).to_have_text("Hört zu")
    expect(page.locator("#mute-label")).to_have_text("Stumm")
    room.become("initializing")
    room.notice("warning", "agent_late", "late")
    expect(chip(page, "late")).to_have_text("Mira verspätet sich")
    expect(page.locator("#summary-title")).to_be_hidden()
