import assert from "node:assert/strict";
import { it } from "node:test";
import { newId } from "../../static/src/room/ids.ts";

it("makes random UUIDs as the server reads them", () => {
  const ids = Array.from({ length: 200 }, newId);
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(new Set(ids).size, ids.length);
});
