/** Draws the page from the state: keyed, changing only what differs. Words of others enter as text, never as markup. */

import type { Api } from "./api.ts";
import type { Boot } from "./boot.ts";
import type { Role } from "./events.ts";
import { clock, duration, lineCount, shortClock } from "./format.ts";
import { t } from "./i18n.ts";
import { type NoticeAction, type NoticeView, notices } from "./notices.ts";
import { type Blocked, type Chip, chip, elapsed, remaining, type State } from "./state.ts";
import { blockedWords, chipWords, endTitle, endWords, foreignWords } from "./words.ts";

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no #${id}.`);
  return found as T;
}

interface Line {
  key: string;
  seq: number | null;
  role: Role;
  text: string;
  startMs: number;
  status: "partial" | "final" | "pending" | "failed";
  interrupted: boolean;
}

export class View {
  readonly room = element("room");
  readonly face = element("face");
  readonly bars = element<HTMLCanvasElement>("bars");
  readonly avatar = element<HTMLVideoElement>("avatar");
  readonly speaker = element("speaker");
  readonly talkForm = element<HTMLFormElement>("talk-form");
  readonly talk = element<HTMLButtonElement>("talk");
  readonly name = element<HTMLInputElement>("name");
  readonly sayForm = element<HTMLFormElement>("say-form");
  readonly sayText = element<HTMLInputElement>("say-text");
  readonly mute = element<HTMLButtonElement>("mute");
  readonly leave = element<HTMLButtonElement>("leave");
  readonly again = element<HTMLButtonElement>("again");
  readonly erase = element<HTMLButtonElement>("erase");
  readonly eraseDialog = element<HTMLDialogElement>("erase-dialog");
  readonly noticeArea = element("notice-area");
  readonly transcript = element<HTMLOListElement>("transcript");
  private readonly scroller = element("scroller");
  private readonly jump = element<HTMLButtonElement>("jump");
  private readonly timer = element("timer");
  private readonly chip = element("state");
  private readonly chipText = element("state-text");
  private readonly lines = new Map<string, HTMLLIElement>();
  private readonly noticeCards = new Map<string, HTMLElement>();
  private atEnd = true;
  private lastTop = 0;
  private drawn: State | null = null;

