/** Lines that the visitor typed, from the press of Enter until the server's transcript holds them. */

import { sameWords } from "./format.ts";

/** Words that are not confirmed by then are offered for sending again. */
export const CONFIRM_MS = 8_000;

/** However often it is sent, under its id it counts once. `unconfirmed`: it may have arrived, but nobody has said so in time. */
export interface Typed {
  id: string;
  text: string;
  status: "queued" | "sending" | "sent" | "unconfirmed" | "failed";
  atMs: number;
  /** When it began to wait, or to be sent. */
  since: number;
}

export function setTyped(typed: readonly Typed[], id: string, status: Typed["status"], now: number): readonly Typed[] {
  const set = (line: Typed): Typed => {
    if (status === "queued" || status === "sending") return { ...line, status, since: now };
    // Handed over late is not confirmed either.
    return status === "sent" && line.status === "unconfirmed" ? line : { ...line, status };
  };
  return typed.map((line) => (line.id === id ? set(line) : line));
}

/** The transcript holds these words now. */
export function withoutFirst(typed: readonly Typed[], text: string): readonly Typed[] {
  const index = typed.findIndex((line) => sameWords(line.text, text));
  return index < 0 ? typed : typed.filter((_, position) => position !== index);
}

/** A line that nobody has confirmed in time is offered for sending again. The list stays the same where none is. */
export function withoutHope(typed: readonly Typed[], now: number): readonly Typed[] {
  const isOverdue = ({ status, since }: Typed): boolean =>
    (status === "sending" || status === "sent") && now - since > CONFIRM_MS;
  if (!typed.some(isOverdue)) return typed;
  return typed.map((line): Typed => (isOverdue(line) ? { ...line, status: "unconfirmed" } : line));
}
