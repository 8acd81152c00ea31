import assert from "node:assert/strict";
import { it } from "node:test";
import { defaults, readSettings } from "../../static/src/shared/settings.ts";

it("reads what was chosen before", () => {
  const chosen = { microphone: "m1", speaker: "s1", pushToTalk: true, captions: "large", shortcuts: false };
  assert.deepEqual(readSettings(chosen), chosen);
});

it("takes nothing for granted of what a browser has stored", () => {
  for (const stored of [null, "text", 7, {}, { captions: "huge", pushToTalk: "yes", microphone: 3, shortcuts: 1 }]) {
    assert.deepEqual(readSettings(stored), defaults);
  }
});
