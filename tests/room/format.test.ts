import assert from "node:assert/strict";
import { it } from "node:test";
import { duration, lineCount, sameWords } from "../../static/src/room/format.ts";
import { bands, mirrored } from "../../static/src/room/visualiser.ts";
import { clock, shortClock } from "../../static/src/shared/clock.ts";

it("writes times as HH:MM:SS", () => {
  assert.equal(clock(0), "00:00:00");
  assert.equal(clock(3_725_999), "01:02:05");
  assert.equal(clock(-5), "00:00:00");
  assert.equal(shortClock(247_000), "4:07");
  assert.equal(shortClock(3_847_000), "1:04:07");
});

it("words lengths and counts", () => {
  assert.equal(duration(1_000), "1 second");
  assert.equal(duration(120_000), "2 minutes");
  assert.equal(duration(125_000), "2 min 5 s");
  assert.equal(lineCount(1), "1 line");
  assert.equal(lineCount(3), "3 lines");
});

it("compares words regardless of spaces", () => {
  assert.ok(sameWords(" a  b\n", "a b"));
  assert.ok(!sameWords("a", "b"));
});

it("turns a spectrum into bands between 0 and 1 that follow the voice", () => {
  const spectrum = new Uint8Array(512);
  assert.deepEqual(new Set(bands(spectrum, 17, 47)), new Set([0]));
  spectrum.fill(255);
  assert.ok(bands(spectrum, 17, 47).every((value) => Math.abs(value - 1) < 1e-9));
  spectrum.fill(0);
  spectrum[4] = 255;
  const low = bands(spectrum, 17, 47);
  assert.ok(low.slice(0, 6).some((value) => value > 0.99) && low.slice(8).every((value) => value === 0));
  assert.deepEqual(mirrored([1, 2, 3]), [3, 2, 1, 2, 3]);
});
