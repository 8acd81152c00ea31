"""A conversation on another site's page: where the link allows it, and where not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from playwright.sync_api import Error, Frame

from tests.e2e.browser import Visitor
from tests.e2e.conftest import Enter
from tests.e2e.rooms import GREETING, MEETING, Rooms
from tests.e2e.site import Site
from tests.e2e.stack import Molts, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]

REFUSAL = "may not show this conversation"


def public_id(room: str) -> str:
    return room.rsplit("/", 1)[1]


def allow(molts: Molts, room: str, *origins: str) -> None:
    molts.shell(f"RoomLink.objects.filter(public_id={public_id(room)!r}).update(allowed_origins={list(origins)!r})")


def tag(molts: Molts, room: str, **data: str) -> str:
    more = "".join(f' data-{name}="{value}"' for name, value in data.items())
    return f'<script src="{molts.url}/embed.js" data-link="{public_id(room)}"{more} async></script>'


def frame_of(visitor: Visitor, room: str) -> Frame:
    """The room in its frame, as soon as its script runs."""
    visitor.page.wait_for_selector("iframe")
    visitor.wait_for("the room's frame", lambda: [f for f in visitor.page.frames if f.url == room], seconds=10)
    (frame,) = (f for f in visitor.page.frames if f.url == room)
    frame.wait_for_selector("#talk")
    return frame


def state_of(molts: Molts, session: str) -> str:
    return str(molts.session(session)["state"])


def test_an_allowed_site_holds_a_conversation(molts: Molts, rooms: Rooms, enter: Enter, site: Site) -> None:
    allow(molts, rooms.talk, site.url)
    site.show(tag(molts, rooms.talk, label="Ask us"))
    visitor = enter()
    page = visitor.page
    page.goto(site.url)

    page.get_by_role("button", name="Ask us").focus()
    page.keyboard.press("Enter")
    frame = frame_of(visitor, rooms.talk)
    assert page.get_by_role("region", name="Conversation with Nora").is_visible()
    frame.click("#talk")
    visitor.wait_for("a session", lambda: frame.evaluate("window.molts?.state().sessionId"), seconds=20)
    session = str(frame.evaluate("window.molts.state().sessionId"))
    frame.wait_for_selector(f"#transcript >> text={GREETING}", timeout=20_000)
    assert frame.evaluate("window.molts.room.localParticipant.isMicrophoneEnabled"), "the frame has the microphone"
    frame.fill("#say-text", MEETING[0])
    frame.press("#say-text", "Enter")
    frame.wait_for_selector(f"#transcript >> text={MEETING[1]}", timeout=20_000)

    frame.evaluate("location.reload()")
    visitor.wait_for("the same conversation", lambda: _resumed(visitor, rooms.talk) == session, seconds=20)
    cookies = [cookie for cookie in visitor.context.cookies(molts.url) if cookie["name"].startswith("molts_s_")]
    assert [(cookie["sameSite"], cookie["secure"]) for cookie in cookies] == [("None", True)]
    assert cookies[0].get("partitionKey"), "the cookie is in the site's own jar"

    page.get_by_role("button", name="Close the conversation").click()
    assert page.locator("iframe").count() == 0
    wait_for("the end", lambda: state_of(molts, session) == "ended" or None, seconds=20)
    assert molts.session(session)["reason"] == "visitor_left"
    assert page.evaluate("document.activeElement.shadowRoot.activeElement.innerText") == "Ask us"


def _resumed(visitor: Visitor, room: str) -> str | None:
    with suppress(Error):  # the page is between two loads
        for frame in visitor.page.frames:
            if frame.url == room:
                found: str | None = frame.evaluate("window.molts?.state().sessionId ?? null")
                return found
    return None


@pytest.mark.soak
def test_it_stands_in_a_place_of_the_page(molts: Molts, rooms: Rooms, enter: Enter, site: Site) -> None:
    allow(molts, rooms.quiet, site.url)
    site.show(f'<div id="here" style="height: 40rem"></div>{tag(molts, rooms.quiet, target="#here")}')
    visitor = enter()
    visitor.page.goto(site.url)

    frame_of(visitor, rooms.quiet)
    inside = visitor.page.locator("#here iframe").bounding_box()
    assert inside is not None
    assert inside["height"] > 500


def test_a_site_that_is_not_allowed_says_so(molts: Molts, rooms: Rooms, enter: Enter, site: Site) -> None:
    allow(molts, rooms.talk, "https://another.example.org")
    site.show(tag(molts, rooms.talk))
    visitor = enter()
    visitor.page.goto(site.url)

    visitor.page.get_by_role("button", name="Talk to us").click()

    visitor.page.get_by_role("alert").filter(has_text=REFUSAL).wait_for()
    assert site.url in visitor.page.get_by_role("alert").inner_text()
    assert visitor.page.locator("iframe").count() == 0


@pytest.mark.soak
def test_the_browser_itself_refuses_the_frame(molts: Molts, rooms: Rooms, enter: Enter, site: Site) -> None:
    """Whoever leaves the script out, and its question with it, gets no conversation either."""
    allow(molts, rooms.talk, "https://another.example.org")
    site.show(f'<iframe src="{rooms.talk}" allow="microphone"></iframe>')
    visitor = enter()
    visitor.page.goto(site.url)

    visitor.wait_for("the refusal", lambda: "frame-ancestors" in "".join(visitor.console), seconds=10)
    assert not [frame for frame in visitor.page.frames if frame.url == rooms.talk]
