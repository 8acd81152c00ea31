import assert from "node:assert/strict";
import { it } from "node:test";
import { settleInFrame } from "../../static/src/room/boot.ts";

/** As much of a page as the frame concerns. */
function page() {
  const brand = { href: "/", target: "", rel: "", removeAttribute: () => Object.assign(brand, { href: "" }) };
  const classes: string[] = [];
  const document = {
    body: { classList: { add: (name: string) => classes.push(name) } },
    querySelector: () => brand,
    querySelectorAll: () => [brand],
  };
  return { brand, classes, document: document as unknown as Document };
}

it("in a frame the brand leads nowhere and other pages open in a tab of their own", () => {
  const { brand, classes, document } = page();
  settleInFrame({ top: {} } as Window, document);
  assert.deepEqual(classes, ["framed"]);
  assert.deepEqual([brand.href, brand.target, brand.rel], ["", "_blank", "noopener"]);
});

it("by itself the page stays as it is", () => {
  const { brand, classes, document } = page();
  const window = {} as { top: unknown };
  window.top = window;
  settleInFrame(window as Window, document);
  assert.deepEqual([classes, brand.href, brand.target], [[], "/", ""]);
});
