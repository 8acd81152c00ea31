/**
 * Everything the page knows, and the one function that changes it.
 *
 * Media facts come from LiveKit, words and session facts from the WebSocket; both end up here as actions, so that the
 * two may fail and recover independently. `reduce` is pure: time enters as `now` (milliseconds), never by a clock call.
 */

import type {
  AgentStateName,
  EndReason,
  NoticeCode,
  NoticeLevel,
  Role,
  SegmentData,
  ServerEvent,
  SessionState,
} from "../shared/events.ts";
import { defaults, type Settings } from "../shared/settings.ts";
import type { SocketStatus } from "../shared/socket.ts";
import type { TurnTimes } from "../shared/turns.ts";
import type { Boot } from "./boot.ts";
import { elapsed } from "./facts.ts";
import type { Surroundings } from "./frame.ts";
import { setTyped, type Typed, withoutFirst, withoutHope } from "./typed.ts";

export type Phase = "lobby" | "starting" | "live" | "ended" | "blocked";
export type MediaStatus = "idle" | "connecting" | "connected" | "reconnecting" | "elsewhere";
export type MicStatus =
  | "off"
  | "asking"
  | "on"
  | "muted"
  | "denied"
  | "missing"
  | "busy"
  | "insecure"
  | "kept-by-frame"
  | "kept-by-header";
export type EraseStatus = "none" | "asking" | "erasing" | "erased" | "failed";
export type Blocked = "expired" | "revoked" | "gone" | "over" | "claimed" | "sandboxed";

export interface Partial {
  segment_id: string;
  role: Role;
  text: string;
  startMs: number;
}

export interface ServerNotice {
  code: NoticeCode;
  level: NoticeLevel;
  text: string;
  at: number;
}

/** The microphone that took the place of one that went away. */
export interface MicrophoneMoved {
  label: string;
  at: number;
}

export interface State {
  phase: Phase;
  settings: Settings;
  /** Whether the times of each turn are shown. */
  timing: boolean;
  /** A program has made this one conversation; when it is over, there is no other. */
  invited: boolean;
  around: Surroundings;
  blocked: Blocked | null;
  startError: string | null;
  resumed: boolean;
  /** The visitor writes: no microphone is asked for, and none is missed. */
  typing: boolean;
  /** When the server was asked to begin; null before. */
  askedAt: number | null;
  agentName: string;
  sessionId: string | null;
  wsPath: string | null;
  sessionState: SessionState | null;
  reason: EndReason | null;
  /** The session cannot be shown to this browser (any more). */
  foreign: boolean;
  agentState: AgentStateName;
  agentInRoom: boolean;
  avatarVideo: boolean;
  media: MediaStatus;
  socket: SocketStatus;
  socketSince: number;
  mic: MicStatus;
  micMoved: MicrophoneMoved | null;
  turns: readonly TurnTimes[];
  audioBlocked: boolean;
  segments: readonly SegmentData[];
  partials: readonly Partial[];
  typed: readonly Typed[];
  lastSeq: number;
  notices: readonly ServerNotice[];
  dismissed: readonly string[];
  erase: EraseStatus;
  maxSeconds: number | null;
  /** The session's clock: `offsetMs` was true at `at`. */
  offsetMs: number;
  at: number;
  liveSince: number;
  endedMs: number | null;
  /** The visitor has left, but the server could not be told: it may not be over there. */
  unheard: boolean;
  now: number;
}

export type Change =
  | { type: "talk"; typing?: boolean }
  | { type: "typing" }
  | { type: "resume"; sessionId: string; typing?: boolean }
  | { type: "start.failed"; code: string }
  | { type: "cancel" }
  | { type: "asked" }
  | { type: "started"; sessionId: string; wsPath: string }
  | { type: "event"; event: ServerEvent }
  | { type: "socket"; status: SocketStatus; silentMs?: number | undefined }
  | { type: "socket.over"; code: number }
  | { type: "media"; status: MediaStatus }
  | { type: "agent.media"; present: boolean; video: boolean }
  | { type: "mic"; status: MicStatus }
  | { type: "mic.moved"; label: string }
  | { type: "settings"; settings: globalThis.Partial<Settings> }
  | { type: "timing"; shown: boolean }
  | { type: "playback"; blocked: boolean }
  | { type: "typed"; id: string; text: string }
  | { type: "typed.status"; id: string; status: Typed["status"] }
  | { type: "typed.too_fast"; id: string }
  | { type: "dismiss"; key: string }
  | { type: "left" }
  | { type: "left.refused" }
  | { type: "over" }
  | { type: "erase"; status: EraseStatus }
  | { type: "tick" };

