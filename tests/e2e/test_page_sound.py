"""Microphone, speaker, captions and figures on the room page: chosen before or during a talk, and remembered."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from sessions import events
from tests.e2e.conftest import Join, Launch
from tests.e2e.page_harness import RoomServer, chip, notice, talk

pytestmark = pytest.mark.slow

SETTINGS = "JSON.parse(localStorage.getItem('molts.settings') ?? '{}')"
MICROPHONE_IN_USE = """[...(molts.room?.localParticipant.trackPublications.values() ?? [])][0]
    ?.track?.mediaStreamTrack.getSettings().deviceId"""
QUIET, LOUD = 300, 1_500  # of 32,767; the browser's own test tone is far above


def second(select: Locator) -> str:
    """Choose the second entry; returns its value."""
    expect(select.locator("option").nth(1)).to_be_attached()
    value = str(select.locator("option").nth(1).get_attribute("value"))
    select.select_option(value)
    return value


def live(page: Page, room: RoomServer) -> None:
    talk(page, room)
    expect(page.locator("#mute[data-mic=on], #hold[data-mic=muted]").first).to_be_attached()


# -- before the conversation ------------------------------------------------------------------------------------------
def test_it_checks_microphone_and_speaker_and_remembers_the_choice(page: Page, room: RoomServer) -> None:
    page.goto(room.url)
    expect(page.locator("#check")).not_to_have_attribute("open", "")
    page.click("#check summary")
    expect(page.locator("#mic-hint")).to_have_text("Your microphone works.")
    page.click("#speaker-test")
    expect(page.locator("#speaker-hint")).to_contain_text("Did you hear three notes?")
    microphone = second(page.locator("#microphone"))
    speaker = second(page.locator("#speaker-choice"))
    page.reload()
    page.click("#check summary")
    expect(page.locator("#microphone")).to_have_value(microphone)
    expect(page.locator("#speaker-choice")).to_have_value(speaker)
    assert page.evaluate(SETTINGS)["microphone"] == microphone

    live(page, room)
    expect(page.locator("#check")).not_to_have_attribute("open", "")
    page.wait_for_function(f"() => {MICROPHONE_IN_USE} === '{microphone}'")


def test_it_lets_go_of_the_microphone_when_the_check_is_closed(page: Page, room: RoomServer) -> None:
    page.add_init_script("""
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      window.opened = [];
      navigator.mediaDevices.getUserMedia = async (wish) => {
        const stream = await ask(wish);
        window.opened.push(...stream.getTracks());
        return stream;
      };
    """)
    page.goto(room.url)
    page.click("#check summary")
    expect(page.locator("#mic-hint")).not_to_be_empty()
    page.click("#check summary")
    page.wait_for_function("() => opened.length > 0 && opened.every((track) => track.readyState === 'ended')")


@pytest.fixture
def undecided(launch: Launch) -> Page:
    """A browser that has never been asked about its microphone."""
    return launch(["--use-fake-device-for-media-stream"])


@pytest.mark.soak
def test_it_offers_the_check_to_who_was_never_asked_and_talk_still_takes_one_click(
    undecided: Page, room: RoomServer
) -> None:
    undecided.goto(room.url)
    expect(undecided.locator("#check")).to_have_attribute("open", "")
    expect(undecided.locator("#sound-allow")).to_be_visible()
    undecided.click("#talk")
    instead = undecided.get_by_role("button", name="Continue by text")
    instead.click()
    expect(undecided.locator("#room[data-phase=live]")).to_be_visible()


# -- during the conversation ------------------------------------------------------------------------------------------
@pytest.mark.soak
def test_it_changes_microphone_and_speaker_while_one_talks(page: Page, room: RoomServer, join: Join) -> None:
    live(page, room)
    agent = join()
    room.become("listening")
    before = page.wait_for_function(f"() => {MICROPHONE_IN_USE}").json_value()
    page.click("#settings-open")
    chosen = second(page.locator("#microphone"))
    assert chosen != before
    page.wait_for_function(f"() => {MICROPHONE_IN_USE} === '{chosen}'")
    speaker = second(page.locator("#speaker-choice"))
    page.wait_for_function(f"() => document.querySelector('#speaker audio').sinkId === '{speaker}'")
    page.get_by_role("button", name="Done").click()
    agent.heard_peak = 0
    page.wait_for_timeout(2_000)
    assert agent.heard_peak > LOUD
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()


def test_it_is_heard_only_while_the_button_or_the_space_bar_is_held(page: Page, room: RoomServer, join: Join) -> None:
    page.add_init_script("localStorage.setItem('molts.settings', JSON.stringify({ pushToTalk: true }))")
    live(page, room)
    agent = join()
    room.become("listening")
    hold = page.locator("#hold")
    expect(hold).to_have_accessible_name("Hold to talk")
    expect(page.locator("#mute")).to_be_hidden()

    def becomes(is_so: Callable[[int], bool]) -> bool:
        """Whether a whole round of the microphone's beeps sounds so; what is still under way may take its time."""
        for _ in range(15):
            agent.heard_peak = 0
            page.wait_for_timeout(2_200)
            if is_so(agent.heard_peak):
                return True
        return False

    assert becomes(lambda peak: peak < QUIET)
    hold.hover()
    page.mouse.down()
    expect(hold).to_have_accessible_name("Speak now")
    assert becomes(lambda peak: peak > LOUD)
    page.mouse.up()
    expect(hold).to_have_accessible_name("Hold to talk")
    assert becomes(lambda peak: peak < QUIET)

    page.evaluate("document.activeElement.blur()")
    page.keyboard.down(" ")
    expect(hold).to_have_attribute("data-mic", "on")
    page.keyboard.up(" ")
    expect(hold).to_have_attribute("data-mic", "muted")
    page.keyboard.down(" ")
    page.evaluate("dispatchEvent(new Event('blur'))")
    expect(hold).to_have_attribute("data-mic", "muted")
    page.keyboard.up(" ")

    page.click("#say-text")
    page.keyboard.type("a b")
    expect(page.locator("#say-text")).to_have_value("a b")
    expect(hold).to_have_attribute("data-mic", "muted")

    page.click("#settings-open")
    page.uncheck("#push-to-talk")
    page.keyboard.press("Escape")
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    assert becomes(lambda peak: peak > LOUD)


