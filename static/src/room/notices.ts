/** What the page tells the visitor about trouble, in plain words and always with a way out. */

import { shortClock } from "../shared/clock.ts";
import type { NoticeLevel } from "../shared/events.ts";
import { t } from "../shared/i18n.ts";
import { isLate, remaining, startIsSlow, wordsAreCut } from "./facts.ts";
import type { Surroundings } from "./frame.ts";
import type { ServerNotice, State } from "./state.ts";

export type NoticeAction =
  | "microphone"
  | "dismiss"
  | "sound"
  | "leave"
  | "reload"
  | "take-over"
  | "without-microphone"
  | "devices"
  | "own-tab";

export interface NoticeView {
  key: string;
  level: NoticeLevel;
  title: string;
  text: string;
  actions: { id: NoticeAction; label: string }[];
}

const tryMicrophone = () => ({ id: "microphone", label: t("Try again") }) as const;
const typeInstead = () => ({ id: "dismiss", label: t("Continue by text") }) as const;
const leave = () => ({ id: "leave", label: t("Leave") }) as const;
const fine = () => ({ id: "dismiss", label: t("OK") }) as const;

/** The check page opens in a tab of its own, where the microphone is not kept away: it would find nothing. */
const KEPT = "mic_kept";
/** What a frame's tag needs for the microphone. */
const PASS_ON = 'allow="microphone"';
const ASKING_MS = 600;

/** The most pressing first. */
export function notices(state: State): NoticeView[] {
  if (state.phase === "lobby") return state.startError ? [startError(state.startError, state.around)] : [];
  if (state.phase === "starting" && startIsSlow(state)) return [slowStart()];
  if (state.phase === "starting") return isAsking(state) ? [allowMicrophone(state)] : [];
  if (state.phase !== "live") return [];
  return [
    connection(state),
    agent(state),
    sound(state),
    microphone(state),
    moved(state),
    time(state),
    ...fromServer(state),
  ].filter((notice): notice is NoticeView => notice !== null && !state.dismissed.includes(notice.key));
}

/** What to do is on the Talk button, which says "Try again" meanwhile: two buttons for one thing would be a riddle. */
function startError(code: string, { framed }: Surroundings): NoticeView {
  const [title, text] = code === "csrf" && framed ? cookieWords() : startWords(code);
  const again = framed
    ? ({ id: "own-tab", label: t("Open in a new tab") } as const)
    : ({ id: "reload", label: t("Load again") } as const);
  const actions = code === "csrf" ? [again] : [];
  return { key: "start", level: "warning", title, text, actions };
}

const cookieWords = (): [string, string] => [
  t("Your browser keeps no cookies here"),
  t("It does not let this page have any inside another. Allow cookies for this site, or open it in a new tab."),
];

function startWords(code: string): [string, string] {
  switch (code) {
    case "invalid":
      return [t("This name cannot be used"), t("Change your name below, or leave it empty.")];
    case "link_full":
    case "project_full":
      return [
        t("Everyone is busy"),
        t("All places in this conversation are taken right now. Please try again in a few minutes."),
      ];
    case "throttled":
      return [t("One moment"), t("There were too many tries in a short time. Please wait a minute.")];
    case "csrf":
      return [
        t("This page is out of date"),
        t(
          "It was open for too long or cookies are switched off. Allow cookies for this site, then load the page again.",
        ),
      ];
    case "network":
    case "timeout":
      return [t("No connection"), t("The server could not be reached. Check your internet connection.")];
    case "session_ended":
      return [t("That conversation has ended"), t("You can start a new one.")];
    default:
      return [t("Not ready yet"), t("The conversation could not be started just now. Please try again in a moment.")];
  }
}

/** A browser that need not ask answers at once; no word on it then. */
const isAsking = (state: State): boolean => state.mic === "asking" && state.now - state.at > ASKING_MS;

function allowMicrophone(state: State): NoticeView {
  return {
    key: "mic-ask",
    level: "info",
    title: t("Allow your microphone"),
    text: t("Your browser asks whether {name} may hear you.", { name: state.agentName }),
    actions: [{ id: "without-microphone", label: t("Continue by text") }],
  };
}

