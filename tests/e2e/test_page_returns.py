"""Nothing that happens to a visitor's machine ends in a dead page: the talk goes on, or the page says how it can."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Join, Launch
from tests.e2e.page_harness import MediaServer, RoomServer, ToneAgent, chip, notice, talk
from tests.e2e.proxy import Proxy

pytestmark = pytest.mark.slow

# What the browser does when a microphone is pulled out: the track ends, then the list of devices changes.
UNPLUG = """(() => {
  const track = [...molts.room.localParticipant.trackPublications.values()][0].track.mediaStreamTrack;
  track.stop();
  track.dispatchEvent(new Event("ended"));
  navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
})()"""
NONE_LEFT = """
  navigator.mediaDevices.openAsBefore = navigator.mediaDevices.getUserMedia;
  navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("none", "NotFoundError"); };
  null;
"""
PLUGGED_IN = """
  navigator.mediaDevices.getUserMedia = navigator.mediaDevices.openAsBefore;
  navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
"""


def live(page: Page, room: RoomServer) -> None:
    talk(page, room)
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()


# -- the microphone ---------------------------------------------------------------------------------------------------
@pytest.mark.soak
def test_it_goes_on_with_another_microphone_when_one_is_unplugged(page: Page, room: RoomServer, join: Join) -> None:
    live(page, room)
    agent = join()
    room.become("listening")
    unplug(page)
    expect(notice(page, "mic_moved")).to_contain_text("Your microphone went away")
    expect(notice(page, "mic_moved")).to_contain_text("is used now.")
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    page.wait_for_timeout(500)
    agent.heard_peak = 0
    page.wait_for_timeout(2_000)
    assert agent.heard_peak > 1_500
    notice(page, "mic_moved").get_by_role("button", name="Change").click()
    expect(page.locator("#settings")).to_be_visible()


def unplug(page: Page) -> None:
    """Ends the microphone's track as the system does, once there is one."""
    page.wait_for_function("[...molts.room.localParticipant.trackPublications.values()][0]?.track != null")
    page.evaluate(UNPLUG)


def test_it_takes_the_microphone_that_is_plugged_in_again(
    page: Page, room: RoomServer, media: MediaServer, join: Join
) -> None:
    live(page, room)
    join()
    room.become("listening")
    page.evaluate(NONE_LEFT)
    unplug(page)
    expect(notice(page, "mic")).to_contain_text("No microphone found")
    expect(page.locator("#mute")).to_have_attribute("data-mic", "missing")
    page.evaluate(PLUGGED_IN)
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    expect(notice(page, "mic")).to_have_count(0)
    media.wait_for_sending(room.room_name, "visitor")


@pytest.mark.soak
def test_it_stays_with_text_when_the_visitor_has_settled_for_it(page: Page, room: RoomServer, join: Join) -> None:
    live(page, room)
    join()
    room.become("listening")
    page.evaluate(NONE_LEFT)
    unplug(page)
    notice(page, "mic").get_by_role("button", name="Continue by text").click()
    page.evaluate(PLUGGED_IN)
    page.wait_for_timeout(1_000)
    expect(page.locator("#mute")).to_have_attribute("data-mic", "missing")


@pytest.mark.soak
@pytest.mark.parametrize(
    "settled", [pytest.param(False, id="waiting"), pytest.param(True, id="settled for text", marks=pytest.mark.soak)]
)
def test_it_offers_the_microphone_once_it_is_allowed(
    launch: Launch, room: RoomServer, join: Join, settled: bool
) -> None:
    page = launch(["--use-fake-device-for-media-stream", "--deny-permission-prompts"])
    page.goto(room.url)
    expect(page.locator("#check")).to_have_attribute("open", "")
    page.click("#talk")
    agent = join_when_live(page, join)
    room.become("listening")
    expect(notice(page, "mic")).to_contain_text("Your microphone is blocked")
    if settled:
        notice(page, "mic").get_by_role("button", name="Continue by text").click()
    page.context.grant_permissions(["microphone"])
    if settled:
        notice(page, "mic").get_by_role("button", name="Turn on").click()
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    expect(notice(page, "mic")).to_have_count(0)
    page.wait_for_timeout(2_000)
    assert agent.heard_peak > 1_500


def join_when_live(page: Page, join: Join) -> ToneAgent:
    expect(page.locator("#room[data-media=connected][data-socket=open]")).to_be_visible()
    return join()


