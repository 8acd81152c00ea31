/** Keys that work without a mouse. Pure: which key means what, and when a key is only a letter. */

import { t } from "../shared/i18n.ts";

export type Command = "mute" | "captions" | "timing" | "write" | "devices" | "leave" | "help";

interface Key {
  key: string;
  shift: boolean;
}

const keys: Readonly<Record<Command, Key>> = {
  mute: { key: "m", shift: false },
  captions: { key: "c", shift: false },
  timing: { key: "t", shift: false },
  write: { key: "/", shift: false },
  devices: { key: "s", shift: false },
  // A slip of one finger must not end a conversation.
  leave: { key: "l", shift: true },
  help: { key: "?", shift: false },
};

export interface KeyPress {
  key: string;
  code: string;
  shiftKey: boolean;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
}

/** The command of this key press, if it is one. Where letters are not Latin, the key's place on the keyboard counts. */
export function commandOf(press: KeyPress): Command | null {
  if (press.ctrlKey || press.metaKey || press.altKey) return null;
  const letter = /^[\x20-\x7e]$/.test(press.key)
    ? press.key.toLowerCase()
    : press.code.replace(/^Key/, "").toLowerCase();
  const isLetter = /^[a-z]$/.test(letter);
  const found = (Object.keys(keys) as Command[]).find((command) => {
    const { key, shift } = keys[command];
    return key === letter && (!isLetter || shift === press.shiftKey);
  });
  return found ?? null;
}

/** Whether keys belong to what has the focus: somebody types there, or chooses. */
export function takesKeys(target: EventTarget | null): boolean {
  return (
    target instanceof Element &&
    target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]") !== null
  );
}

/** Whether the space bar already means something to what has the focus. */
export function takesSpace(target: EventTarget | null): boolean {
  return (
    takesKeys(target) ||
    (target instanceof Element && target.closest("button, a, summary, input, dialog[open]") !== null)
  );
}

/** What the help shows: keys and what they do. */
export function shortcutList(): [string, string][] {
  return [
    ["M", t("Mute or unmute")],
    [t("Space"), t("Hold to talk, with push-to-talk on")],
    ["C", t("Captions: off, small, large")],
    ["T", t("Show how fast each answer came")],
    ["/", t("Write")],
    ["Esc", t("Leave the text box, close a panel")],
    ["S", t("Sound and captions")],
    [t("Shift + L"), t("Leave the conversation")],
    ["?", t("Show these keys")],
  ];
}

/** Lists them in `place`, one after the other. */
export function fillHelp(place: HTMLElement): void {
  const rows = shortcutList().map(([key, words]) => {
    const row = document.createElement("div");
    const term = document.createElement("dt");
    const keys = document.createElement("kbd");
    keys.textContent = key;
    term.append(keys);
    const meaning = document.createElement("dd");
    meaning.textContent = words;
    row.append(term, meaning);
    return row;
  });
  place.replaceChildren(...rows);
}
