import assert from "node:assert/strict";
import { it } from "node:test";
import { seconds, turnBars } from "../../static/src/room/timing.ts";
import type { TurnTimes } from "../../static/src/shared/turns.ts";

const turn = (number: number, llm: number | null, total: number | null, stt: number | null = null): TurnTimes => ({
  turn: number,
  endpointing_ms: null,
  stt_ms: stt,
  llm_ms: llm,
  tts_ms: 100,
  avatar_ms: 0,
  total_ms: total,
});

it("shows the latest turn first, its parts against the slowest turn", () => {
  const [second, first] = turnBars([turn(1, 900, 1_000), turn(2, 400, 500)]);
  assert.deepEqual([second?.turn, first?.turn], [2, 1]);
  assert.deepEqual(
    second?.parts.map(({ part, percent }) => [part, percent]),
    [
      ["llm", 40],
      ["tts", 10],
    ],
  );
});

it("adds up what it knows when the whole is not known, and leaves out what had no part in it", () => {
  const [only] = turnBars([turn(1, null, null, 250)]);
  assert.equal(only?.totalMs, 350);
  assert.deepEqual(
    only?.parts.map(({ part }) => part),
    ["stt", "tts"],
  );
  assert.deepEqual(turnBars([]), []);
});

it("leaves out a turn of which nothing is known", () => {
  const unknown = { ...turn(2, null, null), tts_ms: null };
  assert.deepEqual(
    turnBars([turn(1, 300, null), unknown]).map(({ turn }) => turn),
    [1],
  );
});

it("rounds as one speaks", () => {
  assert.deepEqual([seconds(420), seconds(1_940), seconds(12_300)], ["0.42 s", "1.9 s", "12 s"]);
});
