"""The admin as somebody uses it: signed in, going from page to page by clicks, and what can be wrong with a page."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, ViewportSize, expect

from tests.e2e.stack import Molts

PHONE: ViewportSize = {"width": 390, "height": 844}
TABLET: ViewportSize = {"width": 768, "height": 1024}
DESKTOP: ViewportSize = {"width": 1440, "height": 900}
SIZES = (PHONE, TABLET, DESKTOP)

# Things to press whose boxes lie on each other, and those whose words do not fit. What floats above a page that scrolls
# (a bar at its edge) covers what is below it on purpose, so only things of the same floor are compared.
CROWDED = """() => {
  const floor = (element) => {
    for (let one = element; one && one !== document.body; one = one.parentElement)
      if (["fixed", "sticky"].includes(getComputedStyle(one).position)) return one;
    return document.body;
  };
  const visible = (element) => {
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) return false;
    const box = element.getBoundingClientRect();
    return box.width > 4 && box.height > 4;
  };
  const name = (element) =>
    `${element.tagName.toLowerCase()}#${element.id || ""} ` +
    `“${(element.textContent || element.ariaLabel || element.name || "").trim().slice(0, 40)}”`;
  const pressed = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")]
    .filter((element) => visible(element) && !element.closest(".datetimeshortcuts")) // drawn inside their field
    .map((element) => ({ element, box: element.getBoundingClientRect(), floor: floor(element) }));
  const faults = [];
  for (const [index, one] of pressed.entries()) {
    const style = getComputedStyle(one.element);
    const button = one.element.matches("button, .button, summary");
    if (button && one.element.scrollWidth > one.element.clientWidth + 2 && style.overflowX !== "visible")
      faults.push(`${name(one.element)} is cut`);
    for (const other of pressed.slice(index + 1)) {
      if (one.floor !== other.floor) continue;
      if (one.element.contains(other.element) || other.element.contains(one.element)) continue;
      const wide = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
      const high = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
      if (wide > 2 && high > 2) faults.push(`${name(one.element)} lies on ${name(other.element)}`);
    }
  }
  const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (over > 1) faults.push(`the page is ${over} pixels wider than the screen`);
  return faults;
}"""


def crowding(page: Page) -> list[str]:
    """What is cut or lies on something else."""
    faults: list[str] = page.evaluate(CROWDED)
    return faults


class Desk:
    """One person's browser tab in the admin."""

    def __init__(self, page: Page, molts: Molts) -> None:
        self.page, self.molts = page, molts

    def sign_in(self) -> None:
        name, password = self.molts.admin
        self.page.goto(f"{self.molts.url}/admin/")
        self.page.get_by_label("Username").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()
        expect(self.page.get_by_role("link", name="Agents", exact=True)).to_be_visible()

    # -- going ---------------------------------------------------------------------------------------------------------
    def open(self, entry: str) -> None:
        """Press an entry of the sidebar."""
        self.page.get_by_role("navigation").get_by_role("link", name=entry, exact=True).first.click()

    def add(self) -> None:
        """Press what adds something to the list that is open."""
        self.page.locator("a[href$='/add/']").filter(visible=True).last.click()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    @property
    def main(self) -> Locator:
        return self.page.locator("main").first

    # -- filling in ----------------------------------------------------------------------------------------------------
    def field(self, label: str) -> Locator:
        """The field of this label; required ones wear a star."""
        return self.main.get_by_label(re.compile(rf"^{re.escape(label)}\s*\*?$")).filter(visible=True).first

    def fill(self, label: str, text: str) -> None:
        self.field(label).fill(text)

    def choose(self, label: str, option: str) -> None:
        """Choose what begins with these words: some options say more than a name."""
        field = self.field(label)
        found = field.locator("option").filter(has_text=re.compile(rf"^\s*{re.escape(option)}"))
        expect(found).to_have_count(1)
        field.select_option(value=found.get_attribute("value"))

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).filter(visible=True).first.click()

    def save(self) -> None:
        """Save, and read that it was."""
        self.press("Save")
        expect(self.page.get_by_text("successfully").first).to_be_visible()
