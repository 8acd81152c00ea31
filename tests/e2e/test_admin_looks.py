"""A running copy for everybody's eyes: what axe finds, and that nothing is cut or covered on a screen of any size."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import dedent
from typing import Literal

import pytest
from playwright.sync_api import Page, Playwright, expect

from tests.axe import violations
from tests.e2e.browser import Visitor
from tests.e2e.desk import DESKTOP, PHONE, SIZES, Desk, crowding
from tests.e2e.rooms import Rooms
from tests.e2e.stack import Molts

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

TABS = ("Who it is", "Pipeline", "Turn-taking", "Knowledge", "Limits", "Links", "Revisions")
LISTS = (
    "avatars/agent",
    "avatars/voice",
    "avatars/avatar",
    "projects/providerkey",
    "live_sessions/roomlink",
    "projects/apikey",
)


@pytest.fixture(scope="module")
def held(molts: Molts, rooms: Rooms) -> str:
    """The id of a conversation with a few lines, one of them interrupted, made as if it had been held."""
    code = """
        from datetime import timedelta
        from django.utils import timezone
        link = RoomLink.objects.get(public_id=PUBLIC_ID)
        start = timezone.now() - timedelta(minutes=12)
        session = LiveSession.objects.create(
            project=link.project, agent=link.agent, link=link, room_name="looks", visitor_identity="v", last_seq=3,
            spec=link.agent.revisions.first().snapshot, state="ended", reason="visitor_left", visitor_name="Grace",
            created_at=start, active_at=start, ended_at=start + timedelta(minutes=2),
        )
        for seq, (role, text) in enumerate([
            ("agent", "Hello. How can I help you?"), ("user", "When is the meeting?"), ("agent", "It is today."),
        ], start=1):
            Segment.objects.create(session=session, seq=seq, segment_id=f"s{seq}", role=role, text=text,
                                   start_ms=seq * 4000, end_ms=seq * 4000 + 2500, interrupted=seq == 3)
        Turn.objects.create(
            session=session, index=1, user_segment_id="s2", agent_segment_id="s3",
            endpointing_ms=310, stt_ms=140, llm_ms=420, tts_ms=180, total_ms=1050,
        )
        result = str(session.pk)
    """
    return str(molts.shell(dedent(code).replace("PUBLIC_ID", repr(rooms.talk.rsplit("/", 1)[1]))))


@pytest.fixture(scope="module")
def desk(molts: Molts, playwright: Playwright, held: str) -> Iterator[Desk]:
    visitor = Visitor(playwright, "desk")
    desk = Desk(visitor.page, molts)
    desk.sign_in()
    yield desk
    visitor.close()


@pytest.fixture(scope="module")
def visitors_page(playwright: Playwright) -> Iterator[Page]:
    """A tab in which nobody is signed in."""
    visitor = Visitor(playwright, "visitor")
    yield visitor.page
    visitor.close()


def pages(desk: Desk, held: str) -> Iterator[str]:
    """Every page of the admin that people work on, opened one after the other; yields its name."""
    page, base = desk.page, desk.molts.url
    page.goto(f"{base}/admin/")
    yield "start"
    page.goto(f"{base}/admin/avatars/agent/")
    page.locator("main").get_by_role("link", name="Mira").first.click()
    for tab in TABS:
        desk.tab(tab)
        expect(page.get_by_role("tabpanel").filter(visible=True).first).to_be_visible()
        yield f"agent, {tab}"
    for path in LISTS:
        page.goto(f"{base}/admin/{path}/")
        yield f"list of {path}"
    page.goto(f"{base}/admin/avatars/avatar/")
    page.locator("main").get_by_role("link", name="Mira").first.click()
    for tab in ("Look", "Versions"):
        desk.tab(tab)
        yield f"avatar, {tab}"
    page.goto(f"{base}/admin/avatars/avatar/add/")
    yield "a new avatar"
    page.goto(f"{base}/admin/projects/providerkey/add/")
    yield "a new key"
    page.goto(f"{base}/admin/live_sessions/roomlink/")
    page.locator("#result_list a[href*='/change/'], main a[href*='/change/']").filter(visible=True).first.click()
    page.wait_for_load_state()
    yield "a link"
    page.goto(f"{base}/admin/live_sessions/livesession/")
    yield "list of conversations"
    page.goto(f"{base}/admin/live_sessions/livesession/{held}/change/")
    yield "a conversation"


def visitors_pages(page: Page, base: str) -> Iterator[str]:
    for path in ("/", "/check", "/docs/", "/docs/providers.html"):
        page.goto(f"{base}{path}")
        yield path


@pytest.mark.soak  # tests/molts/test_admin_screens.py looks at every page without a running copy
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(desk: Desk, held: str, scheme: Literal["light", "dark"]) -> None:
    desk.page.set_viewport_size(DESKTOP)
    desk.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")

    found = {name: violations(desk.page) for name in pages(desk, held)}
    assert desk.page.evaluate("document.documentElement.classList.contains('dark')") == (scheme == "dark")

    assert with_faults(found) == {}


@pytest.mark.soak
def test_nothing_is_cut_or_covered_on_any_screen(desk: Desk, held: str) -> None:
    desk.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    found: dict[str, list[str]] = {}
    for name in pages(desk, held):
        found |= crowding_by_size(desk.page, name)
    assert with_faults(found) == {}


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.soak)])
def test_pages_for_everybody_are_whole(molts: Molts, visitors_page: Page, scheme: Literal["light", "dark"]) -> None:
    visitors_page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    found: dict[str, list[str]] = {}
    for name in visitors_pages(visitors_page, molts.url):
        found[name] = violations(visitors_page)
        found |= crowding_by_size(visitors_page, name)
    assert with_faults(found) == {}


def crowding_by_size(page: Page, name: str) -> dict[str, list[str]]:
    found = {}
    for size in SIZES:
        page.set_viewport_size(size)
        page.wait_for_timeout(60)  # what measures itself does so in the next frame
        found[f"{name} at {size['width']}"] = crowding(page)
    page.set_viewport_size(DESKTOP)
    return found


def with_faults(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: faults for name, faults in found.items() if faults}


def test_crowding_is_seen_where_there_is_some(molts: Molts, visitors_page: Page) -> None:
    page = visitors_page
    page.set_viewport_size(PHONE)
    page.goto(f"{molts.url}/")
    assert crowding(page) == []

    page.evaluate(
        """() => {
            document.querySelector("main").style.minWidth = "600px";
            const [first, second] = document.querySelectorAll("main a.button");
            const box = first.getBoundingClientRect();
            const away = second.getBoundingClientRect();
            second.style.translate = `${box.left - away.left}px ${box.top - away.top}px`;
        }"""
    )

    faults = "\n".join(crowding(page))
    assert "lies on" in faults
    assert "wider than the screen" in faults