export type Action = Change & { now: number };

const NEWS_MS = 6_000;
const MOVED_MS = 10_000;

const byItself: Surroundings = { framed: false, missing: [] };

export function initialState(boot: Boot, now: number, settings: Settings = defaults, around = byItself): State {
  const dead = boot.state === "expired" || boot.state === "revoked" ? boot.state : null;
  const blocked: Blocked | null = around.missing.length ? "sandboxed" : dead;
  return {
    phase: blocked ? "blocked" : "lobby",
    settings,
    timing: false,
    invited: boot.state === "invited",
    around,
    blocked,
    startError: boot.state === "full" ? "link_full" : null,
    agentName: boot.agent.name,
    maxSeconds: boot.max_seconds,
    ...fresh(now),
  };
}

/** What belongs to one conversation. */
function fresh(now: number) {
  return {
    resumed: false,
    typing: false,
    askedAt: null,
    sessionId: null,
    wsPath: null,
    sessionState: null,
    reason: null,
    foreign: false,
    agentState: "initializing",
    agentInRoom: false,
    avatarVideo: false,
    media: "idle",
    socket: "idle",
    socketSince: now,
    mic: "off",
    micMoved: null,
    turns: [],
    audioBlocked: false,
    segments: [],
    partials: [],
    typed: [],
    lastSeq: 0,
    notices: [],
    dismissed: [],
    erase: "none",
    offsetMs: 0,
    at: now,
    liveSince: now,
    endedMs: null,
    unheard: false,
    now,
  } as const satisfies globalThis.Partial<State>;
}

export function reduce(state: State, action: Action): State {
  const { now } = action;
  switch (action.type) {
    case "talk": {
      const { typing = false } = action;
      const said = state.dismissed.filter((key) => key === SAID_ONCE);
      const dismissed = typing ? [...said, "mic"] : said;
      return { ...state, ...fresh(now), typing, dismissed, phase: "starting", startError: null };
    }
    case "typing":
      return { ...state, typing: true, mic: "off", dismissed: [...state.dismissed, "mic"], now };
    case "resume":
      return {
        ...state,
        ...fresh(now),
        phase: "starting",
        startError: null,
        resumed: true,
        typing: action.typing ?? false,
        dismissed: action.typing ? ["mic"] : [],
        sessionId: action.sessionId,
      };
    case "start.failed":
      return startFailed(state, action.code, now);
    case "cancel":
      return { ...state, ...fresh(now), phase: "lobby", startError: null };
    case "asked":
      return { ...state, askedAt: now, now };
    case "started":
      return {
        ...state,
        phase: "live",
        sessionId: action.sessionId,
        wsPath: action.wsPath,
        sessionState: "waiting",
        at: now,
        liveSince: now,
        now,
      };
    case "event":
      return receive({ ...state, now }, action.event);
    case "socket":
      return setSocket(state, action.status, action.silentMs ?? 0, now);
    case "socket.over":
      return socketOver({ ...state, socket: "closed", now }, action.code);
    case "media":
      return { ...state, media: action.status, now };
    case "agent.media":
      return { ...state, agentInRoom: action.present, avatarVideo: action.video, now };
    case "mic":
      return setMicrophone({ ...state, now }, action.status);
    case "mic.moved":
      return {
        ...state,
        micMoved: { label: action.label, at: now },
        dismissed: without(state.dismissed, "mic_moved"),
        now,
      };
    case "settings":
      return { ...state, settings: { ...state.settings, ...action.settings }, now };
    case "timing":
      return { ...state, timing: action.shown, now };
    case "playback":
      return { ...state, audioBlocked: action.blocked, now };
    case "typed":
      return { ...state, typed: [...state.typed, newTyped(state, action.id, action.text, now)], now };
    case "typed.status":
      return { ...state, typed: setTyped(state.typed, action.id, action.status, now), now };
    case "typed.too_fast": {
      const typed = setTyped(state.typed, action.id, "failed", now);
      return notify({ ...state, typed, now }, { code: "too_fast", level: "info", text: "" });
    }
    case "dismiss":
      return { ...state, dismissed: [...state.dismissed, action.key], now };
    case "left":
      return end(state, "ended_by_user", now);
    case "left.refused":
      return state.phase === "ended" ? { ...state, unheard: true, now } : state;
    case "over":
      return end(state, state.reason, now);
    case "erase":
      return action.status === "erased" ? erased(state, now) : { ...state, erase: action.status, now };
    case "tick":
      return tick({ ...state, now });
  }
}

