/** What can be read off the state: nothing of it is stored twice. */

import type { Role } from "../shared/events.ts";
import { sameWords } from "./format.ts";
import type { Partial, State } from "./state.ts";
import type { Typed } from "./typed.ts";

/** A line that waits so long for the way through the room goes by the server. */
export const DETOUR_MS = 4_000;
/** The page itself says that the agent is late by then, should the server be unable to. */
export const LATE_MS = 8_000;
/** A server that is well begins sooner. */
export const SLOW_START_MS = 5_000;
/** Cuts shorter than this are not worth a word. */
export const BLINK_MS = 1_500;
/** A caption stays for this long after its last word. */
export const CAPTION_MS = 4_000;

/** Milliseconds since the session's start, by the server's clock. */
export function elapsed(state: State): number {
  if (state.phase === "ended" && state.endedMs !== null) return state.endedMs;
  return state.sessionId ? state.offsetMs + (state.now - state.at) : 0;
}

export function remaining(state: State): number | null {
  return state.maxSeconds === null ? null : Math.max(0, state.maxSeconds * 1000 - elapsed(state));
}

export function agentIsHere(state: State): boolean {
  return state.agentState === "listening" || state.agentState === "thinking" || state.agentState === "speaking";
}

export function isLate(state: State): boolean {
  if (agentIsHere(state) || state.agentState === "lost") return false;
  if (state.notices.some((notice) => notice.code === "agent_late")) return true;
  return !state.agentInRoom && state.now - state.liveSince > LATE_MS;
}

/** Whether the server takes long to begin. */
export function startIsSlow(state: State): boolean {
  return state.phase === "starting" && state.askedAt !== null && state.now - state.askedAt > SLOW_START_MS;
}

export function wordsAreCut(state: State): boolean {
  return state.socket !== "open" && state.socket !== "idle" && state.now - state.socketSince > BLINK_MS;
}

export interface Caption {
  role: Role;
  text: string;
}

/** The words being spoken, or spoken a moment ago. Who began last has the word. */
export function caption(state: State): Caption | null {
  if (state.phase !== "live") return null;
  const speaking = state.partials.reduce<Partial | null>(
    (last, partial) => (last && last.startMs > partial.startMs ? last : partial),
    null,
  );
  if (speaking) return { role: speaking.role, text: speaking.text };
  const said = state.segments.at(-1);
  return said && elapsed(state) - said.end_ms < CAPTION_MS ? { role: said.role, text: said.text } : null;
}

/** Whether a microphone that turns up now should be opened: there was none, and the visitor has not settled for text. */
export function wantsMicrophone(state: State): boolean {
  const broken = state.mic === "missing" || state.mic === "busy" || state.mic === "denied";
  return state.phase === "live" && state.media !== "elsewhere" && broken && !state.dismissed.includes("mic");
}

export type Chip =
  | "connecting"
  | "waiting"
  | "listening"
  | "thinking"
  | "speaking"
  | "late"
  | "lost"
  | "reconnecting"
  | "elsewhere"
  | "ended";

/** The one word on where the conversation stands; null outside of one. */
export function chip(state: State): Chip | null {
  if (state.phase === "lobby" || state.phase === "blocked") return null;
  if (state.phase === "starting") return "connecting";
  if (state.phase === "ended") return "ended";
  if (state.media === "elsewhere") return "elsewhere";
  if (state.media === "reconnecting" || wordsAreCut(state)) return "reconnecting";
  if (state.agentState === "lost") return "lost";
  if (isLate(state)) return "late";
  if (state.media === "connecting" || state.media === "idle") return "connecting";
  if (state.agentState === "initializing") return "waiting";
  return state.agentState;
}

/** Partial words of both, without what the visitor typed: that stands there already, until the transcript holds it. */
export const shownPartials = (state: State): readonly Partial[] =>
  state.partials.filter(
    ({ role, text }) => role !== "user" || !state.typed.some((typed) => sameWords(typed.text, text)),
  );

/** How typed words that have waited for so long travel now; null: keep them until somebody is there to read them. */
export function route(state: State, waitedMs = 0): "chat" | "http" | null {
  if (state.phase !== "live" || !agentIsHere(state)) return null;
  if (state.media === "connected" && state.agentInRoom) return "chat";
  const roomIsNear = state.media === "connected" || state.media === "connecting";
  return roomIsNear && waitedMs < DETOUR_MS ? null : "http";
}

/** The line to send now, and how. */
export function nextTyped(state: State): { line: Typed; way: "chat" | "http" } | null {
  if (state.typed.some((line) => line.status === "sending")) return null;
  const line = state.typed.find(({ status }) => status === "queued");
  const way = line ? route(state, state.now - line.since) : null;
  return line && way ? { line, way } : null;
}

/** Lines that the visitor may send again. */
export const undelivered = (state: State): readonly Typed[] =>
  state.typed.filter(({ status }) => status === "unconfirmed" || status === "failed");
