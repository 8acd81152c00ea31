import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { ServerEvent } from "../../static/src/shared/events.ts";
import {
  ANSWER_MS,
  BACKOFF_MS,
  QUIET_MS,
  SessionSocket,
  type SocketLike,
  socketUrl,
} from "../../static/src/shared/socket.ts";

class Wire implements SocketLike {
  onmessage: SocketLike["onmessage"] = null;
  onclose: SocketLike["onclose"] = null;
  closed = false;
  readonly sent: string[] = [];
  constructor(readonly url: string) {}
  send(text: string): void {
    this.sent.push(text);
  }
  close(): void {
    this.closed = true;
  }
  say(event: object): void {
    this.onmessage?.({ data: JSON.stringify(event) });
  }
  cut(code = 1006): void {
    this.onclose?.({ code });
  }
}

/** A socket whose wires and timers are in the test's hand. */
function bench() {
  const wires: Wire[] = [];
  const timers: { run: () => void; ms: number; live: boolean }[] = [];
  const heard: ServerEvent[] = [];
  const statuses: string[] = [];
  const over: number[] = [];
  let seq = 0;
  const socket = new SessionSocket(
    "ws://host/ws/sessions/s1/",
    {
      lastSeq: () => seq,
      onEvent: (event) => heard.push(event),
      onStatus: (status, silentMs) => statuses.push(silentMs ? `${status} ${silentMs}` : status),
      onOver: (code) => over.push(code),
    },
    {
      open: (url) => {
        const wire = new Wire(url);
        wires.push(wire);
        return wire;
      },
      later: (run, ms) => {
        const timer = { run, ms, live: true };
        timers.push(timer);
        return () => {
          timer.live = false;
        };
      },
    },
  );
  const wire = (): Wire => wires.at(-1) as Wire;
  const fire = (): number => {
    const timer = [...timers].reverse().find((one) => one.live);
    assert.ok(timer, "a timer is running");
    timer.live = false;
    timer.run();
    return timer.ms;
  };
  return { socket, wires, wire, timers, fire, heard, statuses, over, setSeq: (value: number) => (seq = value) };
}

const snapshot = { type: "snapshot", segments: [], last_seq: 0, session: {} };

describe("session socket", () => {
  it("asks only for what is newer when it reconnects", () => {
    const { socket, wire, fire, setSeq } = bench();
    socket.open();
    assert.equal(wire().url, "ws://host/ws/sessions/s1/?after=0");
    wire().say(snapshot);
    setSeq(7);
    wire().cut();
    fire();
    assert.equal(wire().url, "ws://host/ws/sessions/s1/?after=7");
  });

  it("backs off from 0.3 to 5 s, and starts anew once a snapshot came", () => {
    const { socket, wire, fire } = bench();
    socket.open();
    const pauses = Array.from({ length: 7 }, () => {
      wire().cut();
      return fire();
    });
    assert.deepEqual(pauses, [...BACKOFF_MS, 5000, 5000]);
    wire().say(snapshot);
    wire().cut();
    assert.equal(fire(), 300);
  });

  for (const code of [4401, 4404, 4410]) {
    it(`gives up for good on ${code}`, () => {
      const { socket, wire, wires, over, timers } = bench();
      socket.open();
      wire().cut(code);
      assert.deepEqual(over, [code]);
      assert.equal(timers.filter((timer) => timer.live).length, 0);
      socket.retryNow();
      assert.equal(wires.length, 1);
    });
  }

  it("gives up on a connection that never brings a snapshot", () => {
    const { socket, wire, wires, fire } = bench();
    socket.open();
    const silent = wire();
    assert.equal(fire(), 8000);
    assert.ok(silent.closed);
    assert.equal(fire(), 300);
    assert.equal(wires.length, 2);
  });

  it("asks after a short quiet whether anybody is there, and takes an answer for one", () => {
    const { socket, wire, wires, fire } = bench();
    socket.open();
    wire().say(snapshot);
    for (let count = 0; count < 3; count += 1) {
      assert.equal(fire(), QUIET_MS);
      assert.deepEqual(wire().sent, Array(count + 1).fill('{"type":"ping"}'));
      wire().say({ type: "pong" });
    }
    assert.equal(wires.length, 1);
  });

  it("leaves a connection that leads to nobody, and says for how long nothing came", () => {
    const { socket, wire, wires, fire, statuses } = bench();
    socket.open();
    wire().say(snapshot);
    const silent = wire();
    fire();
    assert.equal(fire(), ANSWER_MS);
    assert.ok(silent.closed);
    assert.deepEqual(statuses, ["connecting", "open", `retrying ${QUIET_MS + ANSWER_MS}`]);
    assert.equal(fire(), 300);
    assert.equal(wires.length, 2);
    assert.ok(QUIET_MS + ANSWER_MS < 8_000, "told within ten seconds, whatever a busy machine adds");
  });

  it("needs no question while things happen", () => {
    const { socket, wire, timers } = bench();
    socket.open();
    wire().say(snapshot);
    for (let count = 0; count < 4; count += 1) wire().say({ type: "agent.state", state: "thinking" });
    assert.deepEqual(
      timers.filter((timer) => timer.live).map((timer) => timer.ms),
      [QUIET_MS],
    );
    assert.deepEqual(wire().sent, []);
  });

  it("reconnects at once when the network is back, and hears nothing from the old wire", () => {
    const { socket, wire, wires, heard } = bench();
    socket.open();
    const old = wire();
    socket.retryNow();
    assert.ok(old.closed);
    old.say(snapshot);
    assert.equal(heard.length, 0);
    assert.equal(wires.length, 2);
  });

  it("lets unknown and broken messages pass by", () => {
    const { socket, wire, heard } = bench();
    socket.open();
    wire().say({ type: "from.the.future" });
    wire().onmessage?.({ data: "{" });
    wire().onmessage?.({ data: new ArrayBuffer(1) });
    wire().say(snapshot);
    assert.deepEqual(
      heard.map((event) => event.type),
      ["snapshot"],
    );
  });

  it("uses wss on secure pages", () => {
    assert.equal(socketUrl("/ws/", { protocol: "https:", host: "a.example" }), "wss://a.example/ws/");
    assert.equal(socketUrl("/ws/", { protocol: "http:", host: "a:8000" }), "ws://a:8000/ws/");
  });
});
