import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Boot } from "../../static/src/room/boot.ts";
import {
  BLINK_MS,
  CAPTION_MS,
  caption,
  chip,
  DETOUR_MS,
  elapsed,
  LATE_MS,
  nextTyped,
  route,
  SLOW_START_MS,
  shownPartials,
  undelivered,
  wantsMicrophone,
} from "../../static/src/room/facts.ts";
import { needsCheck, notices } from "../../static/src/room/notices.ts";
import { type Change, initialState, reduce, type State } from "../../static/src/room/state.ts";
import { CONFIRM_MS } from "../../static/src/room/typed.ts";
import { endTitle } from "../../static/src/room/words.ts";
import type {
  AgentStateName,
  NoticeCode,
  NoticeLevel,
  SegmentData,
  ServerEvent,
  SessionState,
} from "../../static/src/shared/events.ts";

const boot: Boot = {
  link: "lnk_1",
  state: "open",
  agent: { name: "Mira", description: "", language: "en", portrait_url: null, greeting: "" },
  project: "Harbour House",
  max_seconds: null,
  start_url: "/r/lnk_1/start",
  session: null,
  offline_recogniser: false,
  stun_servers: [],
};

/** A page whose clock the test moves. */
class Page {
  now = 1_000_000;
  state: State;

  constructor(more: Partial<Boot> = {}) {
    this.state = initialState({ ...boot, ...more }, this.now);
  }

  do(...changes: Change[]): this {
    for (const change of changes) this.state = reduce(this.state, { ...change, now: this.now });
    return this;
  }

  after(ms: number): this {
    this.now += ms;
    return this.do({ type: "tick" });
  }

  hear(...heard: ServerEvent[]): this {
    return this.do(...heard.map((event): Change => ({ type: "event", event })));
  }

  /** Connected to everything, the agent listening. */
  static talking(): Page {
    return new Page().do(
      { type: "talk" },
      { type: "mic", status: "on" },
      { type: "started", sessionId: "s1", wsPath: "/ws/sessions/s1/" },
      { type: "socket", status: "connecting" },
      { type: "socket", status: "open" },
      { type: "event", event: snapshot([]) },
      { type: "media", status: "connected" },
      { type: "agent.media", present: true, video: false },
      { type: "event", event: agent("listening") },
    );
  }

  get texts(): string[] {
    return this.state.segments.map((segment) => segment.text);
  }

  get noticeKeys(): string[] {
    return notices(this.state).map((notice) => notice.key);
  }
}

const stamp = (offset_ms = 0) => ({ at: "2026-01-01T00:00:00Z", offset_ms });

function segment(seq: number, text: string, more: Partial<SegmentData> = {}): SegmentData {
  const base = {
    seq,
    segment_id: `g${seq}`,
    role: "agent" as const,
    text,
    start_ms: seq * 1000,
    end_ms: seq * 1000 + 900,
  };
  return { ...base, interrupted: false, revised: false, ...more };
}

const final = (seq: number, text: string, more: Partial<SegmentData> = {}): ServerEvent => ({
  type: "transcript.final",
  ...stamp(seq * 1000 + 900),
  ...segment(seq, text, more),
});

const partial = (segment_id: string, text: string, offset = 0, role: "user" | "agent" = "agent"): ServerEvent => ({
  type: "transcript.partial",
  ...stamp(offset),
  segment_id,
  role,
  text,
});

const agent = (state: AgentStateName): ServerEvent => ({ type: "agent.state", ...stamp(), state });
const notice = (code: NoticeCode, level: NoticeLevel = "warning"): ServerEvent => ({
  type: "notice",
  ...stamp(),
  level,
  code,
  text: `about ${code}`,
});

