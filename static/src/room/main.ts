/** Ties the parts together: reports become actions, the state becomes the page, clicks become requests. */

import { Api, ApiError, type Started } from "./api.ts";
import { readBoot, readCsrfToken } from "./boot.ts";
import { loadLiveKit, Media, microphoneIsGranted } from "./media.ts";
import type { NoticeAction } from "./notices.ts";
import { SessionSocket, socketUrl } from "./socket.ts";
import { type Change, initialState, nextTyped, reduce, route, type State } from "./state.ts";
import { View } from "./view.ts";
import { Meter, Visualiser } from "./visualiser.ts";

const NAME_KEY = "molts.name";
const TICK_MS = 500;
const END_TRIES = 4;
/** How long the last lines may take to arrive after the end. */
const LAST_LINES_MS = 30_000;

const boot = readBoot(document);
const api = new Api(boot.start_url, boot.link, readCsrfToken(document));
const view = new View(boot, api);

let state: State = initialState(boot, Date.now());
let conversation: Conversation | null = null;

function dispatch(change: Change): void {
  const before = state;
  state = reduce(state, { ...change, now: Date.now() });
  view.render(state);
  if (before.phase !== "ended" && state.phase === "ended") void conversation?.finish();
  if (state.phase === "live") conversation?.deliver();
}

/** One conversation's connections. Reports of an abandoned one are dropped. */
class Conversation {
  private readonly media: Media;
  private readonly visualiser = new Visualiser(view.face, view.bars);
  private readonly meter = new Meter(view.mute);
  private socket: SessionSocket | null = null;
  private done = false;
  private typeInstead: () => void = () => {};
  private sessionId: string | null = null;

  constructor() {
    this.media = new Media(
      {
        onStatus: (status) => this.report({ type: "media", status }),
        onMic: (status) => {
          this.report({ type: "mic", status });
          const track = this.media.microphoneTrack;
          if (status === "on" && track && !this.done) this.meter.listen(this.visualiser.unlock(), track);
          else this.meter.close();
        },
        onAgent: (present, video) => this.report({ type: "agent.media", present, video }),
        onPlayback: (blocked) => this.report({ type: "playback", blocked }),
        onVoice: (track) => this.visualiser.listen(track),
        onFace: (track) => {
          track?.attach(view.avatar);
          view.avatar.hidden = track === null;
        },
        onOver: (mine) => this.report({ type: "socket.over", code: mine ? 4410 : 4404 }),
        renew: () => api.resume(this.sessionId ?? ""),
      },
      view.speaker,
    );
  }

  get room() {
    return this.media.room;
  }

  get level(): number {
    return this.visualiser.level;
  }

  /** From a click on Talk. The microphone opens first, so that the first words are kept while all else connects. */
  async talk(name: string): Promise<void> {
    this.visualiser.unlock();
    const opened = this.media.openMicrophone();
    const typing = new Promise<void>((resolve) => {
      this.typeInstead = resolve;
    });
    // The browser's question may take the visitor a while; the agent should not greet somebody who still reads it.
    if (!(await microphoneIsGranted())) await Promise.race([opened, typing]);
    await this.begin(() => api.start(name));
  }

  async resume(sessionId: string): Promise<void> {
    this.sessionId = sessionId;
    if (await microphoneIsGranted()) void this.media.openMicrophone();
    await this.begin(() => api.resume(sessionId));
  }

  private async begin(request: () => Promise<Started>): Promise<void> {
    if (this.done) return;
    let started: Started;
    try {
      started = await request();
    } catch (error) {
      this.report({ type: "start.failed", code: error instanceof ApiError ? error.code : "unavailable" });
      await this.finish();
      return;
    }
    this.sessionId = started.session.id;
    if (this.done) {
      await endSession(this.sessionId);
      return;
    }
    this.report({ type: "started", sessionId: started.session.id, wsPath: started.ws_path });
    this.listen(started.ws_path);
    await this.media.connect(started);
  }

  private listen(path: string): void {
    this.socket = new SessionSocket(socketUrl(path, window.location), {
      lastSeq: () => state.lastSeq,
      onEvent: (event) => this.hear({ type: "event", event }),
      onStatus: (status) => this.hear({ type: "socket", status }),
      onOver: (code) => this.hear({ type: "socket.over", code }),
    });
    this.socket.open();
  }

  /** Media news matters only while the conversation runs. */
  private report(change: Change): void {
    if (!this.done && conversation === this) dispatch(change);
  }

  /** Words may still come after the end: the last lines settle then. */
  private hear(change: Change): void {
    if (conversation === this) dispatch(change);
  }

  /** Sends what was typed as soon as there is a way, one line after the other. */
  deliver(): void {
    const line = nextTyped(state);
    const way = route(state);
    const { sessionId } = this;
    if (this.done || !line || !way || !sessionId) return;
    const { id, text } = line;
    this.report({ type: "typed.status", id, status: "sending" });
    const sent =
      way === "chat" ? this.media.sendText(text).catch(() => api.say(sessionId, text)) : api.say(sessionId, text);
    sent.then(
      () => this.report({ type: "typed.status", id, status: "sent" }),
      () => this.report({ type: "typed.status", id, status: "failed" }),
    );
  }

