import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  brokenOff,
  type Findings,
  ids,
  outcome,
  outcomeWords,
  report,
  type Status,
  unfinished,
  untouched,
} from "../../static/src/check/rows.ts";

function all(status: Status, changes: Partial<Record<keyof Findings, Status>> = {}): Findings {
  const entries = ids.map((id) => [id, { status: changes[id] ?? status, text: "" }]);
  return Object.fromEntries(entries) as Findings;
}

describe("the outcome of the check", () => {
  it("waits until every row has settled", () => {
    assert.equal(outcome(untouched()), "waiting");
    assert.equal(outcome(all("waiting", { secure: "ok" })), "running");
    assert.equal(outcome(all("ok", { tcp: "running" })), "running");
  });

  it("needs one way for the voice, whichever", () => {
    assert.equal(outcome(all("ok", { tcp: "skipped", turn: "skipped" })), "talk");
    assert.equal(outcome(all("ok", { udp: "failed", turn: "skipped" })), "talk");
    assert.equal(outcome(all("ok", { udp: "failed", tcp: "failed" })), "talk");
    assert.equal(outcome(all("ok", { udp: "failed", tcp: "warning", turn: "skipped" })), "blocked");
  });

  it("leaves typing where only the microphone is missing", () => {
    assert.equal(outcome(all("ok", { microphone: "failed" })), "type");
    assert.equal(outcome(all("ok", { microphone: "skipped", secure: "failed" })), "type");
    assert.equal(outcome(all("ok", { microphone: "warning" })), "talk");
  });

  it("settles once what broke off has its finding", () => {
    const broken = all("ok", { microphone: "running", udp: "waiting", tcp: "skipped", turn: "skipped" });
    assert.deepEqual(unfinished(broken), ["microphone", "udp"]);
    const ended = { ...broken, microphone: brokenOff("no answer"), udp: brokenOff("no answer") };
    assert.deepEqual(unfinished(ended), []);
    assert.equal(outcome(ended), "blocked");
    assert.ok(report(ended, { url: "", browser: "", at: new Date(0) }).includes("udp: failed (no answer)"));
  });

  it("is blocked without the site or the media server", () => {
    assert.equal(outcome(all("ok", { server: "failed" })), "blocked");
    assert.equal(outcome(all("ok", { signalling: "failed" })), "blocked");
    assert.match(outcomeWords("blocked"), /by whom/);
  });
});

it("reports for support in plain lines", () => {
  const findings: Findings = { ...all("ok"), udp: { status: "failed", text: "Nichts", detail: "no answer" } };
  const text = report(findings, { url: "http://here/check", browser: "Testium 1", at: new Date(0) });
  assert.deepEqual(text.split("\n").slice(0, 4), [
    "molts check, 1970-01-01T00:00:00.000Z",
    "http://here/check",
    "Testium 1",
    "outcome: talk",
  ]);
  assert.ok(text.includes("\nudp: failed (no answer)\n"));
  assert.ok(!text.includes("Nichts"), "the visitor's language");
});