function snapshot(
  segments: SegmentData[],
  state: SessionState = "active",
  agent_state: AgentStateName = "listening",
): ServerEvent {
  const last_seq = Math.max(0, ...segments.map((one) => one.seq));
  return {
    type: "snapshot",
    ...stamp(5000),
    segments,
    last_seq,
    session: {
      id: "s1",
      state,
      reason: state === "ended" ? "time_limit" : null,
      agent_name: "Mira",
      agent_state,
      started_at: "2026-01-01T00:00:00Z",
      ended_at: state === "ended" ? "2026-01-01T00:01:30Z" : null,
      max_seconds: null,
    },
  };
}

describe("transcript", () => {
  it("settles a partial line into its final in one place", () => {
    const page = Page.talking().hear(partial("g1", "Hel"), partial("g1", "Hello"));
    assert.deepEqual(
      page.state.partials.map((line) => line.text),
      ["Hello"],
    );
    page.hear(final(1, "Hello there."));
    assert.deepEqual(page.state.partials, []);
    assert.deepEqual(page.texts, ["Hello there."]);
    assert.equal(page.state.lastSeq, 1);
  });

  it("keeps lines in seq order and takes the same line once", () => {
    const page = Page.talking().hear(final(2, "two"), final(1, "one"), final(2, "two"), final(3, "three"));
    assert.deepEqual(page.texts, ["one", "two", "three"]);
  });

  it("lets a revision replace its elder, and never the other way round", () => {
    const page = Page.talking().hear(final(1, "frist"), final(1, "first", { revised: true }), final(1, "frist"));
    assert.deepEqual(page.texts, ["first"]);
    page.hear(final(4, "first again", { segment_id: "g1", revised: true }));
    assert.deepEqual(
      page.state.segments.map((line) => line.seq),
      [4],
    );
  });

  it("ignores a partial that comes after its final", () => {
    const page = Page.talking().hear(final(1, "done"), partial("g1", "do"));
    assert.deepEqual(page.state.partials, []);
  });

  it("drops a partial whose speaker has since said something later", () => {
    const page = Page.talking().hear(
      partial("never", "hm", 500),
      partial("next", "and", 4000),
      final(2, "Real words."),
    );
    assert.deepEqual(
      page.state.partials.map((line) => line.segment_id),
      ["next"],
    );
  });

  it("joins what was missed after a cut, without doubles and without stale partials", () => {
    const page = Page.talking().hear(final(1, "one"), partial("g2", "tw"));
    page.do({ type: "socket", status: "retrying" }, { type: "socket", status: "open" });
    page.hear(snapshot([segment(2, "two"), segment(3, "three")]), final(3, "three"));
    assert.deepEqual(page.texts, ["one", "two", "three"]);
    assert.deepEqual(page.state.partials, []);
    assert.equal(page.state.lastSeq, 3);
  });

  it("takes the last lines that arrive after Leave was pressed", () => {
    const page = Page.talking().hear(final(1, "one")).do({ type: "left" }).hear(final(2, "two"));
    assert.deepEqual(page.texts, ["one", "two"]);
    assert.equal(page.state.phase, "ended");
  });
});

