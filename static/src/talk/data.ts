/** What the server wrote into the page of one conversation. */

import { element } from "../shared/dom.ts";
import type { AgentStateName, EndReason, NoticeLevel, Role, SegmentData, SessionState } from "../shared/events.ts";
import type { Part, TurnTimes } from "../shared/turns.ts";

/** A notice at its moment on the axis. */
export interface NoticeMark {
  at_ms: number;
  level: NoticeLevel;
  text: string;
}

/** The lines on the page and the notices beside them, and from when to when they are drawn. */
export interface TimelineData {
  start_ms: number;
  end_ms: number;
  segments: SegmentData[];
  notices: NoticeMark[];
}

export interface StateChip {
  text: string;
  tone: string;
}

/** What the admin calls things; `parts` in the order in which an answer comes about. */
export interface Labels {
  states: Record<SessionState, StateChip>;
  reasons: Record<EndReason, string>;
  agent_states: Record<AgentStateName, string>;
  parts: Record<Part, string>;
}

export interface TalkData {
  /** Where the page hears of what happens; null: it is over, or an older part of it is shown. */
  ws_path: string | null;
  last_seq: number;
  /** How long it has lasted when the page was made. */
  now_ms: number;
  names: Record<Role, string>;
  timeline: TimelineData;
  /** Those of the table's rows, in their order. */
  turns: TurnTimes[];
  labels: Labels;
}

export function readData(): TalkData {
  return JSON.parse(element("talk-data").textContent ?? "") as TalkData;
}
