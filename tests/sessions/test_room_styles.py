"""What the room's stylesheets do with words of other languages, which are longer than English ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.chromium import browser

__all__ = ["browser"]  # a fixture

pytestmark = pytest.mark.slow

STYLES = Path(__file__).resolve().parents[2] / "static/src/room/styles/transcript.css"
WORDS = {
    "de": ("noch nicht bestätigt", "Noch einmal senden"),
    "en": ("not confirmed yet", "Send again"),
}
LINES = """(element) => {
  const range = document.createRange();
  range.selectNodeContents(element);
  return new Set([...range.getClientRects()].map((box) => box.top)).size;
}"""


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("width", [240, *(pytest.param(width, marks=pytest.mark.soak) for width in (310, 342, 720))])
def test_what_became_of_a_line_is_told_in_one_piece(browser: Browser, width: int, language: str) -> None:
    note, again = WORDS[language]
    page = browser.new_page(viewport={"width": width, "height": 400})
    page.set_content(
        f"""<meta charset="utf-8"><style>body {{ margin: 0; font: 17px sans-serif }} p, ol {{ margin: 0; padding: 0 }}
        {STYLES.read_text(encoding="utf-8")}</style>
        <ol class="transcript"><li class="segment failed" data-role="user"><div class="meta">12:00</div>
        <p class="text">Ja</p><p class="note">{note}</p><button class="resend">{again}</button></li></ol>"""
    )

    try:
        assert page.locator(".note").evaluate(LINES) == 1
        assert page.locator(".resend").evaluate(LINES) == 1
        ends = {
            page.locator(part).evaluate("e => Math.round(e.getBoundingClientRect().right)")
            for part in (".text", ".resend")
        }
        assert ends == {width}
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.close()