@pytest.mark.soak
def test_it_mixes_speech_and_typing_in_one_conversation(page: Page, room: RoomServer, join: Join) -> None:
    live(page, room)
    agent = join()
    room.become("listening")
    room.partial("user", "u1", "do you have")
    page.fill("#say-text", "a room with a view")
    page.press("#say-text", "Enter")
    page.wait_for_timeout(800)
    assert agent.chats == ["a room with a view"]
    room.final("user", "Do you have", "u1")
    room.final("user", "a room with a view")
    expect(page.locator("li.segment.final")).to_have_count(2)
    expect(page.locator("li.segment.pending")).to_have_count(0)
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()


# -- captions and figures ---------------------------------------------------------------------------------------------
@pytest.mark.soak
def test_it_shows_captions_large_and_small(page: Page, room: RoomServer, join: Join) -> None:
    live(page, room)
    join()
    room.become("speaking")
    captions = page.locator(".captions")
    expect(captions).to_be_hidden()
    page.click("#captions-toggle")
    room.partial("agent", "a1", "The pool opens")
    expect(captions).to_have_text("The pool opens")
    room.partial("agent", "a1", "The pool opens at eight")
    expect(captions).to_have_text("The pool opens at eight")
    size = "Number.parseFloat(getComputedStyle(document.querySelector('.captions')).fontSize)"
    small = page.evaluate(size)
    page.click("#captions-toggle")
    expect(page.locator("#captions-toggle")).to_have_accessible_name("Captions: large")
    assert page.evaluate(size) > small * 1.3
    room.final("agent", "The pool opens at eight.", "a1")
    expect(captions).to_have_text("The pool opens at eight.")
    expect(captions).to_have_text("")
    page.reload()
    expect(page.locator("#room[data-captions=large]")).to_be_visible()


