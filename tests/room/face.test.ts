import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FROZEN_MS, FrameWatch } from "../../static/src/room/face.ts";

function watched(): { watch: FrameWatch; heard: boolean[] } {
  const heard: boolean[] = [];
  return { watch: new FrameWatch((moving) => heard.push(moving)), heard };
}

describe("FrameWatch", () => {
  it("shows the face with its first picture, and says it once", () => {
    const { watch, heard } = watched();
    watch.look(0, true);
    assert.deepEqual(heard, []);
    watch.frame(1_000);
    watch.frame(1_040);
    assert.deepEqual(heard, [true]);
  });

  it("gives way to the portrait when pictures stop, and comes back with the next", () => {
    const { watch, heard } = watched();
    watch.frame(1_000);
    watch.look(1_000 + FROZEN_MS, true);
    assert.deepEqual(heard, [true]);
    watch.look(1_001 + FROZEN_MS, true);
    assert.deepEqual(heard, [true, false]);
    watch.frame(9_000);
    assert.deepEqual(heard, [true, false, true]);
  });

  it("does not take a page in the background for a frozen face", () => {
    const { watch, heard } = watched();
    watch.frame(1_000);
    watch.look(60_000, false);
    watch.look(60_000 + FROZEN_MS, true);
    assert.deepEqual(heard, [true]);
    watch.look(60_001 + FROZEN_MS, true);
    assert.deepEqual(heard, [true, false]);
  });

  it("ends with its track", () => {
    const { watch, heard } = watched();
    watch.frame(1_000);
    watch.stop();
    watch.stop();
    assert.deepEqual(heard, [true, false]);
  });
});
