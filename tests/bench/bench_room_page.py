"""How heavy the room page is, and how soon a visitor on a slow machine can press Talk.

Chromium with its processor slowed down to a quarter, from the loopback, without cache. No network is simulated: what
this shows is the page's own weight and work.
"""

from __future__ import annotations

import os
import shutil
import statistics
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.page_harness import MICROPHONE, RoomServer

RUNS = int(os.environ.get("BENCH_RUNS", "5"))
SLOWER = 4
LIMIT_KB, LIMIT_PAINT_MS, LIMIT_TALK_MS = 220, 1_000, 1_500
# The moment at which a press of Talk does something, and is answered on the screen.
PRESSED = """
  window.pressed = new Promise((resolve) => {
    const press = () => {
      const talk = document.querySelector("#talk");
      if (!talk || !performance.getEntriesByName("room-ready").length) return requestAnimationFrame(press);
      talk.click();
      requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now())));
    };
    requestAnimationFrame(press);
  });
"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


@dataclass(frozen=True)
class Visit:
    paint_ms: float
    talk_ms: float
    weight: dict[str, int]  # bytes on the wire by address


@pytest.mark.bench
@pytest.mark.timeout(300)
def test_the_room_page_is_light_and_soon_usable() -> None:
    server = RoomServer()
    server.refusal = (503, "unavailable")  # what Talk starts is another benchmark
    server.start()
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", *MICROPHONE])
            visits = [visit(browser, server.url) for _ in range(RUNS)]
            browser.close()
    finally:
        server.stop()

    weight = visits[-1].weight
    kilobytes = sum(weight.values()) / 1000
    paint = statistics.median(item.paint_ms for item in visits)
    talk = statistics.median(item.talk_ms for item in visits)
    print(f"\nroom page, processor {SLOWER} times slower, median of {RUNS}:")
    for address, size in sorted(weight.items(), key=lambda item: -item[1]):
        print(f"  {size / 1000:7.1f} kB  {address}")
    print(f"  {kilobytes:7.1f} kB  in all (at most {LIMIT_KB})")
    print(f"  {paint:7.0f} ms  first paint (at most {LIMIT_PAINT_MS})")
    print(f"  {talk:7.0f} ms  Talk pressed and answered (at most {LIMIT_TALK_MS})")
    assert kilobytes <= LIMIT_KB
    assert paint <= LIMIT_PAINT_MS
    assert talk <= LIMIT_TALK_MS


def visit(browser: Browser, url: str) -> Visit:
    """One visit with an empty cache. Sizes are of what was transferred, compressed as the server compresses."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    addresses: dict[str, str] = {}
    weight: dict[str, int] = {}
    session.on(
        "Network.requestWillBeSent",
        lambda event: addresses.update({event["requestId"]: event["request"]["url"]}),
    )
    session.on(
        "Network.loadingFinished",
        lambda event: weight.update({addresses[event["requestId"]]: int(event["encodedDataLength"])}),
    )
    page.add_init_script(PRESSED)
    page.goto(url)
    talk = float(page.evaluate("pressed"))
    page.wait_for_load_state("networkidle")
    paint = float(page.evaluate(PAINT))
    context.close()
    home = url.rsplit("/r/", 1)[0]
    return Visit(paint, talk, {address.removeprefix(home): size for address, size in weight.items()})
