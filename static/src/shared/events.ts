/** What the server tells a page, as types. Made by `make exports` from sessions/events.py: edit that. */

export type AgentStateName = "initializing" | "listening" | "thinking" | "speaking" | "lost";
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
export type NoticeLevel = "info" | "warning" | "error";
export type Role = "user" | "agent";
export type SessionState = "waiting" | "active" | "ended" | "failed";

/** What a page must know of a session to draw itself. */
export interface SessionData {
  id: string;
  state: SessionState;
  reason: EndReason | null;
  agent_name: string;
  agent_state: AgentStateName;
  started_at: string;
  ended_at: string | null;
  max_seconds: number | null;
}

/** A settled utterance. Times are milliseconds since the session's start. */
export interface SegmentData {
  seq: number;
  segment_id: string;
  role: Role;
  text: string;
  start_ms: number;
  end_ms: number;
  interrupted: boolean;
  revised: boolean;
}

/** First message of every connection: the session and the segments after `?after=`. */
export interface SnapshotEvent {
  at: string;
  offset_ms: number;
  type: "snapshot";
  session: SessionData;
  segments: SegmentData[];
  last_seq: number;
}

export interface TranscriptPartial {
  at: string;
  offset_ms: number;
  type: "transcript.partial";
  segment_id: string;
  role: Role;
  text: string;
}

export interface TranscriptFinal {
  at: string;
  offset_ms: number;
  type: "transcript.final";
  seq: number;
  segment_id: string;
  role: Role;
  text: string;
  start_ms: number;
  end_ms: number;
  interrupted: boolean;
  revised: boolean;
}

export interface AgentStateEvent {
  at: string;
  offset_ms: number;
  type: "agent.state";
  state: AgentStateName;
}

export interface SessionStateEvent {
  at: string;
  offset_ms: number;
  type: "session.state";
  state: SessionState;
  reason: EndReason | null;
}

/** Parts are disjoint and sum to the measured total within 50 ms; unknown = null. */
export interface TurnMetrics {
  at: string;
  offset_ms: number;
  type: "turn.metrics";
  turn: number;
  endpointing_ms: number | null;
  stt_ms: number | null;
  llm_ms: number | null;
  tts_ms: number | null;
  avatar_ms: number | null;
  total_ms: number | null;
}

/** Cost so far; null until everything used is priced. */
export interface UsageEvent {
  at: string;
  offset_ms: number;
  type: "usage";
  cost: string | null;
  currency: string;
}

export interface NoticeEvent {
  at: string;
  offset_ms: number;
  type: "notice";
  level: NoticeLevel;
  code: NoticeCode;
  text: string;
}

/** The answer to a message that a reader sends, to that reader alone: what happens would still reach it. */
export interface Pong {
  at: string;
  offset_ms: number;
  type: "pong";
}

export type ServerEvent =
  | SnapshotEvent
  | TranscriptPartial
  | TranscriptFinal
  | AgentStateEvent
  | SessionStateEvent
  | TurnMetrics
  | UsageEvent
  | NoticeEvent
  | Pong;

/** The `type` of each of them. */
export const EVENT_TYPES: ReadonlySet<string> = new Set<ServerEvent["type"]>([
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
