import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { onlyOurs } from "../../static/src/shared/peers.ts";

const turn = { urls: ["turn:192.0.2.7:3478?transport=udp", "turns:turn.example:443"], username: "u", credential: "c" };

describe("ICE servers", () => {
  it("are no STUN servers of others, as a media server names them by default", () => {
    const named = { urls: ["stun:global.stun.twilio.com:3478", "stun:stun.l.google.com:19302"] };
    assert.deepEqual(onlyOurs({ iceServers: [named] }, []).iceServers, []);
    assert.deepEqual(
      onlyOurs({ iceServers: [{ urls: "STUN:stun.example" }, { urls: "stuns:s.example" }] }, []).iceServers,
      [],
    );
  });

  it("keep the media server's relays with their passwords, also beside a STUN server", () => {
    const mixed = { ...turn, urls: ["stun:stun.example:3478", ...turn.urls] };
    assert.deepEqual(onlyOurs({ iceServers: [mixed] }, []).iceServers, [turn]);
  });

  it("are those that the operator chose", () => {
    const found = onlyOurs({ iceServers: [{ urls: "stun:stun.l.google.com:19302" }, turn] }, ["stun.example.org:3478"]);
    assert.deepEqual(found.iceServers, [{ urls: ["stun:stun.example.org:3478"] }, turn]);
  });

  it("leave everything else of a configuration as it is", () => {
    assert.deepEqual(onlyOurs({ iceTransportPolicy: "relay" }, []), { iceTransportPolicy: "relay", iceServers: [] });
  });
});