  async act(action: NoticeAction): Promise<void> {
    if (action === "microphone") await this.media.openMicrophone();
    if (action === "without-microphone") {
      dispatch({ type: "mic", status: "off" });
      this.typeInstead();
    }
    if (action === "sound") {
      this.visualiser.unlock();
      await this.media.enableSound().catch(() => {});
    }
    if (action === "take-over") {
      this.visualiser.unlock();
      await this.media.takeOver();
    }
  }

  async toggleMute(): Promise<void> {
    if (state.mic === "on") await this.media.setMuted(true);
    else if (state.mic === "muted") await this.media.setMuted(false);
    else await this.media.openMicrophone();
  }

  async leave(): Promise<void> {
    const { sessionId } = this;
    dispatch(sessionId ? { type: "left" } : { type: "cancel" });
    if (sessionId) await endSession(sessionId);
    else await this.finish();
  }

  networkBack(): void {
    if (!this.done) this.socket?.retryNow();
  }

  /** Ends the media part; the socket stays for the last lines and is then closed by the server (4410). */
  async finish(): Promise<void> {
    if (this.done) return;
    this.done = true;
    this.typeInstead();
    this.meter.close();
    setTimeout(() => this.forget(), LAST_LINES_MS);
    await Promise.allSettled([this.media.close(), this.visualiser.close()]);
    view.avatar.hidden = true;
  }

  forget(): void {
    this.socket?.close();
  }
}

/** The server also notices by itself that a visitor has gone, only later; so a few tries are enough. */
async function endSession(sessionId: string): Promise<void> {
  for (let attempt = 0; attempt < END_TRIES; attempt += 1) {
    try {
      await api.end(sessionId);
      return;
    } catch (error) {
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) return;
      await new Promise((resolve) => setTimeout(resolve, 1_000 * (attempt + 1)));
    }
  }
}

function talk(): void {
  const name = view.name.value.trim();
  remember(name);
  conversation?.forget();
  conversation = new Conversation();
  dispatch({ type: "talk" });
  void conversation.talk(name);
}

function remember(name: string): void {
  try {
    localStorage.setItem(NAME_KEY, name);
  } catch {
    // Storage may be switched off; the name is only a convenience.
  }
}

function remembered(): string {
  try {
    return localStorage.getItem(NAME_KEY) ?? "";
  } catch {
    return "";
  }
}

async function erase(): Promise<void> {
  const { sessionId } = state;
  if (!sessionId) return;
  dispatch({ type: "erase", status: "erasing" });
  try {
    await api.erase(sessionId);
    conversation?.forget();
    dispatch({ type: "erase", status: "erased" });
  } catch {
    dispatch({ type: "erase", status: "failed" });
  }
}

function onAction(event: Event): void {
  const target =
    event.target instanceof Element ? event.target.closest<HTMLButtonElement>("button[data-action]") : null;
  if (!target) return;
  const action = target.dataset.action as NoticeAction | "resend";
  if (action === "resend") {
    const id = target.closest("li")?.dataset.segmentId;
    if (id) dispatch({ type: "typed.status", id, status: "queued" });
    return;
  }
  if (action === "dismiss")
    dispatch({ type: "dismiss", key: target.closest<HTMLElement>(".notice")?.dataset.key ?? "" });
  else if (action === "reload") window.location.reload();
  else if (action === "retry") talk();
  else if (action === "leave") void conversation?.leave();
  else void conversation?.act(action);
}

function say(event: Event): void {
  event.preventDefault();
  const text = view.sayText.value.trim();
  if (!text) return;
  view.sayText.value = "";
  dispatch({ type: "typed", id: `typed-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`, text });
}

view.talkForm.addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.phase === "lobby") talk();
});
view.again.addEventListener("click", talk);
view.leave.addEventListener("click", () => void conversation?.leave());
view.mute.addEventListener("click", () => void conversation?.toggleMute());
view.sayForm.addEventListener("submit", say);
view.noticeArea.addEventListener("click", onAction);
view.transcript.addEventListener("click", onAction);
view.erase.addEventListener("click", () => view.eraseDialog.showModal());
view.eraseDialog.addEventListener("close", () => {
  if (view.eraseDialog.returnValue === "erase") void erase();
  view.eraseDialog.returnValue = "";
});
window.addEventListener("online", () => conversation?.networkBack());
// A page out of the browser's back-forward cache has lost its connections.
window.addEventListener("pageshow", (event) => event.persisted && window.location.reload());
setInterval(() => {
  if (state.phase === "live" || state.phase === "starting") dispatch({ type: "tick" });
}, TICK_MS);

/** For tests and curious developers: what the page believes. */
Object.assign(window, {
  molts: {
    get room() {
      return conversation?.room ?? null;
    },
    get level() {
      return conversation?.level ?? 0;
    },
    state: () => state,
  },
});

view.name.value = remembered();
if (boot.state === "resume" && boot.session) {
  conversation = new Conversation();
  dispatch({ type: "resume", sessionId: boot.session.id });
  void conversation.resume(boot.session.id);
} else {
  view.render(state);
}
void loadLiveKit().catch(() => {});