  constructor(
    private readonly boot: Boot,
    private readonly api: Api,
  ) {
    this.scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.jump.addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.atEnd && this.toEnd()).observe(this.scroller);
  }

  render(state: State): void {
    const before = this.drawn;
    this.drawn = state;
    if (!before || before.phase !== state.phase || before.erase !== state.erase || before.reason !== state.reason) {
      this.renderPhase(state, before);
    }
    this.renderChip(state);
    this.renderTimer(state);
    this.renderNotices(notices(state));
    this.renderMicrophone(state);
    if (
      !before ||
      before.segments !== state.segments ||
      before.partials !== state.partials ||
      before.typed !== state.typed ||
      before.phase !== state.phase
    ) {
      this.renderLines(linesOf(state), state);
    }
    if (before?.sessionId !== state.sessionId) this.renderDownloads(state.sessionId);
    if (state.phase === "ended") this.renderSummary(state);
  }

  private renderPhase(state: State, before: State | null): void {
    const { phase } = state;
    this.room.dataset.phase = phase;
    document.body.dataset.phase = phase;
    const talking = phase === "live" || phase === "starting";
    show("lobby", phase === "lobby");
    show("blocked", phase === "blocked");
    show("controls", talking);
    show("who", talking || phase === "ended");
    show("summary", phase === "ended");
    show("conversation", talking || (phase === "ended" && state.erase !== "erased" && !state.foreign));
    this.sayForm.hidden = !talking;
    if (phase === "blocked" && state.blocked) this.renderBlocked(state.blocked);
    if (!before || before.phase === phase) return;
    if (phase === "ended") element("summary-title").focus({ preventScroll: true });
    if (phase === "lobby") this.name.focus({ preventScroll: true });
    // On a phone, focus would throw the keyboard over the conversation.
    if (phase === "starting" && matchMedia("(pointer: fine)").matches) this.sayText.focus({ preventScroll: true });
  }

  private renderBlocked(blocked: Blocked): void {
    const [title, text] = blockedWords(blocked);
    setText(element("blocked-title"), title);
    setText(element("blocked-text"), text);
  }

  private renderChip(state: State): void {
    const value = chip(state);
    this.chip.hidden = value === null;
    this.chip.dataset.agentState = state.agentState;
    this.chip.dataset.sessionState = state.sessionState ?? "";
    this.room.dataset.media = state.media;
    this.room.dataset.socket = state.socket;
    if (this.chip.dataset.chip === (value ?? "")) return;
    this.chip.dataset.chip = value ?? "";
    this.face.dataset.chip = value ?? "";
    const text = value ? chipWords(value, state.agentName) : "";
    setText(this.chipText, text);
    if (value && announced.has(value)) setText(element("announcer"), text);
  }

  private renderTimer(state: State): void {
    const running = state.phase === "live";
    this.timer.hidden = !running;
    if (!running) return;
    const left = remaining(state);
    const soon = left !== null && left <= 60_000;
    this.timer.classList.toggle("soon", soon);
    setText(this.timer, shortClock(elapsed(state)));
  }

  private renderNotices(list: NoticeView[]): void {
    const wanted = new Set(list.map((notice) => notice.key));
    for (const [key, card] of this.noticeCards) {
      if (wanted.has(key)) continue;
      card.remove();
      this.noticeCards.delete(key);
    }
    list.forEach((notice, index) => {
      let card = this.noticeCards.get(notice.key);
      if (!card) {
        card = noticeCard();
        this.noticeCards.set(notice.key, card);
      }
      fillNotice(card, notice);
      if (this.noticeArea.children[index] !== card)
        this.noticeArea.insertBefore(card, this.noticeArea.children[index] ?? null);
    });
  }

  private renderMicrophone(state: State): void {
    const { mic } = state;
    const on = mic === "on";
    this.mute.dataset.mic = mic;
    this.mute.setAttribute("aria-pressed", String(mic === "muted"));
    this.mute.disabled = mic === "asking";
    setText(
      element("mute-label"),
      on ? t("Mute") : mic === "muted" ? t("Unmute") : mic === "asking" ? t("Waiting") : t("Mic off"),
    );
  }

  private renderLines(lines: Line[], state: State): void {
    const wanted = new Set(lines.map((line) => line.key));
    for (const [key, item] of this.lines) {
      if (wanted.has(key)) continue;
      item.remove();
      this.lines.delete(key);
    }
    lines.forEach((line, index) => {
      let item = this.lines.get(line.key);
      if (!item) {
        item = lineItem(line, this.boot.agent.language);
        this.lines.set(line.key, item);
      }
      fillLine(item, line, state.agentName);
      const here = this.transcript.children[index];
      if (here !== item) this.transcript.insertBefore(item, here ?? null);
    });
    const empty = element("empty");
    empty.hidden = lines.length > 0;
    setText(empty, state.phase === "ended" ? t("Nothing was said.") : t("What you and the agent say appears here."));
    if (this.atEnd) this.toEnd();
    else this.jump.hidden = false;
  }

  private renderDownloads(sessionId: string | null): void {
    show("downloads", sessionId !== null);
    for (const format of ["txt", "vtt", "json"] as const) {
      const link = element<HTMLAnchorElement>(`download-${format}`);
      if (sessionId) link.href = this.api.transcriptUrl(sessionId, format);
      else link.removeAttribute("href");
    }
  }

  private renderSummary(state: State): void {
    const erased = state.erase === "erased";
    const count = state.segments.length;
    setText(element("summary-eyebrow"), erased ? t("Erased") : t("Conversation ended"));
    setText(element("summary-title"), erased ? t("Nothing is kept") : endTitle(state));
    const length = count ? `${duration(elapsed(state))} · ${lineCount(count)}. ` : "";
    setText(
      element("summary-text"),
      erased
        ? t("Every line of this conversation has been deleted.")
        : state.foreign
          ? foreignWords()
          : `${length}${endWords(state.reason, state.agentName)}`,
    );
    this.erase.hidden = erased || state.foreign || !state.sessionId;
    this.erase.disabled = state.erase === "erasing";
    element("erase-problem").hidden = state.erase !== "failed";
  }

  /** Only scrolling upwards means that the visitor reads: a shrinking list is no wish to stay where it was. */
  private scrolled(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const isEnd = scrollHeight - scrollTop - clientHeight < 48;
    if (isEnd) this.jump.hidden = true;
    this.atEnd = isEnd || (this.atEnd && scrollTop >= this.lastTop);
    this.lastTop = scrollTop;
  }

  private toEnd(): void {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.atEnd = true;
    this.jump.hidden = true;
  }
}