describe("typed text", () => {
  const type = (page: Page, text = "hello", id = "t1"): Page => page.do({ type: "typed", id, text });

  it("waits for an agent who can read it", () => {
    const page = type(Page.talking().hear(agent("initializing")));
    assert.equal(route(page.state), null);
    assert.equal(nextTyped(page.state), null);
    page.hear(agent("listening"));
    assert.equal(route(page.state), "chat");
    assert.equal(nextTyped(page.state)?.line.text, "hello");
  });

  it("goes by HTTP while the media connection is lost", () => {
    const page = type(Page.talking().do({ type: "media", status: "reconnecting" }));
    assert.equal(route(page.state), "http");
  });

  it("sends one line at a time", () => {
    const page = type(Page.talking()).do({ type: "typed", id: "t2", text: "more" });
    page.do({ type: "typed.status", id: "t1", status: "sending" });
    assert.equal(nextTyped(page.state), null);
    page.do({ type: "typed.status", id: "t1", status: "sent" });
    assert.equal(nextTyped(page.state)?.line.id, "t2");
  });

  it("gives way to the server's line, once for each", () => {
    const page = type(type(Page.talking())).hear(final(1, " hello ", { role: "user" }));
    assert.equal(page.state.typed.length, 1);
  });

  it("stands there once while the server's own word of it is partial", () => {
    const page = type(Page.talking()).hear(partial("u1", " hello", 0, "user"));
    assert.deepEqual(shownPartials(page.state), []);
    assert.equal(page.state.typed.length, 1, "it is not confirmed by that");
    page.hear(final(1, "hello", { role: "user", segment_id: "u1" }));
    assert.deepEqual([page.state.typed, page.texts], [[], ["hello"]]);
  });

  it("hides nobody else's partial words", () => {
    const page = type(Page.talking()).hear(partial("u1", "hello you", 0, "user"), partial("a1", "hello"));
    assert.deepEqual(
      shownPartials(page.state).map(({ text }) => text),
      ["hello you", "hello"],
    );
  });

  it("is offered again when nothing confirms it", () => {
    const page = type(Page.talking())
      .do({ type: "typed.status", id: "t1", status: "sent" })
      .after(CONFIRM_MS + 1);
    assert.equal(page.state.typed[0]?.status, "unconfirmed");
  });

  it("is offered again while the sending itself hangs, and a late word of the way does not take that back", () => {
    const page = type(Page.talking()).do({ type: "typed.status", id: "t1", status: "sending" });
    assert.equal(page.after(CONFIRM_MS - 1).state.typed[0]?.status, "sending");
    assert.deepEqual(undelivered(page.after(2).state).length, 1);
    page.do({ type: "typed.status", id: "t1", status: "sent" });
    assert.equal(page.state.typed[0]?.status, "unconfirmed");
    page.do(
      { type: "typed.status", id: "t1", status: "queued" },
      { type: "typed.status", id: "t1", status: "sending" },
    );
    assert.equal(page.after(CONFIRM_MS - 1).state.typed[0]?.status, "sending", "a new try has its own time");
    assert.deepEqual(page.hear(final(1, "hello", { role: "user" })).state.typed, []);
  });

  it("does not hold up the next one for ever", () => {
    const page = type(type(Page.talking()), "there", "t2").do({ type: "typed.status", id: "t1", status: "sending" });
    assert.equal(nextTyped(page.state), null);
    assert.equal(nextTyped(page.after(CONFIRM_MS + 1).state)?.line.id, "t2");
  });

  it("takes the other way when nobody is seen in the room though the agent listens", () => {
    const page = type(Page.talking().do({ type: "agent.media", present: false, video: false }));
    assert.equal(nextTyped(page.state), null);
    assert.equal(nextTyped(page.after(DETOUR_MS).state)?.way, "http");
  });
});

describe("a server that stands still", () => {
  it("is told at once when the socket was silent for long already", () => {
    const page = Page.talking();
    page.do({ type: "socket", status: "retrying", silentMs: 5_500 });
    assert.deepEqual(
      notices(page.state).map((one) => one.key),
      ["words"],
    );
    page.do({ type: "socket", status: "connecting" });
    assert.equal(chip(page.state), "reconnecting");
    page.do({ type: "socket", status: "open" });
    assert.deepEqual(notices(page.state), []);
  });

  it("is told when it does not begin a conversation", () => {
    const page = new Page().do({ type: "talk", typing: true }, { type: "asked" });
    assert.deepEqual(notices(page.after(SLOW_START_MS).state), []);
    assert.deepEqual(
      notices(page.after(1).state).map((one) => [one.key, ...one.actions.map(({ id }) => id)]),
      [["slow-start", "leave"]],
    );
    page.do({ type: "started", sessionId: "s1", wsPath: "/ws/" });
    assert.ok(!notices(page.state).some((one) => one.key === "slow-start"));
  });
});

