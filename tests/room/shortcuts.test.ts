import assert from "node:assert/strict";
import { it } from "node:test";
import { commandOf, type KeyPress } from "../../static/src/room/shortcuts.ts";

const press = (key: string, more: Partial<KeyPress> = {}): KeyPress => ({
  key,
  code: `Key${key.toUpperCase()}`,
  shiftKey: false,
  ctrlKey: false,
  metaKey: false,
  altKey: false,
  ...more,
});

it("knows its keys", () => {
  assert.equal(commandOf(press("m")), "mute");
  assert.equal(commandOf(press("c")), "captions");
  assert.equal(commandOf(press("t")), "timing");
  assert.equal(commandOf(press("s")), "devices");
  assert.equal(commandOf(press("/")), "write");
  assert.equal(commandOf(press("?", { shiftKey: true })), "help");
  assert.equal(commandOf(press("x")), null);
});

it("ends a conversation only with two fingers", () => {
  assert.equal(commandOf(press("l")), null);
  assert.equal(commandOf(press("L", { shiftKey: true })), "leave");
});

it("leaves the browser's own keys alone", () => {
  assert.equal(commandOf(press("t", { ctrlKey: true })), null);
  assert.equal(commandOf(press("c", { metaKey: true })), null);
  assert.equal(commandOf(press("s", { altKey: true })), null);
  assert.equal(commandOf(press("M", { shiftKey: true })), null);
});

it("goes by the place of a key where letters are not Latin", () => {
  assert.equal(commandOf(press("ь", { code: "KeyM" })), "mute");
  assert.equal(commandOf(press("Д", { code: "KeyL", shiftKey: true })), "leave");
  assert.equal(commandOf(press("Enter", { code: "Enter" })), null);
});