function linesOf(state: State): Line[] {
  return [
    ...state.segments.map(
      (segment): Line => ({
        key: segment.segment_id,
        seq: segment.seq,
        role: segment.role,
        text: segment.text,
        startMs: segment.start_ms,
        status: "final",
        interrupted: segment.interrupted,
      }),
    ),
    ...state.partials.map(
      (partial): Line => ({
        key: partial.segment_id,
        seq: null,
        role: partial.role,
        text: partial.text,
        startMs: partial.startMs,
        status: "partial",
        interrupted: false,
      }),
    ),
    ...state.typed.map(
      (typed): Line => ({
        key: typed.id,
        seq: null,
        role: "user",
        text: typed.text,
        startMs: typed.atMs,
        status: typed.status === "failed" ? "failed" : "pending",
        interrupted: false,
      }),
    ),
  ];
}

function lineItem(line: Line, language: string): HTMLLIElement {
  const item = document.createElement("li");
  item.dataset.segmentId = line.key;
  item.dataset.role = line.role;
  const meta = document.createElement("p");
  meta.className = "meta";
  const who = document.createElement("span");
  who.className = "speaker";
  who.dir = "auto";
  const time = document.createElement("time");
  meta.append(who, " ", time);
  const text = document.createElement("p");
  text.className = "text";
  text.dir = "auto";
  text.lang = language;
  const note = document.createElement("p");
  note.className = "note";
  item.append(meta, text, note);
  return item;
}

function fillLine(item: HTMLLIElement, line: Line, agentName: string): void {
  const settled = line.status === "final";
  item.className = `segment ${settled ? "final" : "partial"}${line.status === "pending" || line.status === "failed" ? ` ${line.status}` : ""}`;
  if (line.seq === null) delete item.dataset.seq;
  else item.dataset.seq = String(line.seq);
  setText(part(item, ".speaker"), line.role === "user" ? t("You") : agentName);
  setText(part(item, "time"), clock(line.startMs));
  setText(part(item, ".text"), line.text);
  const note = part(item, ".note");
  setText(
    note,
    line.interrupted
      ? t("interrupted")
      : line.status === "pending"
        ? t("sending")
        : line.status === "failed"
          ? t("not delivered")
          : "",
  );
  note.hidden = !note.textContent;
  const retry = item.querySelector<HTMLButtonElement>("button.resend");
  if (line.status !== "failed") retry?.remove();
  else if (!retry) item.append(button("resend", t("Send again"), "resend"));
}

function noticeCard(): HTMLElement {
  const card = document.createElement("div");
  const words = document.createElement("div");
  words.className = "words";
  const title = document.createElement("p");
  title.className = "title";
  title.dir = "auto";
  const text = document.createElement("p");
  text.className = "body";
  text.dir = "auto";
  words.append(title, text);
  const actions = document.createElement("div");
  actions.className = "actions";
  card.append(words, actions);
  return card;
}

function fillNotice(card: HTMLElement, notice: NoticeView): void {
  card.className = `notice ${notice.level}`;
  card.dataset.key = notice.key;
  setText(part(card, ".title"), notice.title);
  setText(part(card, ".body"), notice.text);
  const actions = part(card, ".actions");
  const wanted = notice.actions.map((action) => `${action.id}:${action.label}`).join("|");
  if (actions.dataset.actions === wanted) return;
  actions.dataset.actions = wanted;
  actions.replaceChildren(...notice.actions.map((action) => button(action.id, action.label, "button small")));
}

function button(action: NoticeAction | "resend", label: string, className: string): HTMLButtonElement {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  made.dataset.action = action;
  made.textContent = label;
  return made;
}

function part(parent: HTMLElement, selector: string): HTMLElement {
  const found = parent.querySelector<HTMLElement>(selector);
  if (!found) throw new Error(`missing ${selector}`);
  return found;
}

function setText(target: HTMLElement, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}

function show(id: string, visible: boolean): void {
  element(id).hidden = !visible;
}

/** Screen readers hear of what needs attention only: the conversation itself is already sound. */
const announced: ReadonlySet<Chip> = new Set<Chip>(["connecting", "late", "lost", "reconnecting", "ended"]);
