import assert from "node:assert/strict";
import { it } from "node:test";
import { endWords } from "../../static/src/room/words.ts";
import type { EndReason } from "../../static/src/shared/events.ts";

const expected: Record<EndReason, RegExp> = {
  visitor_left: /away for too long/,
  ended_by_user: /^$/,
  ended_by_api: /ended by the host/,
  silence: /nobody spoke for a while/,
  time_limit: /time for this conversation was up/,
  no_agent: /Mira could not join/,
  agent_lost: /could not be brought back/,
  budget: /budget for conversations is used up/,
  error: /went wrong on our side/,
};

for (const [reason, words] of Object.entries(expected)) {
  it(`words the end by ${reason}`, () => assert.match(endWords(reason as EndReason, "Mira"), words));
}