describe("typing instead of talking", () => {
  const typing = () =>
    new Page().do({ type: "talk", typing: true }, { type: "started", sessionId: "s1", wsPath: "/ws/" });

  it("misses no microphone, until one was wanted", () => {
    const page = typing();
    assert.deepEqual(notices(page.state), []);
    page.do({ type: "mic", status: "off" });
    assert.deepEqual([notices(page.state), page.state.typing], [[], true]);
    page.do({ type: "mic", status: "asking" }, { type: "mic", status: "denied" });
    assert.deepEqual(
      notices(page.state).map((one) => one.key),
      ["mic"],
    );
  });

  it("ends with the microphone, and begins anew where the visitor goes on by text", () => {
    const page = typing().do({ type: "mic", status: "asking" }, { type: "mic", status: "on" });
    assert.equal(page.state.typing, false);
    const asked = new Page().do({ type: "talk" }, { type: "mic", status: "asking" }, { type: "typing" });
    assert.equal(asked.state.typing, true);
    asked.do({ type: "mic", status: "denied" }, { type: "started", sessionId: "s1", wsPath: "/ws/" });
    assert.deepEqual(notices(asked.state), [], "who settled for text before the browser's answer is left in peace");
  });

  it("is kept over a reload", () => {
    const page = new Page().do({ type: "resume", sessionId: "s1", typing: true });
    page.do({ type: "started", sessionId: "s1", wsPath: "/ws/" });
    assert.deepEqual(notices(page.state), []);
  });
});

describe("an invitation", () => {
  for (const [code, blocked] of [
    ["session_ended", "over"],
    ["link_claimed", "claimed"],
    ["not_found", "gone"],
  ] as const) {
    it(`offers no second try after ${code}`, () => {
      const page = new Page({ state: "invited" }).do({ type: "talk" }, { type: "start.failed", code });
      assert.deepEqual([page.state.phase, page.state.blocked], ["blocked", blocked]);
    });
  }
});

describe("typing too fast", () => {
  it("keeps the refused line for another try, says why, and forgets that by itself", () => {
    const page = Page.talking().do({ type: "typed", id: "t1", text: "hello" }, { type: "typed.too_fast", id: "t1" });
    assert.equal(page.state.typed[0]?.status, "failed");
    assert.deepEqual(page.noticeKeys, ["too_fast"]);
    assert.deepEqual(page.after(10_000).noticeKeys, []);
    assert.equal(page.state.typed[0]?.text, "hello");
  });

  it("is told by the agent, too, which takes no more for a while", () => {
    const page = Page.talking().do({ type: "typed", id: "t1", text: "hello" });
    page.do({ type: "typed.status", id: "t1", status: "sent" }).hear(notice("too_fast", "info"));
    assert.deepEqual(
      notices(page.state).map((one) => one.title),
      ["One moment"],
    );
    assert.equal(page.after(CONFIRM_MS + 1).state.typed[0]?.status, "unconfirmed");
  });
});

