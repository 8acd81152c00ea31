/** What a visitor chose once and should not have to choose again. It stays in this browser. */

export type CaptionSize = "off" | "small" | "large";

export interface Settings {
  /** Device ids; empty is whatever the browser uses by default. */
  microphone: string;
  speaker: string;
  pushToTalk: boolean;
  captions: CaptionSize;
  /** Keys that work by themselves can be in the way of speech control and of other tools. */
  shortcuts: boolean;
}

export const defaults: Settings = { microphone: "", speaker: "", pushToTalk: false, captions: "off", shortcuts: true };

const KEY = "molts.settings";
const NAME_KEY = "molts.name";
const TYPED_KEY = "molts.typed";

export const captionSizes: readonly CaptionSize[] = ["off", "small", "large"];

/** Storage may be switched off, or hold what an older page wrote: both end in what is known to be good. */
export function loadSettings(): Settings {
  try {
    return readSettings(JSON.parse(localStorage.getItem(KEY) ?? "{}"));
  } catch {
    return defaults;
  }
}

export function readSettings(stored: unknown): Settings {
  const found = (typeof stored === "object" && stored !== null ? stored : {}) as Record<string, unknown>;
  const text = (value: unknown): string => (typeof value === "string" ? value : "");
  const captions = captionSizes.find((size) => size === found.captions);
  return {
    microphone: text(found.microphone),
    speaker: text(found.speaker),
    pushToTalk: found.pushToTalk === true,
    captions: captions ?? defaults.captions,
    shortcuts: found.shortcuts !== false,
  };
}

export function saveSettings(settings: Settings): void {
  save(KEY, JSON.stringify(settings));
}

export function loadName(): string {
  try {
    return localStorage.getItem(NAME_KEY) ?? "";
  } catch {
    return "";
  }
}

export function saveName(name: string): void {
  save(NAME_KEY, name);
}

/** The conversation that this visitor chose to type in: a reload must not open the microphone unasked. */
let typedTalk = "";

export function isTypedTalk(sessionId: string): boolean {
  try {
    return (sessionStorage.getItem(TYPED_KEY) ?? typedTalk) === sessionId;
  } catch {
    return typedTalk === sessionId;
  }
}

/** An empty id: the visitor speaks. */
export function saveTypedTalk(sessionId: string): void {
  typedTalk = sessionId;
  save(TYPED_KEY, sessionId, () => sessionStorage);
}

/** Storage is reached inside: a browser that blocks it throws at its very name. */
function save(key: string, value: string, storage: () => Storage = () => localStorage): void {
  try {
    storage().setItem(key, value);
  } catch {
    // Only a convenience.
  }
}
