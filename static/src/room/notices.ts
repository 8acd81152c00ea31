/** What the page tells the visitor about trouble, in plain words and always with a way out. */

import type { NoticeLevel } from "./events.ts";
import { shortClock } from "./format.ts";
import { isLate, remaining, type State, wordsAreCut } from "./state.ts";

export type NoticeAction =
  | "microphone"
  | "dismiss"
  | "sound"
  | "leave"
  | "reload"
  | "retry"
  | "take-over"
  | "without-microphone";

export interface NoticeView {
  key: string;
  level: NoticeLevel;
  title: string;
  text: string;
  actions: { id: NoticeAction; label: string }[];
}

const tryMicrophone = { id: "microphone", label: "Try again" } as const;
const typeInstead = { id: "dismiss", label: "Continue by text" } as const;
const leave = { id: "leave", label: "Leave" } as const;
const fine = { id: "dismiss", label: "OK" } as const;

const ASKING_MS = 600;

/** The most pressing first. */
export function notices(state: State): NoticeView[] {
  if (state.phase === "lobby") return state.startError ? [startError(state.startError)] : [];
  if (state.phase === "starting") return isAsking(state) ? [allowMicrophone(state)] : [];
  if (state.phase !== "live") return [];
  return [connection(state), agent(state), sound(state), microphone(state), time(state), ...fromServer(state)].filter(
    (notice): notice is NoticeView => notice !== null && !state.dismissed.includes(notice.key),
  );
}

function startError(code: string): NoticeView {
  const notice = (title: string, text: string, action: NoticeView["actions"][number]): NoticeView => ({
    key: "start",
    level: "warning",
    title,
    text,
    actions: [action],
  });
  const retry = { id: "retry", label: "Try again" } as const;
  switch (code) {
    case "link_full":
      return notice(
        "Everyone is busy",
        "All places in this conversation are taken right now. Please try again in a few minutes.",
        retry,
      );
    case "throttled":
      return notice("One moment", "There were too many tries in a short time. Please wait a minute.", retry);
    case "csrf":
      return notice(
        "This page is out of date",
        "It was open for too long or cookies are switched off. Allow cookies for this site, then load the page again.",
        {
          id: "reload",
          label: "Load again",
        },
      );
    case "network":
    case "timeout":
      return notice("No connection", "The server could not be reached. Check your internet connection.", retry);
    case "session_ended":
      return notice("That conversation has ended", "You can start a new one.", retry);
    default:
      return notice(
        "Not ready yet",
        "The conversation could not be started just now. Please try again in a moment.",
        retry,
      );
  }
}

/** A browser that need not ask answers at once; no word on it then. */
const isAsking = (state: State): boolean => state.mic === "asking" && state.now - state.at > ASKING_MS;

function allowMicrophone(state: State): NoticeView {
  return {
    key: "mic-ask",
    level: "info",
    title: "Allow your microphone",
    text: `Your browser asks whether ${state.agentName} may hear you.`,
    actions: [{ id: "without-microphone", label: "Continue by text" }],
  };
}

function connection(state: State): NoticeView | null {
  if (state.media === "elsewhere") {
    return {
      key: "elsewhere",
      level: "warning",
      title: "Open in another tab",
      text: "This conversation goes on in another tab or window.",
      actions: [{ id: "take-over", label: "Continue here" }, leave],
    };
  }
  if (state.media === "reconnecting") {
    return {
      key: "media",
      level: "warning",
      title: "Connection lost",
      text: "We are reconnecting you. Nothing that was said is lost.",
      actions: [leave],
    };
  }
  if (wordsAreCut(state)) {
    return {
      key: "words",
      level: "warning",
      title: "Transcript interrupted",
      text: "You can keep talking. Lines that are missing appear as soon as the connection is back.",
      actions: [],
    };
  }
  return null;
}

function agent(state: State): NoticeView | null {
  if (state.agentState === "lost") {
    return {
      key: "agent_lost",
      level: "warning",
      title: `${state.agentName} dropped out`,
      text: "We are bringing them back. You need not do anything; what was said so far is kept.",
      actions: [leave],
    };
  }
  if (!isLate(state)) return null;
  const listening =
    state.mic === "on"
      ? " You may already speak or type; it will be passed on."
      : " You may already type; it will be passed on.";
  return {
    key: "agent_late",
    level: "warning",
    title: `${state.agentName} is running late`,
    text: `It takes longer than usual. We keep trying.${listening}`,
    actions: [leave],
  };
}

function sound(state: State): NoticeView | null {
  if (!state.audioBlocked) return null;
  return {
    key: "sound",
    level: "warning",
    title: "Sound is off",
    text: `Your browser holds back ${state.agentName}'s voice until you allow it.`,
    actions: [{ id: "sound", label: "Enable sound" }],
  };
}

function microphone(state: State): NoticeView | null {
  const notice = (title: string, text: string): NoticeView => ({
    key: "mic",
    level: "info",
    title,
    text,
    actions: [tryMicrophone, typeInstead],
  });
  switch (state.mic) {
    case "denied":
      return notice(
        "Your microphone is blocked",
        "Allow it for this page in your browser's address bar, then try again. Or write instead.",
      );
    case "missing":
      return notice("No microphone found", "Plug one in or switch it on, then try again. Or write instead.");
    case "busy":
      return notice(
        "Your microphone does not answer",
        "Another program may be using it. Close that program and try again. Or write instead.",
      );
    case "insecure":
      return {
        ...notice(
          "No microphone on this page",
          "Browsers allow the microphone only on secure (https) pages. You can write instead.",
        ),
        actions: [typeInstead],
      };
    case "off":
      return state.media === "elsewhere"
        ? null
        : {
            ...notice("Your microphone is off", "Turn it on to speak, or write instead."),
            actions: [{ id: "microphone", label: "Turn on" }, typeInstead],
          };
    default:
      return null;
  }
}

function time(state: State): NoticeView | null {
  const left = remaining(state);
  if (left === null || left > 60_000) return null;
  return {
    key: "limit_near",
    level: "info",
    title: `${shortClock(left)} left`,
    text: "This conversation ends soon.",
    actions: [fine],
  };
}

const titles: Record<string, string> = {
  agent_back: "Back again",
  avatar_lost: "Voice only",
  avatar_back: "Picture is back",
  limit_near: "Almost over",
  recording: "This conversation is recorded",
  offline_recogniser: "Simple speech recognition",
};

const told: readonly string[] = ["agent_late", "agent_lost"];

/** The server's own words, for what the page does not word itself. */
function fromServer(state: State): NoticeView[] {
  return state.notices
    .filter((notice) => !told.includes(notice.code) && !(notice.code === "limit_near" && time(state)))
    .map((notice) => ({
      key: notice.code,
      level: notice.level,
      title: titles[notice.code] ?? "Please note",
      text: notice.text,
      actions: [fine],
    }));
}