describe("state chip", () => {
  it("follows a conversation from Talk to the end", () => {
    const page = new Page();
    const seen = [chip(page.state)];
    const see = (): number => seen.push(chip(page.state));
    page.do({ type: "talk" });
    see();
    page.do({ type: "started", sessionId: "s1", wsPath: "/ws" }, { type: "socket", status: "open" });
    see();
    page.do({ type: "media", status: "connected" });
    see();
    for (const state of ["listening", "thinking", "speaking"] as const) {
      page.hear(agent(state));
      see();
    }
    page.do({ type: "left" });
    see();
    const expected = [null, "connecting", "connecting", "waiting", "listening", "thinking", "speaking", "ended"];
    assert.deepEqual(seen, expected);
  });

  it("says late on the server's word, or by itself when nobody comes, and takes it back", () => {
    const told = Page.talking().hear(agent("initializing"), notice("agent_late"));
    assert.equal(chip(told.state), "late");
    assert.deepEqual(told.noticeKeys, ["agent_late"]);
    assert.equal(chip(told.hear(agent("listening")).state), "listening");
    assert.deepEqual(told.noticeKeys, []);

    const alone = Page.talking().hear(agent("initializing")).do({ type: "agent.media", present: false, video: false });
    assert.equal(chip(alone.after(LATE_MS + 1).state), "late");
  });

  it("tells a face that is being made ready from one that is lost", () => {
    const page = Page.talking().hear(notice("avatar_lost", "info"));
    const titles = (): string[] => notices(page.state).map((one) => one.title);
    assert.deepEqual(titles(), ["Mira's face moves in a moment"]);
    page.hear(notice("avatar_back", "info"));
    assert.deepEqual(titles(), [], "it is seen to move");
    page.hear(notice("avatar_lost"));
    assert.deepEqual(titles(), ["Mira's face stands still for now"]);
    page.hear(notice("avatar_back", "info"));
    assert.deepEqual(titles(), [], "not before there is a picture");
    page.do({ type: "agent.media", present: true, video: true });
    assert.deepEqual(titles(), ["Mira's face moves again"]);
    assert.deepEqual(page.after(10_000).noticeKeys, []);
  });

  it("says what the agent cannot do and what to do instead, and takes it back", () => {
    const wanted = [
      ["llm", "Mira cannot answer right now", "Ask again in a moment."],
      ["stt", "Mira cannot hear you right now", "Write instead, or say it again in a moment."],
      ["tts", "Mira's voice is not working right now", "You can read what is said, and keep talking."],
    ] as const;
    for (const [kind, title, text] of wanted) {
      const page = Page.talking().hear(notice(`${kind}_lost`, "error"));
      assert.deepEqual(
        notices(page.state).map((one) => [one.title, one.text, needsCheck(one)]),
        [[title, text, false]],
      );
      page.hear(notice(`${kind}_back`, "info"));
      assert.deepEqual(page.noticeKeys, [`${kind}_back`]);
      page.hear(notice(`${kind}_lost`, "error"));
      assert.deepEqual(page.noticeKeys, [`${kind}_lost`]);
      page.hear(notice(`${kind}_back`, "info"));
      assert.deepEqual(page.after(10_000).noticeKeys, []);
    }
  });

  it("does not say again in the next conversation how well this server hears", () => {
    const page = Page.talking().hear(notice("offline_recogniser"), notice("avatar_lost"));
    page.do({ type: "dismiss", key: "offline_recogniser" }, { type: "dismiss", key: "avatar_lost" });
    assert.deepEqual(page.noticeKeys, []);
    page.do({ type: "talk" }, { type: "started", sessionId: "s2", wsPath: "/ws/sessions/s2/" });
    page.do({ type: "socket", status: "open" }).hear(notice("offline_recogniser"), notice("avatar_lost"));
    page.do({ type: "mic", status: "on" }, { type: "media", status: "connected" });
    assert.deepEqual(page.noticeKeys, ["avatar_lost"]);
  });

  it("offers the connection's check only where that can help", () => {
    const shown = (page: Page): boolean[] => notices(page.state).map(needsCheck);
    assert.deepEqual(shown(Page.talking().hear(notice("avatar_lost"), notice("offline_recogniser"))), [false, false]);
    assert.deepEqual(shown(Page.talking().do({ type: "media", status: "elsewhere" })), [false]);
    assert.deepEqual(shown(Page.talking().do({ type: "media", status: "reconnecting" })), [true]);
  });

  it("says lost and comes back", () => {
    const page = Page.talking().hear(agent("lost"), notice("agent_lost"));
    assert.equal(chip(page.state), "lost");
    assert.deepEqual(page.noticeKeys, ["agent_lost"]);
    page.hear(agent("listening"), notice("agent_back"));
    assert.equal(chip(page.state), "listening");
    assert.deepEqual(page.noticeKeys, ["agent_back"]);
    assert.deepEqual(page.after(10_000).noticeKeys, []);
  });

  it("keeps quiet about a blink of the WebSocket but not about a cut, however often it retries", () => {
    const page = Page.talking().do({ type: "socket", status: "retrying" });
    assert.equal(chip(page.state), "listening");
    page.after(1000).do({ type: "socket", status: "connecting" }, { type: "socket", status: "retrying" });
    assert.equal(chip(page.after(BLINK_MS).state), "reconnecting");
    assert.deepEqual(page.noticeKeys, ["words"]);
    page.do({ type: "socket", status: "open" });
    assert.equal(chip(page.state), "listening");
  });

  it("treats media and words apart", () => {
    const page = Page.talking().do({ type: "media", status: "reconnecting" }).hear(final(1, "still written"));
    assert.equal(chip(page.state), "reconnecting");
    assert.deepEqual(page.texts, ["still written"]);
    assert.deepEqual(page.noticeKeys, ["media"]);
  });
});

