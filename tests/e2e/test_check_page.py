"""The check of the visitor's side in Chromium: where all is well, and where one thing is in the way."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Playwright, expect

from tests.axe import violations_in
from tests.e2e.conftest import running
from tests.e2e.stack import ROOT, Molts, send, wait_for

pytestmark = pytest.mark.slow

FLAGS = ("--no-sandbox", "--disable-background-networking", "--mute-audio", "--use-fake-device-for-media-stream")
ALLOWED = "--use-fake-ui-for-media-stream"  # says yes when the page asks for the microphone
NO_UDP = "--webrtc-ip-handling-policy=disable_non_proxied_udp"  # as behind a firewall that lets only TCP out
DONE_MS = 40_000

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def beyond(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Molts]:
    """A copy that listens beyond this machine, so that media has a TCP port too; the check asks nobody who talks."""
    copy = Molts(
        tmp_path_factory.mktemp("beyond"), "--without", "agent,avatar,jobs,clock", env={"MOLTS_HOST": "0.0.0.0"}
    )
    yield from running(copy, r"^molts runs without ")


@pytest.fixture
def open_check(playwright: Playwright) -> Iterator[Open]:
    """The check page of a copy, run to its end, in a browser of its own."""
    browsers: list[Browser] = []

    def open_check(molts: Molts, *flags: str, locale: str = "en", run: bool = True) -> Page:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, *flags])
        browsers.append(browser)
        context = browser.new_context(locale=locale, viewport={"width": 390, "height": 844}, reduced_motion="reduce")
        page = context.new_page()
        page.goto(f"{molts.url}/check")
        if run:
            page.click("#start")
            expect(page.locator("#start")).to_be_enabled(timeout=DONE_MS)
        return page

    yield open_check
    for browser in browsers:
        browser.close()


def row(page: Page, name: str) -> Locator:
    return page.locator(f"[data-check={name}]")


def statuses(page: Page) -> dict[str, str]:
    found: dict[str, str] = page.evaluate(
        """() => Object.fromEntries(
            [...document.querySelectorAll('[data-check]')].map((row) => [row.dataset.check, row.dataset.status]))"""
    )
    return found


def test_where_all_is_well_every_row_says_so(molts: Molts, open_check: Open) -> None:
    page = open_check(molts, ALLOWED)

    assert statuses(page) == {
        "secure": "ok",
        "microphone": "ok",
        "speaker": "ok",
        "server": "ok",
        "signalling": "ok",
        "udp": "ok",
        "tcp": "skipped",
        "turn": "skipped",
    }
    expect(page.locator("#verdict")).to_have_text("You can talk from here.")
    expect(row(page, "tcp")).to_contain_text("only this machine may connect")
    expect(row(page, "turn")).to_contain_text("not needed from here")
    assert page.locator(".fix").count() == 0
    assert [violations_in(page, scheme) for scheme in ("light", "dark")] == [[], []]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_its_room_is_gone_soon_after(molts: Molts, open_check: Open) -> None:
    page = open_check(molts, ALLOWED)
    expect(page.locator("#verdict")).to_have_attribute("data-outcome", "talk")
    page.goto("about:blank")
    wait_for("its end", lambda: not any(".check." in name for name in molts.rooms()), seconds=60)


@pytest.mark.soak
def test_the_result_is_copied_as_plain_english(molts: Molts, open_check: Open) -> None:
    page = open_check(molts, ALLOWED, locale="de")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])

    page.click("#copy")

    expect(page.locator("#copied")).to_contain_text("Kopiert")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text.startswith("molts check, 2")
    assert "outcome: talk" in text
    assert re.search(r"^udp: ok \(udp 127\.0\.0\.1:\d+, \d+ ms\)$", text, re.MULTILINE)
    assert "eyJ" not in text, "the token"


@pytest.mark.soak
def test_a_microphone_that_is_denied_has_its_fix_and_leaves_typing(molts: Molts, open_check: Open) -> None:
    page = open_check(molts)

    expect(page.locator("#verdict")).to_have_attribute("data-outcome", "type")
    expect(row(page, "microphone")).to_have_attribute("data-status", "failed")
    expect(row(page, "microphone")).to_contain_text("What you can do: Click the icon beside the address")
    assert statuses(page)["udp"] == "ok"
    assert violations_in(page, "light") == []


def test_blocked_udp_on_a_machine_without_tcp_names_the_port_to_open(molts: Molts, open_check: Open) -> None:
    page = open_check(molts, ALLOWED, NO_UDP)

    expect(page.locator("#verdict")).to_have_attribute("data-outcome", "blocked")
    udp = row(page, "udp")
    expect(udp).to_have_attribute("data-status", "failed")
    expect(udp).to_contain_text("For whoever runs this site: Open UDP port")
    expect(udp).to_contain_text(molts.setting("MOLTS_MEDIA_UDP_PORT"))
    assert [violations_in(page, scheme) for scheme in ("light", "dark")] == [[], []]


def test_where_udp_is_blocked_tcp_carries_the_voice(beyond: Molts, open_check: Open) -> None:
    assert statuses(open_check(beyond, ALLOWED))["tcp"] == "ok"

    page = open_check(beyond, ALLOWED, NO_UDP)

    found = statuses(page)
    assert (found["udp"], found["tcp"], found["turn"]) == ("failed", "ok", "skipped")
    expect(page.locator("#verdict")).to_have_attribute("data-outcome", "talk")


def test_a_media_server_that_stands_still_is_the_operators_to_mend(beyond: Molts, open_check: Open) -> None:
    page = open_check(beyond, ALLOWED, locale="de", run=False)
    media = [process for process in beyond.processes() if "livekit-server" in process.name()]
    assert media
    send(media, signal.SIGSTOP)
    try:
        page.click("#start")
        expect(page.locator("#start")).to_be_enabled(timeout=DONE_MS)
    finally:
        send(media, signal.SIGCONT)

    signalling = row(page, "signalling")
    expect(signalling).to_have_attribute("data-status", "failed")
    expect(signalling).to_contain_text("Für den Betreiber dieser Website: Starten Sie den Medienserver")
    assert {statuses(page)[name] for name in ("udp", "tcp", "turn")} == {"skipped"}
    assert statuses(page)["server"] == "ok"
    expect(page.locator("#verdict")).to_have_attribute("data-outcome", "blocked")


@pytest.mark.soak
def test_a_media_server_behind_a_closed_port_is_named_with_its_address(molts: Molts, open_check: Open) -> None:
    """The site reaches it, the visitor does not: as behind a firewall that lets only the pages out."""
    page = open_check(molts, ALLOWED, run=False)
    media = molts.setting("LIVEKIT_URL")
    page.route("**/check/token", lambda route: route.fulfill(status=201, body=json.dumps(entry(media))))
    page.route_web_socket(re.compile(re.escape(media)), lambda socket: socket.close(code=1006))

    page.click("#start")
    expect(page.locator("#start")).to_be_enabled(timeout=DONE_MS)

    signalling = row(page, "signalling")
    expect(signalling).to_have_attribute("data-status", "failed")
    expect(signalling).to_contain_text(f"The media server at {media} does not answer.")
    expect(signalling).to_contain_text("try another network")


def entry(url: str) -> dict[str, str]:
    return {"server_url": url, "participant_token": "none"}


def test_it_weighs_little_until_the_media_part_is_needed() -> None:
    built = ROOT / "static" / "dist"
    weight = sum(Path(built / name).stat().st_size for name in ("check.js.gz", "check.css.gz", "room.css.gz"))
    assert weight < 60_000
