/** Follows a running conversation through the WebSocket that visitors have: its words, its state, its timeline. */

import { clock } from "../shared/clock.ts";
import { element } from "../shared/dom.ts";
import type {
  AgentStateName,
  EndReason,
  NoticeEvent,
  SegmentData,
  ServerEvent,
  SessionState,
  SnapshotEvent,
  TranscriptPartial,
  TurnMetrics,
} from "../shared/events.ts";
import { SessionSocket, type SocketStatus, socketUrl } from "../shared/socket.ts";
import type { TalkData } from "./data.ts";
import { Lines } from "./lines.ts";
import { make } from "./make.ts";
import type { Timeline } from "./timeline.ts";
import type { Waits } from "./waits.ts";

const TICK_MS = 1_000;

export class Follower {
  private readonly lines: Lines;
  private lastSeq: number;
  private over = false;
  /** Between the conversation's clock and the page's. */
  private offsetMs: number;
  /** Where the axis ends. */
  private endMs: number;
  private tick = 0;

  constructor(
    private readonly data: TalkData,
    private readonly timeline: Timeline,
    private readonly waits: Waits,
  ) {
    this.lines = new Lines(data.names);
    this.lastSeq = data.last_seq;
    this.endMs = data.now_ms;
    this.offsetMs = data.now_ms - performance.now();
  }

  start(path: string): void {
    this.tick = window.setInterval(() => this.place(), TICK_MS);
    new SessionSocket(socketUrl(path, window.location), {
      lastSeq: () => this.lastSeq,
      onEvent: (event) => this.hear(event),
      onStatus: (status) => this.showLink(status),
      onOver: () => {
        if (!this.over) element("link-state").textContent = "no longer following: load the page again";
        this.stop();
      },
    }).open();
  }

  private stop(): void {
    this.over = true;
    window.clearInterval(this.tick);
  }

  private hear(event: ServerEvent): void {
    if (event.type === "snapshot") this.hearSnapshot(event);
    else if (event.type === "transcript.partial") this.hearPartial(event);
    else if (event.type === "transcript.final") this.hearSegment(event);
    else if (event.type === "agent.state") this.showAgent(event.state);
    else if (event.type === "session.state") this.showState(event.state, event.reason);
    else if (event.type === "turn.metrics") this.hearTurn(event);
    else if (event.type === "notice") this.hearNotice(event);
  }

  private hearSnapshot({ offset_ms, segments, session }: SnapshotEvent): void {
    this.offsetMs = offset_ms - performance.now();
    for (const segment of segments) this.hearSegment(segment);
    this.showAgent(session.agent_state);
    this.showState(session.state, session.reason);
  }

  private hearPartial({ segment_id: id, role, text, offset_ms: atMs }: TranscriptPartial): void {
    this.lines.speak(id, role, text, atMs);
    this.timeline.speak(id, role, atMs);
  }

  private hearSegment(segment: SegmentData): void {
    if (segment.seq <= this.lastSeq) return;
    this.lastSeq = segment.seq;
    this.lines.addSegment(segment);
    this.timeline.addSegment(segment);
    element("fact-lines").textContent = String(this.lastSeq);
    if (segment.interrupted) countUp("fact-cuts");
    if (this.over) this.timeline.place(this.endMs); // the last lines settle after the end
  }

  private hearTurn(turn: TurnMetrics): void {
    element("waits").hidden = false;
    element("no-waits").hidden = true;
    this.waits.add(turn);
    countUp("fact-turns");
  }

  private hearNotice({ level, code, text, offset_ms: atMs }: NoticeEvent): void {
    element("no-notices").hidden = true;
    const words = [make("span", { class: "at" }, clock(atMs)), ` ${text} `, make("code", {}, code)];
    element("notices").append(make("li", { class: level }, ...words));
    this.timeline.addNotice({ at_ms: atMs, level, text });
  }

  private showAgent(state: AgentStateName): void {
    if (!this.over) element("agent-state").textContent = this.data.labels.agent_states[state];
  }

  private showState(state: SessionState, reason: EndReason | null): void {
    const { text, tone } = this.data.labels.states[state] ?? { text: state, tone: "quiet" }; // of a newer server
    element("state-chip").replaceChildren(make("span", { class: `chip chip-${tone}` }, text));
    if (this.over || (state !== "ended" && state !== "failed")) return;
    this.place();
    this.stop();
    this.lines.endSpeaking();
    this.timeline.endSpeaking();
    element("agent-state").textContent = reason ? this.data.labels.reasons[reason] : "";
    element("link-state").replaceChildren(make("a", { href: window.location.pathname }, "Show the whole record"));
    document.getElementById("steer")?.remove();
  }

  private showLink(status: SocketStatus): void {
    if (this.over) return;
    if (status === "open") element("link-state").textContent = "following live";
    if (status === "retrying") element("link-state").textContent = "the connection is lost, trying again…";
  }

  /** The axis ends at this moment. */
  private place(): void {
    this.endMs = Math.round(performance.now() + this.offsetMs);
    this.timeline.place(this.endMs);
    element("fact-lasted").textContent = clock(this.endMs);
  }
}

function countUp(id: string): void {
  const fact = element(id);
  fact.textContent = String(Number(fact.textContent) + 1);
}
