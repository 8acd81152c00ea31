"""What the page around a room, or a header of a proxy, keeps from it is named; the network is not blamed."""

from __future__ import annotations

import pytest
from playwright.sync_api import FrameLocator, Page, expect

from tests.e2e.conftest import Join, Launch
from tests.e2e.page_harness import MICROPHONE, RoomServer
from tests.e2e.site import Site

pytestmark = pytest.mark.slow
SOAK = pytest.mark.soak

NEEDED = "allow-scripts allow-same-origin allow-forms"


def shown(page: Page, site: Site, room: RoomServer, attributes: str) -> FrameLocator:
    """The room in a frame with these attributes, on another site's page."""
    site.show(f'<iframe src="{room.url}" {attributes} width=420 height=760 title="Talk with Mira"></iframe>')
    page.goto(site.url)
    return page.frame_locator("iframe")


@pytest.mark.parametrize(
    ("sandbox", "named"),
    [
        ("allow-scripts", "allow-same-origin, allow-forms"),
        pytest.param("allow-scripts allow-same-origin", "allow-forms", marks=pytest.mark.soak),
        pytest.param("allow-scripts allow-forms", "allow-same-origin", marks=pytest.mark.soak),
        pytest.param(
            "allow-scripts allow-forms allow-popups allow-modals", "allow-same-origin", marks=pytest.mark.soak
        ),
    ],
)
def test_it_names_what_a_sandbox_lacks(page: Page, site: Site, room: RoomServer, sandbox: str, named: str) -> None:
    frame = shown(page, site, room, f'sandbox="{sandbox}" allow="microphone; autoplay"')
    expect(frame.get_by_role("heading", name="The page around holds this one back")).to_be_visible()
    expect(frame.locator("#blocked-text")).to_contain_text(f"without {named}. Whoever made that page")
    expect(frame.locator("#talk")).to_be_hidden()
    expect(frame.locator("#blocked-link")).to_be_hidden()
    assert "internet connection" not in frame.locator("body").inner_text()


def test_it_says_so_where_no_script_may_run(page: Page, site: Site, room: RoomServer) -> None:
    frame = shown(page, site, room, 'sandbox=""')
    expect(frame.locator(".noscript")).to_contain_text(NEEDED.replace(" allow-forms", "").replace(" ", ", "))
    expect(frame.locator(".noscript")).to_contain_text("and allow-forms")


def test_a_whole_sandbox_holds_a_conversation(page: Page, site: Site, room: RoomServer, join: Join) -> None:
    frame = shown(page, site, room, f'sandbox="{NEEDED}" allow="microphone; autoplay"')
    frame.locator("#talk").click()
    expect(frame.locator("#room[data-media=connected][data-socket=open]")).to_be_visible()
    expect(frame.locator("#mute[data-mic=on]")).to_be_visible()
    agent = join()
    room.become("listening")
    frame.locator("#say-text").fill("Is the pool open?")
    frame.locator("#say-text").press("Enter")
    assert agent.wait_for_chats(1) == ["Is the pool open?"]


@pytest.mark.parametrize(
    "attributes",
    [
        "",
        pytest.param('allow="autoplay"', marks=SOAK),
        pytest.param("allow=\"microphone 'none'\"", marks=SOAK),
    ],
)
def test_it_names_the_microphone_that_a_frame_does_not_pass_on(
    page: Page, site: Site, room: RoomServer, attributes: str
) -> None:
    frame = shown(page, site, room, attributes)
    frame.locator("#talk").click()
    notice = frame.locator(".notice[data-key=mic_kept]")
    expect(notice).to_contain_text("The page around keeps the microphone away")
    expect(notice).to_contain_text('allow="microphone"')
    expect(notice.get_by_role("button", name="Try again")).to_have_count(0)
    notice.get_by_role("button", name="Continue by text").click()
    expect(notice).to_have_count(0)
    expect(frame.locator("#room[data-media=connected][data-socket=open]")).to_be_visible()


def test_it_names_the_header_that_forbids_the_microphone(page: Page, room: RoomServer) -> None:
    room.headers["Permissions-Policy"] = "microphone=(), camera=()"
    page.goto(room.url)
    expect(page.locator("#check")).to_have_attribute("open", "")
    page.click("#sound-allow")
    expect(page.locator("#mic-hint")).to_contain_text("Permissions-Policy has to allow microphone=(self)")
    page.click("#talk")
    expect(page.locator(".notice[data-key=mic_kept]")).to_contain_text("This site forbids the microphone")


def test_it_names_the_header_that_locks_the_page_in(page: Page, room: RoomServer) -> None:
    room.headers["Content-Security-Policy"] = "sandbox allow-scripts"
    page.goto(room.url)
    expect(page.get_by_role("heading", name="This site holds its own page back")).to_be_visible()
    expect(page.locator("#blocked-text")).to_contain_text("without allow-same-origin, allow-forms")


def test_it_says_that_cookies_are_kept_from_a_frame(page: Page, site: Site, room: RoomServer) -> None:
    frame = shown(page, site, room, 'allow="microphone; autoplay"')
    room.refusal = (403, "csrf")
    frame.locator("#type-instead").click()
    notice = frame.locator(".notice[data-key=start]")
    expect(notice).to_contain_text("Your browser keeps no cookies here")
    with page.context.expect_page() as opened:
        notice.get_by_role("button", name="Open in a new tab").click()
    assert opened.value.url == room.url


def test_a_frame_without_storage_still_talks(launch: Launch, site: Site, room: RoomServer) -> None:
    page = launch([*MICROPHONE, "--test-third-party-cookie-phaseout"])
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.add_init_script(
        """for (const name of ["localStorage", "sessionStorage"])
             Object.defineProperty(window, name, { get() { throw new DOMException("blocked", "SecurityError"); } });"""
    )
    frame = shown(page, site, room, 'allow="microphone; autoplay"')
    frame.locator("#name").fill("Anna")
    frame.locator("#talk").click()
    expect(frame.locator("#room[data-media=connected][data-socket=open]")).to_be_visible()
    assert (room.names, problems) == (["Anna"], [])


@pytest.mark.soak
def test_a_room_by_itself_lacks_nothing(page: Page, room: RoomServer) -> None:
    page.goto(room.url)
    expect(page.locator("#lobby")).to_be_visible()
    expect(page.locator("#blocked")).to_be_hidden()
    assert page.evaluate("molts.state().around") == {"framed": False, "missing": []}