def push_turn(room: RoomServer, turn: int, *, endpointing: int | None, stt: int | None, llm: int, tts: int) -> None:
    total = (endpointing or 0) + (stt or 0) + llm + tts
    room.push(
        events.TurnMetrics(
            turn=turn,
            endpointing_ms=endpointing,
            stt_ms=stt,
            llm_ms=llm,
            tts_ms=tts,
            avatar_ms=None,
            total_ms=total,
        )
    )


def test_it_shows_how_fast_each_answer_came(page: Page, room: RoomServer) -> None:
    live(page, room)
    page.click("#timing-toggle")
    expect(page.locator("#timing-empty")).to_be_visible()
    push_turn(room, 1, endpointing=300, stt=100, llm=500, tts=100)
    push_turn(room, 2, endpointing=None, stt=None, llm=400, tts=100)
    turns = page.locator("#timing-turns > li")
    expect(turns).to_have_count(2)
    expect(turns.first).to_contain_text("Turn 2")
    expect(turns.first).to_contain_text("0.50 s")
    expect(turns.first.locator(".turn-parts li")).to_have_text(["Thinking 0.40 s", "Finding the voice 0.10 s"])
    expect(turns.last.locator(".turn-parts li")).to_have_count(4)
    wide = [bar.bounding_box() for bar in turns.last.locator(".turn-bar span").all()]
    (thinking,) = [box for box in wide if box and box["width"] == max(b["width"] for b in wide if b)]
    whole = turns.last.locator(".turn-bar").bounding_box()
    assert whole
    assert thinking["width"] == pytest.approx(whole["width"] / 2, abs=4)
    page.click("#timing-toggle")
    expect(page.locator("#timing")).to_be_hidden()


# -- what a screen reader is told -------------------------------------------------------------------------------------
@pytest.fixture
def told(page: Page) -> list[str]:
    """Everything that the page's live regions have said."""
    said: list[str] = []
    page.expose_function("told", lambda text: said.append(text))
    page.add_init_script("""
      addEventListener("DOMContentLoaded", () => {
        new MutationObserver((changes) => {
          const regions = "[role=status], [role=alert], [aria-live=polite], [aria-live=assertive]";
          for (const { target, type, addedNodes } of changes) {
            const node = target instanceof Element ? target : target.parentElement;
            if (!node?.closest(regions)) continue;
            const news = type === "childList" ? [...addedNodes] : [target];
            for (const { textContent } of news) if (textContent) told(textContent);
          }
        }).observe(document.body, { subtree: true, childList: true, characterData: true });
      });
    """)
    return said


def until_told(page: Page, told: list[str], words: str) -> None:
    """However busy the machine is: until a screen reader was told so."""
    for _ in range(100):
        if any(words in text for text in told):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{words!r} was not told: {told}")


@pytest.mark.soak
def test_it_does_not_talk_over_the_agent(page: Page, room: RoomServer, join: Join, told: list[str]) -> None:
    live(page, room)
    join()
    room.become("listening")
    until_told(page, told, "Mira is listening.")
    told.clear()
    room.become("speaking")
    expect(chip(page, "speaking")).to_be_visible()
    room.partial("agent", "a1", "Good morning")
    room.final("agent", "Good morning to you.", "a1")
    room.notice("info", "recording", "It is kept for 30 days.")
    expect(notice(page, "recording")).to_be_visible()
    page.wait_for_timeout(400)
    assert told == [], "lines are heard, not read; news waits"
    room.become("listening")
    until_told(page, told, "This conversation is recorded. It is kept for 30 days.")
    assert told == ["This conversation is recorded. It is kept for 30 days."]
    told.clear()
    room.become("speaking")
    room.become("lost")
    room.notice("warning", "agent_lost", "The agent was lost.")
    until_told(page, told, "Mira dropped out")  # trouble does not wait