# -- the page ---------------------------------------------------------------------------------------------------------
@pytest.mark.soak
def test_it_gives_the_microphone_back_to_the_tab_that_takes_the_talk_back(
    page: Page, room: RoomServer, media: MediaServer, join: Join
) -> None:
    live(page, room)
    join()
    room.become("listening")
    other = page.context.new_page()
    other.goto(room.url)
    expect(other.locator("#room[data-media=connected]")).to_be_visible()
    expect(notice(page, "elsewhere")).to_contain_text("Open in another tab")
    room.final("agent", "Said while elsewhere.")
    expect(page.locator("li.segment.final")).to_have_count(1)
    notice(page, "elsewhere").get_by_role("button", name="Continue here").click()
    expect(page.locator("#room[data-media=connected]")).to_be_visible()
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    expect(notice(page, "elsewhere")).to_have_count(0)
    media.wait_for_sending(room.room_name, "visitor")
    expect(notice(other, "elsewhere")).to_be_visible()


def freeze(page: Page, milliseconds: int) -> None:
    """As a laptop that sleeps: no timer and no message reaches the page."""
    session = page.context.new_cdp_session(page)
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    page.context.pages[-1].wait_for_timeout(milliseconds)


def wake(page: Page) -> None:
    page.context.new_cdp_session(page).send("Page.setWebLifecycleState", {"state": "active"})


def test_it_catches_up_after_a_short_sleep(page: Page, room: RoomServer, join: Join) -> None:
    live(page, room)
    join()
    room.become("listening")
    room.final("agent", "Before.")
    expect(page.locator("li.segment.final")).to_have_count(1)
    watcher = page.context.new_page()
    freeze(page, 1_000)
    room.final("agent", "While asleep.")
    room.cut()
    watcher.wait_for_timeout(6_000)
    wake(page)
    page.bring_to_front()
    expect(page.locator("#room[data-media=connected][data-socket=open]")).to_be_visible()
    expect(page.locator("li.segment.final")).to_have_count(2)
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    expect(page.locator(".notice")).to_have_count(0)


def test_it_says_that_a_long_sleep_ended_the_talk_and_how_to_go_on(page: Page, room: RoomServer, join: Join) -> None:
    live(page, room)
    join()
    room.become("listening")
    room.final("agent", "Before.")
    expect(page.locator("li.segment.final")).to_have_count(1)
    watcher = page.context.new_page()
    freeze(page, 1_000)
    room.end("visitor_left")
    watcher.wait_for_timeout(3_000)
    wake(page)
    page.bring_to_front()
    expect(page.locator("#summary-text")).to_contain_text("Your connection was away for too long")
    expect(page.locator("li.segment.final")).to_have_count(1)
    page.get_by_role("button", name="Talk again").click()
    expect(page.locator("#room[data-media=connected][data-socket=open]")).to_be_visible()
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()


# -- the network ------------------------------------------------------------------------------------------------------
@pytest.fixture
def roads(room: RoomServer, media: MediaServer) -> Iterator[tuple[Proxy, Proxy]]:
    """The ways from the page to the web server and to the media server's signalling."""
    web, signal = Proxy(room.port), Proxy(media.port)
    yield web, signal
    web.close()
    signal.close()


@pytest.mark.soak
def test_it_goes_on_after_a_change_of_networks(
    page: Page, room: RoomServer, media: MediaServer, join: Join, roads: tuple[Proxy, Proxy]
) -> None:
    web, signal = roads
    room.media_url = f"ws://127.0.0.1:{signal.port}"
    page.goto(room.url.replace(str(room.port), str(web.port)))
    page.click("#talk")
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    agent = join_when_live(page, join)
    room.become("listening")
    room.final("agent", "Before.")
    expect(page.locator("li.segment.final")).to_have_count(1)
    # The old address is gone: every connection breaks, and none can be made until the new network is there.
    page.context.set_offline(True)
    web.cut()
    signal.cut()
    room.final("agent", "On the way.")
    expect(chip(page, "reconnecting")).to_be_visible()
    page.wait_for_timeout(3_000)
    web.fix()
    signal.fix()
    page.context.set_offline(False)
    expect(page.locator("#room[data-media=connected][data-socket=open]")).to_be_visible(timeout=20_000)
    expect(page.locator("li.segment.final")).to_have_count(2)
    expect(page.locator("#mute[data-mic=on]")).to_be_visible()
    media.wait_for_sending(room.room_name, "visitor")
    page.wait_for_timeout(500)
    agent.heard_peak = 0
    page.wait_for_timeout(2_000)
    assert agent.heard_peak > 1_500
    expect(page.locator(".notice")).to_have_count(0)
