"""What axe finds wrong with a page."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from tests.agent_runtime.stack import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"

# Of what is in order axe reports one example instead of all: describing every one takes most of its time.
RUN = """([within, options]) => axe.run(within ?? document, { resultTypes: ["violations"], ...options })
  .then((result) => result.violations)"""
LAYOUT = """() => [...document.querySelectorAll("body *")].map((element) => {
  const { x, y, width, height } = element.getBoundingClientRect();
  const visible = element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  return [+visible, ...[x, y, width, height].map(Math.round)].join();
}).join(";")"""
COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}
"""Options: the rules that judge colours."""


def violations(page: Page, options: dict[str, Any] | None = None, *, within: str | None = None) -> list[str]:
    """What axe finds wrong with the page, or with what is `within` this selector, as it stands."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = page.evaluate(RUN, [within, options or {}])
    return [f"{item['id']}: {node['target']} {node['failureSummary']}" for item in found for node in item["nodes"]]


def violations_in(page: Page, scheme: str) -> list[str]:
    """What axe finds wrong with the page in the colours of a scheme, `light` or `dark`."""
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.wait_for_timeout(400)  # colours fade over
    return violations(page)


def layout(page: Page) -> str:
    """Which elements are visible, and where each of them is."""
    found: str = page.evaluate(LAYOUT)
    return found