describe("trouble", () => {
  for (const mic of ["denied", "missing", "busy", "insecure", "off"] as const) {
    it(`offers text when the microphone is ${mic}`, () => {
      const page = Page.talking().do({ type: "mic", status: mic });
      const [shown] = notices(page.state);
      assert.ok(shown?.actions.some((action) => action.label === "Continue by text"));
      assert.deepEqual(page.do({ type: "dismiss", key: "mic" }).noticeKeys, []);
    });
  }

  it("offers to enable sound", () => {
    const page = Page.talking().do({ type: "playback", blocked: true });
    assert.deepEqual(notices(page.state)[0]?.actions, [{ id: "sound", label: "Enable sound" }]);
  });

  it("shows an expired, revoked or missing link as such, and a full one as a try later", () => {
    assert.equal(new Page({ state: "expired" }).state.phase, "blocked");
    assert.equal(new Page({ state: "revoked" }).state.blocked, "revoked");
    const late = new Page().do({ type: "talk" }, { type: "start.failed", code: "link_expired" });
    assert.equal(late.state.blocked, "expired");
    const full = new Page().do({ type: "talk" }, { type: "start.failed", code: "link_full" });
    assert.equal(full.state.phase, "lobby");
    assert.deepEqual(full.noticeKeys, ["start"]);
    assert.equal(new Page({ state: "full" }).noticeKeys.length, 1);
  });

  it("warns before the end, but not all through a short conversation", () => {
    const near = (seconds: number): string[] => {
      const page = Page.talking();
      page.state = { ...page.state, maxSeconds: seconds };
      return page.after((seconds - 30) * 1000).noticeKeys;
    };
    assert.deepEqual(near(180), ["limit_near"]);
    assert.deepEqual(near(120), []);
    assert.deepEqual(near(60), []);
  });

  it("says what to do about a full project and a name that is refused", () => {
    const title = (code: string) =>
      notices(new Page().do({ type: "talk" }, { type: "start.failed", code }).state)[0]?.title;
    assert.equal(title("project_full"), title("link_full"));
    assert.equal(title("invalid"), "This name cannot be used");
  });

  it("quietly offers a new talk when a reload finds the old one over", () => {
    const page = new Page().do({ type: "resume", sessionId: "s1" }, { type: "start.failed", code: "session_ended" });
    assert.equal(page.state.phase, "lobby");
    assert.deepEqual(page.noticeKeys, []);
  });
});

