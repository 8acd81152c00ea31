import assert from "node:assert/strict";
import { beforeEach, it } from "node:test";
import { Announcer } from "../../static/src/room/announcer.ts";

let now = 0;
let said: string[] = [];
let announcer: Announcer;

beforeEach(() => {
  now = 0;
  said = [];
  announcer = new Announcer((text) => said.push(text), { now: () => now });
});

it("keeps news until the agent has finished speaking", () => {
  announcer.tell("first");
  announcer.agentSpeaks(true);
  announcer.tell("old");
  announcer.tell("new");
  assert.deepEqual(said, ["first"]);
  announcer.agentSpeaks(false);
  assert.deepEqual(said, ["first", "new"]);
});

it("says trouble at once, and forgets what it overtakes", () => {
  announcer.agentSpeaks(true);
  announcer.tell("news");
  announcer.interrupt("trouble");
  announcer.agentSpeaks(false);
  assert.deepEqual(said, ["trouble"]);
});

it("ranks trouble above news", () => {
  const ranks: [string, boolean][] = [];
  const both = new Announcer((text, urgent) => ranks.push([text, urgent]));
  both.tell("news");
  both.interrupt("trouble");
  assert.deepEqual(ranks, [
    ["news", false],
    ["trouble", true],
  ]);
});

it("drops news that has grown old", () => {
  announcer.agentSpeaks(true);
  announcer.tell("news");
  now = 60_000;
  announcer.agentSpeaks(false);
  assert.deepEqual(said, []);
});
