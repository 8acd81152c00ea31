import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Role, SegmentData } from "../../static/src/shared/events.ts";
import { Axis, barTitle, inWords, MOST_PIXELS } from "../../static/src/talk/timeline.ts";

function line(seq: number, role: Role, start: number, end: number, interrupted = false): SegmentData {
  return {
    seq,
    segment_id: `s${seq}`,
    role,
    text: `line ${seq}`,
    start_ms: start * 1_000,
    end_ms: end * 1_000,
    interrupted,
    revised: false,
  };
}

describe("timeline", () => {
  it("has everybody on one axis", () => {
    const axis = new Axis(0, 100_000);
    assert.deepEqual([axis.x(10_000), axis.width(10_000)], ["10.000%", "10.000%"]);
    assert.deepEqual([axis.x(25_000), axis.width(25_000)], ["25.000%", "25.000%"]);
  });

  it("says what it shows", () => {
    const lines = [line(1, "agent", 10, 20), line(2, "user", 25, 50, true)];
    assert.equal(
      inWords(new Axis(0, 100_000), lines, 0),
      "From 00:00:00 to 00:01:40: the visitor spoke 1 times, 00:00:25 in all, " +
        "the agent spoke 1 times, 00:00:10 in all, 1 interrupted.",
    );
    assert.ok(inWords(new Axis(0, 100_000), lines, 2).endsWith(", 1 interrupted, 2 notices."));
  });

  it("names a bar by its times and words", () => {
    assert.equal(barTitle(line(1, "agent", 10, 20)), "00:00:10–00:00:20: line 1");
    assert.ok(barTitle(line(2, "user", 25, 50, true)).includes("(interrupted): line 2"));
    const long = { ...line(3, "user", 0, 1), text: "😀".repeat(300) };
    assert.equal(barTitle(long), `00:00:00–00:00:01: ${"😀".repeat(200)}`, "no character is cut in half");
  });

  it("has room for the labels of its axis", () => {
    const ticks = new Axis(0, 100_000).ticks();
    assert.deepEqual(
      ticks.slice(0, 3).map(({ label }) => label),
      ["0:00", "0:10", "0:20"],
    );
    assert.equal(ticks.at(-1)?.label, "1:30");
    const day = new Axis(0, 3 * 3_600_000);
    assert.equal(day.pixels, MOST_PIXELS);
    assert.ok(20 < day.ticks().length && day.ticks().length < MOST_PIXELS / 70 + 1);
    assert.ok(day.ticks().at(-1)?.label.startsWith("2:"));
  });

  it("keeps the step of its labels while it grows", () => {
    for (let end = 180_000; end < 190_000; end += 100)
      assert.equal(new Axis(0, end).ticks()[1]?.label, "0:10", `at ${end}`);
  });

  it("begins with the first line of a part, and has no place for what was before", () => {
    const part = new Axis(60_000, 80_000);
    assert.equal(part.x(60_000), "0.000%");
    assert.ok(part.holds(60_000) && part.holds(80_000));
    assert.ok(!part.holds(40_000));
  });

  it("stretches no short conversation, and shows what took no time", () => {
    const empty = new Axis(0, 0);
    assert.equal(inWords(empty, [], 0), "From 00:00:00 to 00:00:10: nobody spoke.");
    const late = new Axis(0, 30_000);
    assert.deepEqual([late.x(30_000), late.width(0)], ["100.000%", "0.300%"], "too short to be seen");
  });
});
