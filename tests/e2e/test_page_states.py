"""The room page in Chromium, in the states that a healthy server hardly ever shows.

The server is the harness, which obeys the test; media server, agent, microphone and browser are real.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import ConsoleMessage, Dialog, Page, expect

from tests.e2e.conftest import Join, Launch
from tests.e2e.page_harness import MICROPHONE, MediaServer, RoomServer, chip, kept, lines, notice, talk

pytestmark = pytest.mark.slow

PRECONNECT_BUFFER = 6  # AudioTrackFeature.TF_PRECONNECT_BUFFER
# The browser's own rule cannot be tried here: Playwright's looking at a page counts as a visitor's touch.
SILENT_UNTIL_CLICKED = """
  let clicked = false;
  addEventListener("click", () => { clicked = true; }, true);
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () {
    return clicked ? play.call(this) : Promise.reject(new DOMException("touch the page first", "NotAllowedError"));
  };
"""


@pytest.mark.soak
def test_it_settles_partial_lines_into_final_ones(page: Page, room: RoomServer) -> None:
    talk(page, room)
    assert room.names == ["Anna"]
    room.become("listening")
    room.partial("user", "u1", "what time")
    partial = page.locator("li.segment.partial[data-segment-id=u1]")
    expect(partial.locator(".text")).to_have_text("what time")
    room.partial("user", "u1", "what time is")
    expect(partial.locator(".text")).to_have_text("what time is")
    room.final("user", "What time is breakfast?", "u1", start_ms=3_725_000, end_ms=3_726_000)
    settled = page.locator("li.segment.final[data-segment-id=u1][data-role=user][data-seq='1']")
    expect(settled.locator(".text")).to_have_text("What time is breakfast?")
    expect(settled.locator("time")).to_have_text("01:02:05")
    expect(page.locator("li.segment")).to_have_count(1)


def test_it_hands_the_first_words_to_an_agent_that_comes_late(page: Page, room: RoomServer, join: Join) -> None:
    talk(page, room)
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    page.wait_for_timeout(2_500)
    agent = join()
    room.become("listening")
    expect(chip(page, "listening")).to_be_visible()
    page.wait_for_timeout(3_000)
    (attributes, size), *others = agent.kept_speech
    assert not others
    assert set(attributes) == {"trackId", "sampleRate", "channels"}
    assert size > 4_000, "2.5 s of speech are more than this"
    assert PRECONNECT_BUFFER in agent.features[0]
    assert agent.heard_samples > 48_000


@pytest.mark.soak
def test_it_does_not_promise_kept_speech_to_the_next_agent(page: Page, room: RoomServer, join: Join) -> None:
    talk(page, room)
    first = join()
    page.wait_for_timeout(7_500)
    first.stop()
    second = join()
    page.wait_for_timeout(1_000)
    (features,) = second.features
    assert PRECONNECT_BUFFER not in features


def test_it_shows_the_agents_voice(page: Page, room: RoomServer, join: Join) -> None:
    talk(page, room)
    join()
    room.become("speaking")
    expect(page.locator("#face[data-sounding]")).to_be_visible()
    expect(chip(page, "speaking")).to_have_attribute("data-agent-state", "speaking")
    expect(page.locator("#speaker audio")).to_have_count(1)
    page.wait_for_function("document.querySelector('#speaker audio')?.paused === false")


@pytest.mark.soak
def test_it_sends_typed_text_by_chat_once_somebody_can_read_it(page: Page, room: RoomServer, join: Join) -> None:
    talk(page, room)
    page.fill("#say-text", "Is the pool open?")
    page.press("#say-text", "Enter")
    expect(page.locator("li.segment.pending .text")).to_have_text("Is the pool open?")
    agent = join()
    page.wait_for_timeout(500)
    assert agent.chats == []
    room.become("listening")
    page.wait_for_timeout(1_000)
    assert agent.chats == ["Is the pool open?"]
    room.final("user", "Is the pool open?")
    expect(page.locator("li.segment")).to_have_count(1)
    assert room.said == []


@pytest.mark.soak
def test_it_sends_typed_text_by_http_while_media_is_lost(launch: Launch, room: RoomServer) -> None:
    room.media_url = "ws://127.0.0.1:9"
    page = launch(MICROPHONE)
    page.goto(room.url)
    page.click("#talk")
    expect(page.locator("#room[data-media=reconnecting][data-socket=open]")).to_be_visible()
    room.become("listening")
    expect(notice(page, "media")).to_contain_text("Connection lost")
    page.fill("#say-text", "Can you read this?")
    page.press("#say-text", "Enter")
    page.wait_for_timeout(1_000)
    assert room.said == ["Can you read this?"]


@pytest.mark.parametrize(
    ("flags", "title"),
    [
        pytest.param(["--use-fake-ui-for-media-stream"], "No microphone found", marks=pytest.mark.soak),
        (["--use-fake-device-for-media-stream", "--deny-permission-prompts"], "Your microphone is blocked"),
    ],
    ids=["none", "denied"],
)
def test_it_goes_on_by_text_without_a_microphone(
    launch: Launch, room: RoomServer, join: Join, flags: list[str], title: str
) -> None:
    page = launch(flags)
    talk(page, room)
    agent = join()
    room.become("listening")
    expect(notice(page, "mic")).to_contain_text(title)
    notice(page, "mic").get_by_role("button", name="Continue by text").click()
    expect(notice(page, "mic")).to_have_count(0)
    page.fill("#say-text", "Hello")
    page.press("#say-text", "Enter")
    page.wait_for_timeout(800)
    assert agent.chats == ["Hello"]
    page.click("#mute")
    expect(notice(page, "mic")).to_contain_text(title)


def test_it_offers_to_enable_sound_when_the_browser_blocks_it(launch: Launch, room: RoomServer, join: Join) -> None:
    page = launch(["--use-fake-ui-for-media-stream"])
    page.add_init_script(SILENT_UNTIL_CLICKED)
    room.begin()
    join()
    page.goto(room.url)
    expect(notice(page, "sound")).to_contain_text("Sound is off")
    notice(page, "sound").get_by_role("button", name="Enable sound").click()
    expect(notice(page, "sound")).to_have_count(0)
    page.wait_for_function("document.querySelector('#speaker audio')?.paused === false")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("expired", "This link has expired"),
        pytest.param("revoked", "This link is no longer in use", marks=pytest.mark.soak),
    ],
)
def test_it_says_that_a_link_is_dead(page: Page, room: RoomServer, state: str, words: str) -> None:
    room.link_state = state
    page.goto(room.url)
    expect(page.get_by_role("heading", name=words)).to_be_visible()
    expect(page.locator("#talk")).to_be_hidden()
    expect(page.get_by_role("link", name="See who you can talk with")).to_have_attribute("href", "/")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        pytest.param(410, "link_expired", "This link has expired", marks=pytest.mark.soak),
        (429, "link_full", "Everyone is busy"),
        pytest.param(503, "unavailable", "Not ready yet", marks=pytest.mark.soak),
        pytest.param(410, "link_revoked", "This link is no longer in use", marks=pytest.mark.soak),
        pytest.param(404, "not_found", "There is nothing here", marks=pytest.mark.soak),
        pytest.param(429, "throttled", "One moment", marks=pytest.mark.soak),
        pytest.param(403, "csrf", "This page is out of date", marks=pytest.mark.soak),
    ],
)
def test_it_says_why_talk_was_refused(page: Page, room: RoomServer, status: int, code: str, words: str) -> None:
    room.refusal = (status, code)
    page.goto(room.url)
    page.click("#talk")
    expect(page.locator("main").get_by_text(words)).to_be_visible()
    expect(page.locator("#state")).to_be_hidden()
    assert page.evaluate("molts.room") is None


@pytest.mark.soak
def test_it_says_full_and_lets_the_visitor_try_again(page: Page, room: RoomServer) -> None:
    room.link_state, room.refusal = "full", (429, "link_full")
    page.goto(room.url)
    expect(notice(page, "start")).to_contain_text("Everyone is busy")
    expect(page.locator("#talk")).to_have_text("Try again")
    room.refusal = None
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#room[data-media=connected]")).to_be_visible()


@pytest.mark.soak
def test_it_says_late_and_lost_and_takes_it_back(page: Page, room: RoomServer, join: Join) -> None:
    talk(page, room)
    expect(chip(page, "waiting")).to_be_visible()
    room.notice("warning", "agent_late", "The agent is late.")
    expect(chip(page, "late")).to_be_visible()
    expect(notice(page, "agent_late")).to_contain_text("Mira is running late")
    join()
    room.become("listening")
    expect(chip(page, "listening")).to_be_visible()
    expect(page.locator(".notice")).to_have_count(0)
    room.become("lost")
    room.notice("warning", "agent_lost", "The agent was lost.")
    expect(chip(page, "lost")).to_have_attribute("data-agent-state", "lost")
    expect(page.locator(".notice")).to_have_count(1)
    room.notice("info", "agent_back", "Mira is back.")
    room.become("listening")
    expect(chip(page, "listening")).to_be_visible()
    expect(notice(page, "agent_back")).to_contain_text("Mira is back.")


def test_it_misses_nothing_while_the_websocket_is_cut(page: Page, room: RoomServer, join: Join) -> None:
    talk(page, room)
    join()
    room.become("listening")
    room.final("agent", "Hello.")
    room.partial("user", "u2", "I would like")
    expect(page.locator("li.segment")).to_have_count(2)
    room.accepting = False
    room.cut()
    for number in range(5):
        room.final("user" if number % 2 == 0 else "agent", f"Said in the dark {number}", f"dark-{number}")
    expect(chip(page, "reconnecting")).to_be_visible()
    expect(notice(page, "words")).to_contain_text("Transcript interrupted")
    expect(page.locator("#room")).to_have_attribute("data-media", "connected")
    room.accepting = True
    expect(page.locator("#room[data-socket=open]")).to_be_visible()
    expect(page.locator("li.segment.final")).to_have_count(6)
    expect(page.locator("li.segment.partial")).to_have_count(0)
    assert room.after[-1] == 1, "only what is newer than the last line is asked for"
    assert lines(page) == kept(room)


def test_it_comes_back_after_the_media_server_dropped_it(
    page: Page, room: RoomServer, media: MediaServer, join: Join
) -> None:
    talk(page, room)
    join()
    room.become("listening")
    media.remove(room.room_name, "visitor")
    expect(page.locator("#room[data-media=reconnecting]")).to_be_visible()
    room.final("agent", "Words go on meanwhile.")
    expect(page.locator("li.segment.final")).to_have_count(1)
    expect(page.locator("#room[data-media=connected]")).to_be_visible()
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    media.wait_for_sending(room.room_name, "visitor")
    expect(page.locator("#speaker audio")).to_have_count(1)


def test_it_lets_one_tab_take_over_from_another(page: Page, room: RoomServer, join: Join) -> None:
    talk(page, room)
    join()
    room.become("listening")
    other = page.context.new_page()
    other.goto(room.url)
    expect(other.locator("#room[data-media=connected]")).to_be_visible()
    expect(notice(page, "elsewhere")).to_contain_text("Open in another tab")
    notice(page, "elsewhere").get_by_role("button", name="Continue here").click()
    expect(page.locator("#room[data-media=connected]")).to_be_visible()
    expect(notice(other, "elsewhere")).to_be_visible()


@pytest.mark.soak
def test_it_resumes_after_a_reload(page: Page, room: RoomServer, join: Join) -> None:
    talk(page, room)
    agent = join()
    room.become("listening")
    room.final("agent", "Hello.")
    room.final("user", "Hi.")
    expect(page.locator("li.segment.final")).to_have_count(2)
    page.reload()
    expect(page.locator("#room[data-media=connected][data-socket=open]")).to_be_visible()
    expect(page.locator("li.segment.final")).to_have_count(2)
    assert lines(page) == kept(room)
    expect(chip(page, "listening")).to_be_visible()
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    before = agent.heard_samples
    page.wait_for_timeout(1_500)
    assert agent.heard_samples > before


def test_it_mutes(page: Page, room: RoomServer, media: MediaServer, join: Join) -> None:
    talk(page, room)
    join()
    room.become("listening")
    expect(page.locator("#mute")).to_have_accessible_name("Mute")
    page.click("#mute")
    expect(page.locator("#mute[aria-pressed=true]")).to_have_accessible_name("Unmute")
    media.wait_for_silence(room.room_name, "visitor")
    page.click("#mute")
    expect(page.locator("#mute[aria-pressed=false]")).to_be_visible()
    media.wait_for_sending(room.room_name, "visitor")


@pytest.mark.soak
def test_it_sums_up_offers_downloads_and_talks_again(page: Page, room: RoomServer, join: Join) -> None:
    talk(page, room)
    join()
    room.become("listening")
    room.final("agent", "Hello.")
    expect(page.locator("li.segment.final")).to_have_count(1)
    page.click("#leave")
    expect(page.get_by_role("heading", name="Thank you for talking")).to_be_visible()
    expect(page.locator("#summary-text")).to_contain_text("1 line")
    assert room.reason == "ended_by_user"
    for kind in ("txt", "vtt", "json"):
        href = str(page.locator(f"#download-{kind}").get_attribute("href"))
        assert href.endswith(f"/sessions/{room.session_id}/transcript?format={kind}")
        assert page.request.get(f"http://127.0.0.1:{room.port}{href}").text() == "Hello."
    assert page.evaluate("molts.room") is None
    page.click("#again")
    expect(page.locator("#room[data-phase=live]")).to_be_visible()
    expect(page.locator("li.segment")).to_have_count(0)


@pytest.mark.soak
def test_it_says_why_the_conversation_ended(page: Page, room: RoomServer) -> None:
    talk(page, room)
    room.end("no_agent")
    expect(page.locator("#summary-text")).to_contain_text("Mira could not join")
    expect(chip(page, "ended")).to_have_attribute("data-session-state", "ended")


@pytest.mark.soak
def test_it_erases_only_after_asking(page: Page, room: RoomServer) -> None:
    talk(page, room)
    room.final("user", "My secret.")
    expect(page.locator("li.segment.final")).to_have_count(1)
    page.click("#leave")
    page.click("#erase")
    page.get_by_role("button", name="Keep it").click()
    assert not room.erased
    page.click("#erase")
    page.click("#erase-confirm")
    expect(page.get_by_role("heading", name="Nothing is kept")).to_be_visible()
    assert room.erased
    assert "My secret." not in page.content()


def test_it_shows_words_as_text_and_never_as_markup(page: Page, room: RoomServer) -> None:
    problems: list[str] = []

    def note_dialog(dialog: Dialog) -> None:
        problems.append(dialog.message)
        dialog.dismiss()

    def note_error(message: ConsoleMessage) -> None:
        if message.type == "error":
            problems.append(message.text)

    page.on("dialog", note_dialog)
    page.on("console", note_error)
    nasty = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'&amp;"
    room.agent |= {"name": nasty, "description": nasty}
    talk(page, room, name=nasty)
    room.partial("user", "u1", nasty)
    expect(page.locator("li.segment.partial .text")).to_have_text(nasty)
    room.final("agent", nasty)
    room.notice("info", "recording", nasty)
    expect(page.locator("li.segment.final .text")).to_have_text(nasty)
    expect(notice(page, "recording")).to_contain_text(nasty)
    assert problems == []


@pytest.mark.soak
@pytest.mark.parametrize("width", [320, 390, 768, 1440])
def test_it_fits_every_screen(page: Page, room: RoomServer, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 720})
    talk(page, room)
    room.become("listening")
    room.final("agent", "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichenverleihung " * 3)
    room.final("user", "short")
    room.notice("warning", "stt_fallback", "Speech recognition runs on its simplest means now, so it may mishear.")
    for selector in ("#say-text", "#mute", "#leave", "#transcript li:last-child"):
        expect(page.locator(selector)).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click("#leave")
    expect(page.locator("#again")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_says_before_talk_that_an_ai_answers_and_that_words_are_kept(page: Page, room: RoomServer) -> None:
    page.goto(room.url)
    expect(page.get_by_text(re.compile("An AI answers, not a person"))).to_be_visible()
    expect(page.get_by_text(re.compile("written down and kept"))).to_be_visible()
    expect(page.get_by_role("button", name="Talk")).to_be_enabled()
