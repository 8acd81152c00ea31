"""The pictures of the documentation: `make pictures` takes them anew, from a copy with a few conversations in it."""

from __future__ import annotations

import io
from collections.abc import Callable
from textwrap import dedent

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Enter
from tests.e2e.desk import DESKTOP, SIZES, Desk
from tests.e2e.stack import ROOT, Molts

pytestmark = [pytest.mark.pictures, pytest.mark.e2e, pytest.mark.timeout(300)]

FOLDER = ROOT / "docs" / "images"
MOST_BYTES = 200_000
# A week of talks: the words of the demo agent, and times as a small machine has them.
HELD = """
    import random
    from datetime import timedelta
    from django.utils import timezone
    agent = Agent.objects.get(slug="mira")
    link = agent.links.first() if hasattr(agent, "links") else RoomLink.objects.filter(agent=agent).first()
    chance = random.Random(7)
    names = ["Grace", "Alan", "Hedy", "Edsger", "Radia", "", "Katherine"]
    lines = [
        ("agent", "Hello, this is Mira. How can I help you today?"),
        ("user", "Can I book a table for two tomorrow?"),
        ("agent", "Yes, I can book a table for you. What time would you like it, and what is your name?"),
        ("user", "Is there parking?"),
        ("agent", "Yes, you can park behind the house. For guests the price is zero."),
        ("user", "Can I bring my dog?"),
        ("agent", "Yes, your dog is welcome in the room and on the terrace, but not at the table."),
    ]
    for number in range(28):
        start = timezone.now() - timedelta(hours=6 * number + 1, minutes=chance.randrange(50))
        session = LiveSession.objects.create(
            project=link.project, agent=agent, link=link, room_name=f"picture-{number}", visitor_identity="v",
            last_seq=7,
            spec=agent.revisions.first().snapshot, state="ended", reason="visitor_left", visitor_name=names[number % 7],
            created_at=start, active_at=start, ended_at=start + timedelta(seconds=50 + chance.randrange(90)),
        )
        at = 900
        for seq, (role, text) in enumerate(lines, start=1):
            long = 60 * len(text)
            Segment.objects.create(session=session, seq=seq, segment_id=f"s{seq}", role=role, text=text,
                                   start_ms=at, end_ms=at + long, interrupted=seq == 5)
            at += long + 900
        for index, (asked, answered) in enumerate([(2, 3), (4, 5), (6, 7)], start=1):
            parts = dict(endpointing_ms=chance.randrange(280, 420), stt_ms=chance.randrange(120, 260),
                         llm_ms=chance.randrange(240, 620), tts_ms=chance.randrange(90, 210))
            Turn.objects.create(session=session, index=index, user_segment_id=f"s{asked}",
                                agent_segment_id=f"s{answered}", total_ms=sum(parts.values()), **parts)
    result = str(LiveSession.objects.filter(visitor_name="Grace").first().pk)
"""


def keep(page: Page, name: str) -> None:
    """A small WebP of what is seen. Raises AssertionError when it is too heavy for the repository."""
    page.wait_for_timeout(400)  # fonts, charts
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled", caret="hide"))).convert("RGB")
    path = FOLDER / f"{name}.webp"
    picture.save(path, quality=82, method=6)
    assert path.stat().st_size < MOST_BYTES, f"{path.name} is {path.stat().st_size} bytes"


def on_every_screen(page: Page, name: str, settle: Callable[[], object] = lambda: None) -> None:
    for size in SIZES:
        page.set_viewport_size(size)
        settle()
        keep(page, f"{name}-{size['width']}")
    page.set_viewport_size(DESKTOP)


def test_pictures_of_the_admin(molts: Molts, enter: Enter) -> None:
    held = molts.shell(dedent(HELD))
    desk = Desk(enter().page, molts)
    desk.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    desk.sign_in()
    page, base = desk.page, molts.url

    page.goto(f"{base}/admin/")
    on_every_screen(page, "admin-start")

    page.goto(f"{base}/admin/avatars/agent/")
    page.locator("main").get_by_role("link", name="Mira").first.click()
    expect(page.get_by_role("tab", name="Pipeline")).to_be_visible()
    on_every_screen(page, "admin-agent")
    for tab in ("Pipeline", "Turn-taking"):
        desk.tab(tab)
        keep(page, f"admin-{tab.lower()}")

    page.emulate_media(reduced_motion="no-preference")
    page.goto(f"{base}/admin/avatars/avatar/")
    page.locator("main").get_by_role("link", name="Otto").first.click()
    video = page.locator("[data-video]")
    expect(video).to_be_visible(timeout=60_000)
    video.evaluate("(video) => { video.pause(); video.currentTime = 1.5; }")
    on_every_screen(page, "admin-avatar")
    page.emulate_media(reduced_motion="reduce")

    page.goto(f"{base}/admin/projects/providerkey/add/")
    keep(page, "admin-key")
    page.goto(f"{base}/admin/live_sessions/roomlink/")
    page.locator("main a[href*='/change/']").filter(visible=True).first.click()
    keep(page, "admin-link")
    page.goto(f"{base}/admin/live_sessions/livesession/{held}/change/")
    on_every_screen(page, "admin-conversation")


def test_pictures_of_what_visitors_see(molts: Molts, enter: Enter) -> None:
    visitor = enter()
    page = visitor.page
    page.goto(molts.url)
    on_every_screen(page, "start")

    visitor.talk(molts.demo_rooms[0])
    visitor.wait_for_line("agent", "this is Mira", seconds=20)
    for question, words in (("Is there parking?", "park behind"), ("Can I bring my dog?", "welcome")):
        visitor.type(question)
        visitor.wait_for_line("agent", words, seconds=20)

    def settle() -> None:
        page.locator("#say-text").blur()
        page.wait_for_timeout(900)  # somebody who has just spoken blinks

    on_every_screen(page, "room", settle)
