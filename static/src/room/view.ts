/** Draws the page from the state: keyed, changing only what differs. Words of others enter as text, never as markup. */

import { clock, shortClock } from "../shared/clock.ts";
import { element, setText, show } from "../shared/dom.ts";
import type { Role } from "../shared/events.ts";
import { t } from "../shared/i18n.ts";
import type { CaptionSize } from "../shared/settings.ts";
import { Announcer } from "./announcer.ts";
import type { Api } from "./api.ts";
import type { Boot } from "./boot.ts";
import { agentIsHere, caption, chip, elapsed, remaining, shownPartials, undelivered } from "./facts.ts";
import { duration, lineCount } from "./format.ts";
import type { Surroundings } from "./frame.ts";
import { type NoticeAction, type NoticeView, needsCheck, notices } from "./notices.ts";
import type { Blocked, MicStatus, State } from "./state.ts";
import { Timing } from "./timing.ts";
import { blockedWords, chipWords, endTitle, endWords, foreignWords, isTrouble, unheardWords } from "./words.ts";

/** Long enough for any screen reader to have taken it up; it would be in the way of whoever reads the page later. */
const ANNOUNCED_MS = 5_000;

interface Line {
  key: string;
  seq: number | null;
  role: Role;
  text: string;
  startMs: number;
  status: "partial" | "final" | "pending" | "unconfirmed" | "failed";
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
  readonly typeInstead = element<HTMLButtonElement>("type-instead");
  readonly name = element<HTMLInputElement>("name");
  readonly sayForm = element<HTMLFormElement>("say-form");
  readonly sayText = element<HTMLInputElement>("say-text");
  readonly mute = element<HTMLButtonElement>("mute");
  readonly hold = element<HTMLButtonElement>("hold");
  readonly captions = element<HTMLButtonElement>("captions-toggle");
  readonly settings = element<HTMLButtonElement>("settings-open");
  readonly settingsDialog = element<HTMLDialogElement>("settings");
  readonly settingsForm = element<HTMLFormElement>("settings-form");
  readonly helpDialog = element<HTMLDialogElement>("help");
  readonly timingToggle = element<HTMLButtonElement>("timing-toggle");
  readonly check = element<HTMLDetailsElement>("check");
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
  private readonly captionText = element("caption-text");
  private readonly timing = new Timing(element("timing-turns"), element("timing-empty"));
  private readonly announcer = new Announcer((text, urgent) => this.announce(text, urgent));
  private atEnd = true;
  private lastTop = 0;
  private drawn: State | null = null;
  private readonly address = location.pathname;

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
    this.announcer.agentSpeaks(state.agentState === "speaking");
    this.renderChip(state, before);
    this.renderTimer(state);
    this.renderNotices(notices(state));
    this.renderMicrophone(state, before);
    this.renderCaption(state);
    if (before?.settings !== state.settings) this.renderSettings(state);
    if (before?.timing !== state.timing) this.renderTimingToggle(state.timing);
    if (state.timing) this.timing.render(state.turns);
    if (before?.startError !== state.startError) this.renderTalk(state.startError);
    if (
      !before ||
      before.segments !== state.segments ||
      before.partials !== state.partials ||
      before.typed !== state.typed ||
      before.phase !== state.phase
    ) {
      this.renderLines(linesOf(state), state);
    }
    if (undelivered(state).length > (before ? undelivered(before).length : 0)) {
      this.announcer.interrupt(t("A line has not been confirmed. You can send it again."));
    }
    if (before?.sessionId !== state.sessionId) this.renderDownloads(state.sessionId);
    this.renderAddress(state);
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
    if (phase === "blocked" && state.blocked) this.renderBlocked(state.blocked, state.around);
    if (!before || before.phase === phase) return;
    if (phase === "ended") element("summary-title").focus({ preventScroll: true });
    if (phase === "lobby") this.name.focus({ preventScroll: true });
    // On a phone, focus would throw the keyboard over the conversation: only who wants to type gets it.
    if (phase === "starting" && (state.typing || matchMedia("(pointer: fine)").matches)) {
      (state.settings.pushToTalk && !state.typing ? this.hold : this.sayText).focus({ preventScroll: true });
    }
  }

  private renderBlocked(blocked: Blocked, around: Surroundings): void {
    const [title, text] = blockedWords(blocked, around);
    show("blocked-link", blocked !== "sandboxed"); // it would open as locked as this page is
    setText(element("blocked-title"), title);
    setText(element("blocked-text"), text);
  }

  private renderChip(state: State, before: State | null): void {
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
    if (value === "connecting") this.announcer.tell(text);
    if (before && !agentIsHere(before) && state.agentState === "listening") {
      this.announcer.tell(t("{name} is listening.", { name: state.agentName }));
    }
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
        const words = `${notice.title}. ${notice.text}`;
        if (notice.level === "info") this.announcer.tell(words);
        else this.announcer.interrupt(words);
      }
      fillNotice(card, notice);
      if (this.noticeArea.children[index] !== card)
        this.noticeArea.insertBefore(card, this.noticeArea.children[index] ?? null);
    });
  }

  private renderMicrophone(state: State, before: State | null): void {
    const { mic } = state;
    this.mute.dataset.mic = this.hold.dataset.mic = mic;
    this.mute.setAttribute("aria-pressed", String(mic === "muted"));
    this.mute.disabled = this.hold.disabled = mic === "asking";
    setText(element("mute-label"), micLabel(mic));
    setText(element("hold-label"), mic === "on" ? t("Speak now") : mic === "muted" ? t("Hold to talk") : micLabel(mic));
    if (state.settings.pushToTalk || !before || before.mic === mic) return;
    if (mic === "muted") this.announcer.interrupt(t("Muted"));
    if (mic === "on" && before.mic === "muted") this.announcer.interrupt(t("Microphone on"));
  }

  /** For the eyes only: a screen reader's user hears these words, or reads them in the transcript. */
  private renderCaption(state: State): void {
    const words = state.settings.captions === "off" ? null : caption(state);
    setText(this.captionText, words?.text ?? "");
    this.captionText.dataset.role = words?.role ?? "";
  }

  private renderSettings(state: State): void {
    const { captions, pushToTalk, shortcuts } = state.settings;
    this.room.dataset.captions = captions;
    this.room.toggleAttribute("data-push-to-talk", pushToTalk);
    this.mute.hidden = pushToTalk;
    this.hold.hidden = !pushToTalk;
    element<HTMLInputElement>("push-to-talk").checked = pushToTalk;
    element<HTMLInputElement>(`captions-${captions}`).checked = true;
    element<HTMLInputElement>("shortcuts").checked = shortcuts;
    const before = this.captions.dataset.size;
    this.captions.dataset.size = captions;
    this.captions.setAttribute("aria-label", captionsLabel(captions));
    if (before && before !== captions) this.announcer.interrupt(captionsLabel(captions));
  }

  private renderTimingToggle(shown: boolean): void {
    this.timingToggle.setAttribute("aria-expanded", String(shown));
    show("timing", shown);
  }

  private renderTalk(startError: string | null): void {
    const again = startError !== null && startError !== "csrf" && startError !== "session_ended";
    setText(element("talk-label"), again ? t("Try again") : t("Talk"));
  }

  /** Each announcement is a line of its own, so that none overwrites another and the same words can be said twice. */
  private announce(text: string, urgent: boolean): void {
    const line = document.createElement("p");
    line.textContent = text;
    element(urgent ? "alarm" : "announcer").append(line);
    setTimeout(() => line.remove(), ANNOUNCED_MS);
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

  /** What is over has a page of its own: a reload or a bookmark leads there. In a frame, the room stays the address. */
  private renderAddress(state: State): void {
    if (window.top !== window) return;
    const over = state.phase === "ended" && !state.foreign && state.sessionId !== null;
    const address = over ? this.api.summaryUrl(state.sessionId ?? "") : this.address;
    if (location.pathname === address) return;
    history.replaceState(history.state, "", address);
    const next = document.querySelector<HTMLInputElement>(".language input[name=next]");
    if (next) next.value = address; // another language shows the same
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
          : state.unheard
            ? unheardWords()
            : `${length}${endWords(state.reason, state.agentName)}`,
    );
    this.again.hidden = state.invited; // there was this one conversation; whoever made it makes the next
    this.erase.hidden = erased || state.foreign || !state.sessionId;
    const keep = element<HTMLAnchorElement>("keep");
    keep.hidden = this.erase.hidden;
    if (state.sessionId) keep.href = this.api.summaryUrl(state.sessionId);
    show("check-link", !erased && isTrouble(state.reason));
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
    ...shownPartials(state).map(
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
        status: typed.status === "failed" || typed.status === "unconfirmed" ? typed.status : "pending",
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
  const again = line.status === "failed" || line.status === "unconfirmed";
  const classes = [
    settled ? "final" : "partial",
    ...(again ? ["failed"] : line.status === "pending" ? ["pending"] : []),
  ];
  item.className = `segment ${classes.join(" ")}`;
  if (line.seq === null) delete item.dataset.seq;
  else item.dataset.seq = String(line.seq);
  setText(part(item, ".speaker"), line.role === "user" ? t("You") : agentName);
  setText(part(item, "time"), clock(line.startMs));
  setText(part(item, ".text"), line.text);
  const note = part(item, ".note");
  setText(note, line.interrupted ? t("interrupted") : statusNote(line.status));
  note.hidden = !note.textContent;
  const retry = item.querySelector<HTMLButtonElement>("button.resend");
  if (!again) retry?.remove();
  else if (!retry) item.append(button("resend", t("Send again"), "resend"));
}

function statusNote(status: Line["status"]): string {
  if (status === "pending") return t("sending");
  if (status === "unconfirmed") return t("not confirmed yet");
  return status === "failed" ? t("not delivered") : "";
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
  const buttons = notice.actions.map((action) => button(action.id, action.label, "button small"));
  actions.replaceChildren(...buttons, ...(needsCheck(notice) ? [checkLink()] : []));
}

function checkLink(): HTMLAnchorElement {
  const made = document.createElement("a");
  made.href = "/check";
  made.target = "_blank"; // the conversation may still go on here
  made.rel = "noopener";
  made.className = "check-link";
  made.textContent = t("Check the connection");
  return made;
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

function micLabel(mic: MicStatus): string {
  if (mic === "on") return t("Mute");
  if (mic === "muted") return t("Unmute");
  return mic === "asking" ? t("Waiting") : t("Mic off");
}

function captionsLabel(size: CaptionSize): string {
  if (size === "small") return t("Captions: small");
  return size === "large" ? t("Captions: large") : t("Captions: off");
}