/** Notices about the microphone: each change of it is news. */
const MIC_KEYS: readonly string[] = ["mic", "mic_kept"];

/** One that is switched on ends the typing; one that is not wanted is not missed. */
function setMicrophone(state: State, mic: MicStatus): State {
  const typing = state.typing && mic !== "asking" && mic !== "on" && mic !== "muted";
  return {
    ...state,
    mic,
    typing,
    dismissed: typing ? state.dismissed : state.dismissed.filter((key) => !MIC_KEYS.includes(key)),
  };
}

function startFailed(state: State, code: string, now: number): State {
  const base: State = { ...state, ...fresh(now), startError: null };
  if (code === "link_expired") return { ...base, phase: "blocked", blocked: "expired" };
  if (code === "link_revoked") return { ...base, phase: "blocked", blocked: "revoked" };
  if (code === "not_found") return { ...base, phase: "blocked", blocked: "gone" };
  // A reload that finds its conversation over simply offers a new one.
  if (code === "session_ended" && state.resumed) return { ...base, phase: "lobby" };
  if (code === "session_ended" && state.invited) return { ...base, phase: "blocked", blocked: "over" };
  if (code === "link_claimed") return { ...base, phase: "blocked", blocked: "claimed" };
  return { ...base, phase: "lobby", startError: code };
}

function receive(state: State, event: ServerEvent): State {
  const timed = { ...state, offsetMs: event.offset_ms, at: state.now };
  switch (event.type) {
    case "snapshot": {
      const { session } = event;
      const joined = event.segments.reduce(settle, {
        ...timed,
        partials: [],
        agentName: session.agent_name || state.agentName,
        sessionState: session.state,
        maxSeconds: session.max_seconds,
      });
      const next = setAgent({ ...joined, lastSeq: Math.max(joined.lastSeq, event.last_seq) }, session.agent_state);
      return isOver(session.state)
        ? end(next, session.reason, state.now, lengthOf(session.started_at, session.ended_at))
        : next;
    }
    case "transcript.partial":
      return state.phase === "ended" ? timed : grow(timed, event);
    case "transcript.final":
      return settle(timed, event);
    case "agent.state":
      return setAgent(timed, event.state);
    case "session.state": {
      const next = { ...timed, sessionState: event.state };
      return isOver(event.state) ? end(next, event.reason, state.now, event.offset_ms) : next;
    }
    case "notice":
      return notify(timed, event);
    case "turn.metrics":
      return { ...timed, turns: addTurn(state.turns, event) };
    case "usage":
    case "pong":
      return timed;
  }
}

const isOver = (state: SessionState | null): boolean => state === "ended" || state === "failed";

function lengthOf(start: string, end: string | null): number | null {
  const length = end ? Date.parse(end) - Date.parse(start) : Number.NaN;
  return Number.isFinite(length) ? length : null;
}

/** A final is the last word on its segment; a partial that comes after it is old news. */
function grow(state: State, event: { segment_id: string; role: Role; text: string; offset_ms: number }): State {
  if (state.segments.some((segment) => segment.segment_id === event.segment_id)) return state;
  const known = state.partials.find((partial) => partial.segment_id === event.segment_id);
  if (known) {
    const partials = state.partials.map((partial) => (partial === known ? { ...known, text: event.text } : partial));
    return { ...state, partials };
  }
  const { segment_id, role, text } = event;
  return { ...state, partials: [...state.partials, { segment_id, role, text, startMs: event.offset_ms }] };
}

/** Puts a final where its `seq` belongs. The same one twice changes nothing; a revision replaces its elder. */
function settle(state: State, final: SegmentData): State {
  const elder = state.segments.find((segment) => segment.segment_id === final.segment_id);
  if (elder && (final.seq < elder.seq || (final.seq === elder.seq && !final.revised))) return state;
  const { seq, segment_id, role, text, start_ms, end_ms, interrupted, revised } = final;
  const segment: SegmentData = { seq, segment_id, role, text, start_ms, end_ms, interrupted, revised };
  const segments = [...state.segments.filter((other) => other !== elder), segment].sort((a, b) => a.seq - b.seq);
  return {
    ...state,
    segments,
    partials: state.partials.filter((partial) => !isOutdated(partial, segment)),
    typed: role === "user" ? withoutFirst(state.typed, text) : state.typed,
    lastSeq: Math.max(state.lastSeq, seq),
  };
}

/** One speaker says one thing at a time: what began before this final and is not it will never settle. */
function isOutdated(partial: Partial, final: SegmentData): boolean {
  if (partial.segment_id === final.segment_id) return true;
  return partial.role === final.role && partial.startMs < final.start_ms;
}