describe("the end", () => {
  it("does not thank for a talk that may still run, until the server says it is over", () => {
    const page = Page.talking().do({ type: "left" });
    assert.equal(endTitle(page.state), "Thank you for talking");
    page.do({ type: "left.refused" });
    assert.equal(endTitle(page.state), "You have left");
    page.hear(snapshot([], "ended"));
    assert.equal(page.state.unheard, false);
    assert.equal(page.do({ type: "talk" }).do({ type: "left.refused" }).state.unheard, false);
  });

  it("takes reason and length from the server", () => {
    const page = Page.talking().hear({ type: "session.state", ...stamp(61_000), state: "ended", reason: "silence" });
    assert.equal(page.state.reason, "silence");
    assert.equal(elapsed(page.after(5000).state), 61_000);
  });

  it("is learned from a snapshot as well", () => {
    const page = Page.talking().hear(snapshot([segment(1, "one")], "ended"));
    assert.equal(page.state.phase, "ended");
    assert.equal(page.state.reason, "time_limit");
    assert.equal(elapsed(page.state), 90_000);
    assert.deepEqual(page.texts, ["one"]);
  });

  it("keeps nothing once erased", () => {
    const page = Page.talking().hear(final(1, "secret")).do({ type: "left" }, { type: "erase", status: "erased" });
    assert.deepEqual(page.texts, []);
    assert.equal(page.state.sessionId, null);
  });

  it("starts afresh on Talk again", () => {
    const page = Page.talking().hear(final(1, "old")).do({ type: "left" }, { type: "talk" });
    assert.equal(page.state.phase, "starting");
    assert.deepEqual(page.texts, []);
    assert.equal(page.state.lastSeq, 0);
  });

  it("tells a session that is not this browser's from one that is over", () => {
    assert.equal(Page.talking().do({ type: "socket.over", code: 4404 }).state.foreign, true);
    assert.equal(Page.talking().do({ type: "socket.over", code: 4410 }).state.foreign, false);
  });
});

describe("what is spoken right now", () => {
  it("captions whoever began last, and the last line for a moment", () => {
    const page = Page.talking();
    assert.equal(caption(page.state), null);
    page.hear(partial("a1", "Hello", 1_000), partial("u1", "Wait", 2_000, "user"));
    assert.deepEqual(caption(page.state), { role: "user", text: "Wait" });
    page.hear(final(1, "Hello.", { segment_id: "a1" }), final(2, "Wait.", { segment_id: "u1", role: "user" }));
    assert.deepEqual(caption(page.state), { role: "user", text: "Wait." });
    assert.equal(caption(page.after(CAPTION_MS + 100).state), null);
  });
});

describe("a microphone that goes and comes", () => {
  it("says which one took over, for a while", () => {
    const page = Page.talking().do({ type: "mic.moved", label: "Webcam" });
    assert.match(notices(page.state)[0]?.text ?? "", /Webcam is used now/);
    assert.deepEqual(notices(page.after(11_000).state), []);
  });

  it("wants one back unless the visitor has settled for text", () => {
    const page = Page.talking();
    assert.equal(wantsMicrophone(page.state), false);
    page.do({ type: "mic", status: "missing" });
    assert.equal(wantsMicrophone(page.state), true);
    page.do({ type: "dismiss", key: "mic" });
    assert.equal(wantsMicrophone(page.state), false);
    page.do({ type: "mic", status: "off" });
    assert.equal(notices(page.state)[0]?.key, "mic", "another trouble is said again");
  });
});

it("keeps the times of each turn once and in order", () => {
  const times = (turn: number, total_ms: number): ServerEvent => ({
    ...stamp(0),
    type: "turn.metrics",
    ...{ turn, total_ms, endpointing_ms: null, stt_ms: null, llm_ms: total_ms, tts_ms: null, avatar_ms: null },
  });
  const page = Page.talking().hear(times(2, 500), times(1, 700), times(2, 600));
  assert.deepEqual(
    page.state.turns.map(({ turn, total_ms }) => [turn, total_ms]),
    [
      [1, 700],
      [2, 600],
    ],
  );
  assert.deepEqual(page.do({ type: "left" }, { type: "talk" }).state.turns, []);
});
