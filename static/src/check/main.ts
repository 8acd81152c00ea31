/** The check page: runs every test after a click, which also unlocks sound, and shows each finding as it comes. */

import { t } from "../shared/i18n.ts";
import { keepPeers } from "../shared/peers.ts";
import { loadSettings } from "../shared/settings.ts";
import { checkMicrophone, checkSecure, checkServer, checkSpeaker, playTone, wait } from "./browser.ts";
import { checkMedia, type MediaBoot } from "./media.ts";
import {
  brokenOff,
  type Finding,
  type Findings,
  type Id,
  ids,
  outcome,
  outcomeWords,
  report,
  statusWord,
  titleOf,
  unfinished,
  untouched,
} from "./rows.ts";

/** So long the way to the media server waits for the answer to the browser's question for the microphone: with it
 * granted, browsers offer more ways. */
const MICROPHONE_FIRST_MS = 8_000;
const DONE_MS = 2_500;
/** For all tests together; an unanswered question for the microphone would last for ever. */
const RUN_MS = 90_000;

interface CheckBoot extends MediaBoot {
  ws_path: string;
  stun_servers: string[];
}

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no #${id}.`);
  return found as T;
}

const boot = JSON.parse(element("boot").textContent ?? "") as CheckBoot;
keepPeers(boot.stun_servers);
const csrfToken = document.querySelector<HTMLInputElement>("input[name=csrfmiddlewaretoken]")?.value ?? "";
const start = element<HTMLButtonElement>("start");
const copy = element<HTMLButtonElement>("copy");
const list = element<HTMLOListElement>("rows");
const meter = document.createElement("meter");
const again = document.createElement("button");

let findings: Findings = untouched();
let context: AudioContext | null = null;

// -- Drawing ----------------------------------------------------------------------------------------------------------

function textElement(name: string, className: string, text: string): HTMLElement {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function draw(id: Id): void {
  const item = list.querySelector<HTMLElement>(`[data-check="${id}"]`);
  if (!item) return;
  const { status, text, fixes } = findings[id];
  item.dataset.status = status;
  const words = textElement("div", "words", "");
  const head = textElement("p", "head", "");
  head.append(textElement("strong", "title", titleOf(id)), " ", textElement("span", "status", statusWord(status)));
  words.append(head);
  if (text) words.append(textElement("p", "text", text));
  for (const fix of fixes ?? []) {
    const line = textElement("p", "fix", "");
    const label = fix.who === "visitor" ? t("What you can do:") : t("For whoever runs this site:");
    line.append(textElement("strong", "who-mends", label), " ", fix.text);
    words.append(line);
  }
  if (id === "microphone" && status === "running") words.append(meter);
  if (id === "speaker" && status === "ok") words.append(again);
  item.replaceChildren(textElement("span", "mark-of", ""), words);
}

function found(id: Id, finding: Finding): void {
  findings = { ...findings, [id]: finding };
  draw(id);
  const value = outcome(findings);
  const verdict = element("verdict");
  verdict.dataset.outcome = value;
  const words = outcomeWords(value);
  if (verdict.textContent !== words) verdict.textContent = words;
}

// -- Running ----------------------------------------------------------------------------------------------------------

/** Whatever becomes of the tests, every row gets its finding and another check can be started. */
async function run(): Promise<void> {
  start.disabled = true;
  copy.hidden = true;
  findings = untouched();
  for (const id of ids) draw(id);
  const tests = new AbortController(); // what comes after the end belongs to no check any more
  let reason = `nothing within ${RUN_MS} ms`;
  try {
    await Promise.race([runTests((id, finding) => tests.signal.aborted || found(id, finding)), wait(RUN_MS)]);
  } catch (error) {
    reason = String(error);
  } finally {
    tests.abort();
    for (const id of unfinished(findings)) found(id, brokenOff(reason));
    start.disabled = false;
    start.textContent = t("Check again");
    copy.hidden = false;
  }
}

/** Settles when every test has; fails with the first that broke. */
async function runTests(tell: (id: Id, finding: Finding) => void): Promise<void> {
  context ??= new AudioContext();
  const sound = context;
  const settings = loadSettings(); // the devices that the room uses
  tell("secure", checkSecure());
  tell("microphone", { status: "running", text: t("Say something: the bar should move.") });
  tell("speaker", { status: "running", text: "" });
  tell("server", { status: "running", text: "" });
  tell("signalling", { status: "running", text: "" });
  const unlocked = Promise.race([sound.resume(), wait(1_500)]);
  const microphone = unlocked.then(() => checkMicrophone(sound, settings.microphone, showLevel));
  const tests = await Promise.allSettled([
    microphone.then((finding) => tell("microphone", finding)),
    // Not while the microphone listens: it would hear the tones and take them for the visitor.
    microphone.then(() => checkSpeaker(sound, settings.speaker)).then((finding) => tell("speaker", finding)),
    checkServer(boot.ws_path).then((finding) => tell("server", finding)),
    Promise.race([microphone, wait(MICROPHONE_FIRST_MS)]).then(() => checkMedia(boot, csrfToken, tell)),
  ]);
  const broken = tests.find((test) => test.status === "rejected");
  if (broken) throw broken.reason;
}

function showLevel(level: number): void {
  meter.value = level;
}

async function copyResult(): Promise<void> {
  const url = location.href;
  const text = report(findings, { url, browser: navigator.userAgent, at: new Date() });
  const note = element("copied");
  try {
    await navigator.clipboard.writeText(text);
    note.textContent = t("Copied. Paste it into your message to support.");
    await wait(DONE_MS);
    note.textContent = "";
  } catch {
    // Without a secure page there is no clipboard: show the text, ready to be copied by hand.
    const box = element<HTMLTextAreaElement>("result");
    box.value = text;
    box.hidden = false;
    box.select();
    note.textContent = t("Copy the text below.");
  }
}

for (const id of ids) {
  const item = document.createElement("li");
  item.dataset.check = id;
  list.append(item);
  draw(id);
}
meter.max = 1;
meter.setAttribute("aria-label", t("Level of your microphone"));
again.type = "button";
again.className = "button small";
again.textContent = t("Play the tones again");
again.addEventListener("click", () => context && playTone(context));
start.addEventListener("click", () => void run());
copy.addEventListener("click", () => void copyResult());
start.disabled = false;