function setAgent(state: State, agentState: AgentStateName): State {
  const here = agentState === "listening" || agentState === "thinking" || agentState === "speaking";
  const gone: readonly NoticeCode[] = ["agent_late", "agent_lost"];
  const notices = here ? state.notices.filter((notice) => !gone.includes(notice.code)) : state.notices;
  return { ...state, agentState, notices };
}

const answers: { readonly [code in NoticeCode]?: readonly NoticeCode[] } = {
  agent_back: ["agent_late", "agent_lost"],
  avatar_back: ["avatar_lost"],
  agent_lost: ["agent_back", "agent_late"],
  agent_late: ["agent_back"],
  avatar_lost: ["avatar_back"],
  stt_back: ["stt_lost"],
  llm_back: ["llm_lost"],
  tts_back: ["tts_lost"],
  stt_lost: ["stt_back"],
  llm_lost: ["llm_back"],
  tts_lost: ["tts_back"],
};

/** True of every conversation here: whoever has put it away need not do so in the next. */
const SAID_ONCE: NoticeCode = "offline_recogniser";

const without = (keys: readonly string[], key: string): readonly string[] => keys.filter((other) => other !== key);

function addTurn(turns: readonly TurnTimes[], turn: TurnTimes): readonly TurnTimes[] {
  return [...turns.filter((other) => other.turn !== turn.turn), turn].sort((a, b) => a.turn - b.turn);
}

function notify(state: State, event: { code: NoticeCode; level: NoticeLevel; text: string }): State {
  const { code, level, text } = event;
  const answered = answers[code] ?? [];
  const rest = state.notices.filter((notice) => notice.code !== code && !answered.includes(notice.code));
  // A face that nobody was told to miss is no news: it is seen to move.
  const isNews = code !== "avatar_back" || state.notices.some(isLostFace);
  return {
    ...state,
    notices: isNews ? [...rest, { code, level, text, at: state.now }] : rest,
    dismissed: code === SAID_ONCE ? state.dismissed : without(state.dismissed, code),
  };
}

/** Of level info it is not lost but still to come. */
const isLostFace = ({ code, level }: ServerNotice): boolean => code === "avatar_lost" && level !== "info";

function newTyped(state: State, id: string, text: string, now: number): Typed {
  return { id, text, status: "queued", atMs: elapsed({ ...state, now }), since: now };
}

/** `socketSince` is when the words were cut or came back, however many tries lie between. */
function setSocket(state: State, status: SocketStatus, silentMs: number, now: number): State {
  const same = state.socket !== "idle" && (state.socket === "open") === (status === "open");
  return { ...state, socket: status, socketSince: same ? state.socketSince : now - silentMs, now };
}

function socketOver(state: State, code: number): State {
  if (state.phase === "ended") return state;
  return end({ ...state, foreign: code !== 4410 }, state.reason, state.now);
}

function end(state: State, reason: EndReason | null, now: number, lengthMs: number | null = null): State {
  const first = state.phase !== "ended";
  return {
    ...state,
    phase: "ended",
    sessionState: isOver(state.sessionState) ? state.sessionState : "ended",
    // The server's word replaces the guess made when Leave was pressed.
    reason: reason ?? state.reason,
    endedMs: lengthMs ?? (first ? elapsed({ ...state, now }) : state.endedMs),
    unheard: false,
    media: "idle",
    mic: "off",
    audioBlocked: false,
    agentInRoom: false,
    avatarVideo: false,
    partials: [],
    typed: [],
    notices: [],
    now,
  };
}

function erased(state: State, now: number): State {
  return { ...state, segments: [], partials: [], typed: [], erase: "erased", sessionId: null, now };
}

function tick(state: State): State {
  const { now } = state;
  const isOld = (notice: ServerNotice): boolean => passing.includes(notice.code) && now - notice.at >= NEWS_MS;
  // Lists that stay as they are stay the same objects: nothing is drawn anew twice a second.
  const typed = withoutHope(state.typed, now);
  const micMoved = state.micMoved && now - state.micMoved.at >= MOVED_MS ? null : state.micMoved;
  const notices = state.notices.some(isOld) ? state.notices.filter((notice) => !isOld(notice)) : state.notices;
  return { ...state, typed, notices, micMoved };
}

/** Good news goes by itself, and so does what waiting mends. */
const passing: readonly NoticeCode[] = ["agent_back", "avatar_back", "stt_back", "llm_back", "tts_back", "too_fast"];
