import assert from "node:assert/strict";
import { it } from "node:test";
import type { Part, TurnTimes } from "../../static/src/shared/turns.ts";
import { waitBars } from "../../static/src/talk/waits.ts";

const PARTS: readonly Part[] = ["endpointing", "stt", "llm", "tts", "avatar"];

function turn(index: number, times: Partial<TurnTimes>): TurnTimes {
  const unknown = {
    endpointing_ms: null,
    stt_ms: null,
    llm_ms: null,
    tts_ms: null,
    avatar_ms: null,
    total_ms: null,
  };
  return { turn: index, ...unknown, ...times };
}

it("draws all waits on one scale", () => {
  const [whole, partly, total, nothing] = waitBars(
    [
      turn(1, { endpointing_ms: 100, stt_ms: 100, llm_ms: 200, tts_ms: 100, total_ms: 500 }),
      turn(2, { llm_ms: 100, total_ms: 1_000 }),
      turn(3, { total_ms: 250 }),
      turn(4, {}),
    ],
    PARTS,
  );

  assert.deepEqual(
    whole?.map(({ part, x, width }) => [part, x, width]),
    [
      ["endpointing", "0.000%", "10.000%"],
      ["stt", "10.000%", "10.000%"],
      ["llm", "20.000%", "20.000%"],
      ["tts", "40.000%", "10.000%"],
    ],
  );
  assert.deepEqual(
    partly?.map(({ part, width }) => [part, width]),
    [["llm", "10.000%"]],
  );
  assert.deepEqual(
    total?.map(({ part, width }) => [part, width]),
    [["unknown", "25.000%"]],
  );
  assert.deepEqual(nothing, []);
});
