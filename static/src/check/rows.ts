/** What is checked, what was found, and what it means for whoever wants to talk from here. */

import { t } from "../shared/i18n.ts";

export const ids = ["secure", "microphone", "speaker", "server", "signalling", "udp", "tcp", "turn"] as const;
export type Id = (typeof ids)[number];

/** `warning`: works, but somebody should know. `skipped`: could not or need not be tried. */
export type Status = "waiting" | "running" | "ok" | "warning" | "failed" | "skipped";

/** Who has to mend it: the visitor, or whoever runs the site. */
export interface Fix {
  who: "visitor" | "operator";
  text: string;
}

export interface Finding {
  status: Status;
  text: string;
  fixes?: readonly Fix[];
  /** For support: the technical reason, in English as it came. */
  detail?: string;
}

export type Findings = Readonly<Record<Id, Finding>>;

export const visitor = (text: string): Fix => ({ who: "visitor", text });
export const operator = (text: string): Fix => ({ who: "operator", text });

export function titleOf(id: Id): string {
  const titles: Record<Id, string> = {
    secure: t("Secure page"),
    microphone: t("Microphone"),
    speaker: t("Speaker"),
    server: t("Connection to this site"),
    signalling: t("Connection to the media server"),
    udp: t("Voice over UDP"),
    tcp: t("Voice over TCP"),
    turn: t("Voice through a relay (TURN)"),
  };
  return titles[id];
}

export function statusWord(status: Status): string {
  const words: Record<Status, string> = {
    waiting: t("Not started"),
    running: t("Checking"),
    ok: t("Works"),
    warning: t("Note"),
    failed: t("Failed"),
    skipped: t("Skipped"),
  };
  return words[status];
}

export const untouched = (): Findings =>
  Object.fromEntries(ids.map((id) => [id, { status: "waiting", text: "" }])) as unknown as Findings;

const isOpen = (finding: Finding): boolean => finding.status === "waiting" || finding.status === "running";
const works = (finding: Finding): boolean => finding.status === "ok" || finding.status === "warning";

/** What could not be found out, because a test broke or took too long. */
export const unfinished = (all: Findings): Id[] => ids.filter((id) => isOpen(all[id]));

export function brokenOff(reason: string): Finding {
  return {
    status: "failed",
    text: t("This could not be checked."),
    fixes: [visitor(t("Check that you are online, then check again."))],
    detail: reason,
  };
}

export type Outcome = "waiting" | "running" | "talk" | "type" | "blocked";

/** What all findings together allow: one way for the voice is enough. */
export function outcome(all: Findings): Outcome {
  if (ids.every((id) => all[id].status === "waiting")) return "waiting";
  if (ids.some((id) => isOpen(all[id]))) return "running";
  const hasWay = all.udp.status === "ok" || all.tcp.status === "ok" || all.turn.status === "ok";
  if (all.server.status !== "ok" || all.signalling.status !== "ok" || !hasWay) return "blocked";
  return works(all.microphone) ? "talk" : "type";
}

export function outcomeWords(value: Outcome): string {
  const words: Record<Outcome, string> = {
    waiting: "",
    running: t("Checking. Your browser may ask for the microphone: please allow it."),
    talk: t("You can talk from here."),
    type: t("You can take part by typing, but your microphone cannot be used yet."),
    blocked: t("You cannot talk from here yet. See below what has to be done, and by whom."),
  };
  return words[value];
}

/** Plain text for support: English, whatever the visitor reads. */
export function report(all: Findings, where: { url: string; browser: string; at: Date }): string {
  const lines = ids.map((id) => {
    const { status, detail } = all[id];
    return `${id}: ${status}${detail ? ` (${detail})` : ""}`;
  });
  return [
    `molts check, ${where.at.toISOString()}`,
    where.url,
    where.browser,
    `outcome: ${outcome(all)}`,
    ...lines,
    "",
  ].join("\n");
}
