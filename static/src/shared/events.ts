/** What the server tells a page, as types. The Python side of the same contract is `sessions/events.py`. */

export type Role = "user" | "agent";
export type AgentState = "initializing" | "listening" | "thinking" | "speaking" | "lost";
export type SessionState = "waiting" | "active" | "ended" | "failed";
export type EndReason =
  | "visitor_left"
  | "ended_by_user"
  | "ended_by_api"
  | "silence"
  | "time_limit"
  | "no_agent"
  | "agent_lost"
  | "budget"
  | "error";
export type NoticeLevel = "info" | "warning" | "error";
export type NoticeCode =
  | "agent_late"
  | "agent_lost"
  | "agent_back"
  | "avatar_lost"
  | "avatar_back"
  | "stt_fallback"
  | "llm_fallback"
  | "tts_fallback"
  | "stt_lost"
  | "stt_back"
  | "llm_lost"
  | "llm_back"
  | "tts_lost"
  | "tts_back"
  | "offline_recogniser"
  | "too_fast"
  | "recording"
  | "limit_near";

/** A settled utterance; times are milliseconds since the session's start. */
export interface Segment {
  seq: number;
  segment_id: string;
  role: Role;
  text: string;
  start_ms: number;
  end_ms: number;
  interrupted: boolean;
  revised: boolean;
}

export interface SessionData {
  id: string;
  state: SessionState;
  reason: EndReason | null;
  agent_name: string;
  agent_state: AgentState;
  started_at: string;
  ended_at: string | null;
  max_seconds: number | null;
}

interface Stamped {
  at: string;
  offset_ms: number;
}

export type Snapshot = Stamped & { type: "snapshot"; session: SessionData; segments: Segment[]; last_seq: number };
export type TranscriptPartial = Stamped & {
  type: "transcript.partial";
  segment_id: string;
  role: Role;
  text: string;
};
export type TranscriptFinal = Stamped & { type: "transcript.final" } & Segment;
export type AgentStateEvent = Stamped & { type: "agent.state"; state: AgentState };
export type SessionStateEvent = Stamped & { type: "session.state"; state: SessionState; reason: EndReason | null };
/** How long each part of an answer took, one after the other; null is unknown, or had no part in it. */
export interface TurnTimes {
  turn: number;
  endpointing_ms: number | null;
  stt_ms: number | null;
  llm_ms: number | null;
  tts_ms: number | null;
  avatar_ms: number | null;
  total_ms: number | null;
}
export type TurnMetrics = Stamped & { type: "turn.metrics" } & TurnTimes;
export type Usage = Stamped & { type: "usage"; cost: string | null; currency: string };
export type Notice = Stamped & { type: "notice"; level: NoticeLevel; code: NoticeCode; text: string };
/** The answer to this page's own question whether anybody is there. */
export type Pong = Stamped & { type: "pong" };

export type ServerEvent =
  | Snapshot
  | TranscriptPartial
  | TranscriptFinal
  | AgentStateEvent
  | SessionStateEvent
  | TurnMetrics
  | Usage
  | Notice
  | Pong;

const known: ReadonlySet<string> = new Set<ServerEvent["type"]>([
  "snapshot",
  "transcript.partial",
  "transcript.final",
  "agent.state",
  "session.state",
  "turn.metrics",
  "usage",
  "notice",
  "pong",
]);

/** The event in `text`, or null for anything this page does not know: a newer server must not break an open page. */
export function parseEvent(text: string): ServerEvent | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null || !("type" in value)) return null;
  return typeof value.type === "string" && known.has(value.type) ? (value as ServerEvent) : null;
}