function slowStart(): NoticeView {
  return {
    key: "slow-start",
    level: "warning",
    title: t("The server takes long"),
    text: t("It has not answered yet. We keep waiting a little; you can also leave and try again later."),
    actions: [leave()],
  };
}

function connection(state: State): NoticeView | null {
  if (state.media === "elsewhere") {
    return {
      key: "elsewhere",
      level: "warning",
      title: t("Open in another tab"),
      text: t("This conversation goes on in another tab or window. You can follow it here, or take it back."),
      actions: [{ id: "take-over", label: t("Continue here") }, leave()],
    };
  }
  if (state.media === "reconnecting") {
    return {
      key: "media",
      level: "warning",
      title: t("Connection lost"),
      text: t("We are reconnecting you. Nothing that was said is lost."),
      actions: [leave()],
    };
  }
  if (wordsAreCut(state)) {
    return {
      key: "words",
      level: "warning",
      title: t("Transcript interrupted"),
      text: t("You can keep talking. Lines that are missing appear as soon as the connection is back."),
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
      title: t("{name} dropped out", { name: state.agentName }),
      text: t("We are bringing them back. You need not do anything; what was said so far is kept."),
      actions: [leave()],
    };
  }
  if (!isLate(state)) return null;
  return {
    key: "agent_late",
    level: "warning",
    title: t("{name} is running late", { name: state.agentName }),
    text:
      state.mic === "on"
        ? t("It takes longer than usual. We keep trying. You may already speak or type; it will be passed on.")
        : t("It takes longer than usual. We keep trying. You may already type; it will be passed on."),
    actions: [leave()],
  };
}

function sound(state: State): NoticeView | null {
  if (!state.audioBlocked) return null;
  return {
    key: "sound",
    level: "warning",
    title: t("Sound is off"),
    text: t("Your browser holds back {name}'s voice until you allow it.", { name: state.agentName }),
    actions: [{ id: "sound", label: t("Enable sound") }],
  };
}

function microphone(state: State): NoticeView | null {
  const notice = (title: string, text: string): NoticeView => ({
    key: "mic",
    level: "info",
    title,
    text,
    actions: [tryMicrophone(), typeInstead()],
  });
  switch (state.mic) {
    case "denied":
      return notice(t("Your microphone is blocked"), deniedText(state));
    case "kept-by-frame":
    case "kept-by-header": {
      const [title, text] = keptMicrophone(state.mic);
      return { ...notice(title, text), key: KEPT, actions: [typeInstead()] };
    }
    case "missing":
      return notice(t("No microphone found"), t("Plug one in or switch it on, then try again. Or write instead."));
    case "busy":
      return notice(
        t("Your microphone does not answer"),
        t("Another program may be using it. Close that program and try again. Or write instead."),
      );
    case "insecure":
      return {
        ...notice(t("No microphone on this page"), insecureText(state)),
        actions: [typeInstead()],
      };
    case "off":
      return state.media === "elsewhere"
        ? null
        : {
            ...notice(t("Your microphone is off"), t("Turn it on to speak, or write instead.")),
            actions: [{ id: "microphone", label: t("Turn on") }, typeInstead()],
          };
    default:
      return null;
  }
}

const deniedText = ({ around }: State): string =>
  around.framed
    ? t(
        "Allow it for this page in your browser's address bar, then try again. The page around must pass it on as well: {permission}. Or write instead.",
        { permission: PASS_ON },
      )
    : t("Allow it for this page in your browser's address bar, then try again. Or write instead.");

const insecureText = ({ around }: State): string =>
  around.framed && location.protocol === "https:"
    ? t("Browsers allow the microphone only where the page around is secure (https) as well. You can write instead.")
    : t("Browsers allow the microphone only on secure (https) pages. You can write instead.");

