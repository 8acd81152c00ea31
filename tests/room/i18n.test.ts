import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, it } from "node:test";
import { t, useCatalog } from "../../static/src/shared/i18n.ts";

afterEach(() => useCatalog({}));

it("says what no catalog holds in English", () => {
  assert.equal(t("Listening"), "Listening");
  useCatalog({ Mute: "Stumm", Leave: "" });
  assert.equal(t("Listening"), "Listening");
  assert.equal(t("Leave"), "Leave", "a text that is not translated yet is empty in a catalog");
});

it("says it in the visitor's language, with the values where that language has them", () => {
  useCatalog({ "{name} is late by {count} minutes": "In {count} Minuten kommt {name}" });
  assert.equal(t("{name} is late by {count} minutes", { name: "Mira", count: 3 }), "In 3 Minuten kommt Mira");
});

it("takes values as they are, braces and dollars included", () => {
  assert.equal(t("Hello {name}", { name: "$& {name}" }), "Hello $& {name}");
  assert.equal(t("Hello {name}"), "Hello {name}");
  assert.equal(t("toString"), "toString");
});

it("is always called with a literal, so that every text can be found in the sources", () => {
  const sources = join(process.cwd(), "static", "src", "room");
  for (const name of readdirSync(sources).filter((file) => file.endsWith(".ts") && file !== "i18n.ts")) {
    const calls = readFileSync(join(sources, name), "utf8").match(/(?<![\w.])t\(\s*[^"\s][^)]*/g) ?? [];
    assert.deepEqual(calls, [], name);
  }
});