/** Nothing that the visitor could do: who has to mend what. */
export function keptMicrophone(status: "kept-by-frame" | "kept-by-header"): [string, string] {
  return status === "kept-by-frame"
    ? [
        t("The page around keeps the microphone away"),
        t("Whoever made that page has to give its frame {permission}. You can write instead.", { permission: PASS_ON }),
      ]
    : [
        t("This site forbids the microphone"),
        t("Its header Permissions-Policy has to allow {permission}: tell whoever runs it. You can write instead.", {
          permission: "microphone=(self)",
        }),
      ];
}

function moved(state: State): NoticeView | null {
  if (!state.micMoved || state.mic === "missing") return null;
  const { label } = state.micMoved;
  return {
    key: "mic_moved",
    level: "info",
    title: t("Your microphone went away"),
    text: label ? t("{device} is used now.", { device: label }) : t("Another one is used now."),
    actions: [{ id: "devices", label: t("Change") }, fine()],
  };
}

function time(state: State): NoticeView | null {
  const left = remaining(state);
  if (left === null || left > 60_000 || isShort(state)) return null;
  return {
    key: "limit_near",
    level: "info",
    title: t("{time} left", { time: shortClock(left) }),
    text: t("This conversation ends soon."),
    actions: [fine()],
  };
}

/** So short a conversation is near its end all the time. */
const isShort = (state: State): boolean => state.maxSeconds !== null && state.maxSeconds <= 120;

const told: readonly string[] = ["agent_late", "agent_lost"];

/** What the check page can find nothing about. */
const notOfTheConnection: readonly string[] = [
  "elsewhere",
  "avatar_lost",
  "stt_lost",
  "llm_lost",
  "tts_lost",
  "offline_recogniser",
];

/** Where something does not work, the check page says what and who mends it. */
export const needsCheck = ({ key, level }: NoticeView): boolean =>
  key === "mic" || (level !== "info" && !notOfTheConnection.includes(key));

/** The server tells everybody the same words; the page says what it can in the visitor's language and by name. */
function fromServer(state: State): NoticeView[] {
  return state.notices
    .filter(
      (notice) =>
        !told.includes(notice.code) &&
        !(notice.code === "limit_near" && (time(state) || isShort(state))) &&
        !(notice.code === "avatar_back" && !state.avatarVideo),
    )
    .map((notice) => {
      const [title, text] = serverWords(notice, state.agentName);
      return { key: notice.code, level: notice.level, title, text: text ?? notice.text, actions: [fine()] };
    });
}

/** Title and, where the page has its own, text. */
function serverWords(notice: ServerNotice, name: string): [string, string?] {
  switch (notice.code) {
    case "agent_back":
      return [t("Back again"), t("{name} is back. You can go on where you were.", { name })];
    case "avatar_lost":
      return notice.level === "info" // it was never there: it is being made ready
        ? [t("{name}'s face moves in a moment", { name }), t("It is being made ready. You can talk already.")]
        : [t("{name}'s face stands still for now", { name }), t("The voice goes on. You can keep talking.")];
    case "avatar_back":
      return [t("{name}'s face moves again", { name }), t("You can go on where you were.")];
    case "llm_lost":
      return [t("{name} cannot answer right now", { name }), t("Ask again in a moment.")];
    case "stt_lost":
      return [t("{name} cannot hear you right now", { name }), t("Write instead, or say it again in a moment.")];
    case "tts_lost":
      return [
        t("{name}'s voice is not working right now", { name }),
        t("You can read what is said, and keep talking."),
      ];
    case "llm_back":
    case "stt_back":
    case "tts_back":
      return [t("Back again"), t("You can go on where you were.")];
    case "limit_near":
      return [t("Almost over"), t("This conversation ends soon.")];
    case "recording":
      return [t("This conversation is recorded")];
    case "offline_recogniser":
      return [
        t("Simple speech recognition"),
        t("A simple offline recogniser is listening: it often mishears. Typing works better."),
      ];
    case "too_fast":
      return [t("One moment"), t("That was too much at once. Wait a few seconds, then send the rest again.")];
    default:
      return [t("Please note")];
  }
}
