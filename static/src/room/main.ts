/** Ties the parts together: reports become actions, the state becomes the page, clicks become requests. */

import {
  listDevices,
  microphonePermission,
  onDeviceChange,
  onPermissionChange,
  type Permission,
} from "../shared/devices.ts";
import { element } from "../shared/dom.ts";
import { keepPeers } from "../shared/peers.ts";
import {
  type CaptionSize,
  captionSizes,
  isTypedTalk,
  loadName,
  loadSettings,
  type Settings,
  saveName,
  saveSettings,
  saveTypedTalk,
} from "../shared/settings.ts";
import { SessionSocket, socketUrl } from "../shared/socket.ts";
import { Api, ApiError, type Started } from "./api.ts";
import { readBoot, readCsrfToken, settleInFrame } from "./boot.ts";
import { MovingFace } from "./face.ts";
import { nextTyped, wantsMicrophone } from "./facts.ts";
import { lookAround } from "./frame.ts";
import { listenToHold } from "./hold.ts";
import { newId } from "./ids.ts";
import { loadLiveKit, Media } from "./media.ts";
import type { NoticeAction } from "./notices.ts";
import { type Command, commandOf, fillHelp, takesKeys, takesSpace } from "./shortcuts.ts";
import { SoundPanel } from "./sound.ts";
import { type Change, initialState, reduce, type State } from "./state.ts";
import { View } from "./view.ts";
import { Meter, Visualiser } from "./visualiser.ts";

const TICK_MS = 500;
/** How long the last lines may take to arrive after the end. */
const LAST_LINES_MS = 30_000;
/** A page whose clock stood still for so long has slept, and its connections with it. */
const SLEPT_MS = 5_000;

const boot = readBoot(document);
const api = new Api(boot.start_url, boot.link, readCsrfToken(document));
const view = new View(boot, api);
const face = new MovingFace(view.avatar, view.face);

keepPeers(boot.stun_servers, () => conversation?.peersChanged());

let state: State = initialState(boot, Date.now(), loadSettings(), lookAround(window, document));
let conversation: Conversation | null = null;

const sound = new SoundPanel(() => state.settings, {
  onMicrophone: (microphone) => change({ microphone }),
  onSpeaker: (speaker) => change({ speaker }),
  inUse: () => conversation?.microphone ?? null,
});

function dispatch(change: Change): void {
  const before = state;
  state = reduce(state, { ...change, now: Date.now() });
  view.render(state);
  if (before.phase !== "ended" && state.phase === "ended") {
    for (const dialog of [view.settingsDialog, view.helpDialog]) dialog.close();
    void conversation?.finish();
  }
  if (before.typing !== state.typing || before.sessionId !== state.sessionId) {
    saveTypedTalk(state.typing && state.sessionId ? state.sessionId : "");
  }
  if (state.phase === "live") conversation?.deliver();
}

/** One conversation's connections. Reports of an abandoned one are dropped. */
class Conversation {
  private readonly media: Media;
  private readonly visualiser = new Visualiser(view.face, view.bars);
  private readonly meter = new Meter(element("controls"));
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
          if (status !== "asking") void sound.refresh();
        },
        onMicMoved: (label) => this.report({ type: "mic.moved", label }),
        onAgent: (present, video) => this.report({ type: "agent.media", present, video }),
        onPlayback: (blocked) => this.report({ type: "playback", blocked }),
        onVoice: (track) => this.visualiser.listen(track),
        onFace: (track) => face.use(track),
        onOver: (mine) => this.report({ type: "socket.over", code: mine ? 4410 : 4404 }),
        renew: () => api.resume(this.sessionId ?? ""),
      },
      view.speaker,
      { ...state.settings },
    );
  }

  get room() {
    return this.media.room;
  }

  get microphone(): MediaStreamTrack | null {
    return this.done ? null : this.media.microphoneTrack;
  }

  get level(): number {
    return this.visualiser.level;
  }

  /** Enters the conversation: a new one, or the one that a program has made for whoever comes. */
  private async enter(name: string): Promise<void> {
    const { session } = boot;
    await this.begin(() => (state.invited && session ? api.resume(session.id) : api.start(name)));
  }

  /** From a click on Type instead: no microphone is asked for. The click lets the browser play the agent's voice. */
  async write(name: string): Promise<void> {
    this.visualiser.unlock();
    await this.enter(name);
  }

  /** From a click on Talk. The microphone opens first, so that the first words are kept while all else connects. */
  async talk(name: string): Promise<void> {
    this.visualiser.unlock();
    const opened = this.media.openMicrophone();
    const typing = new Promise<void>((resolve) => {
      this.typeInstead = resolve;
    });
    // The browser's question may take the visitor a while; the agent should not greet somebody who still reads it.
    if ((await microphonePermission()) !== "granted") await Promise.race([opened, typing]);
    await this.enter(name);
  }

  async resume(sessionId: string): Promise<void> {
    this.sessionId = sessionId;
    if (!state.typing && (await microphonePermission()) === "granted") void this.media.openMicrophone();
    await this.begin(() => api.resume(sessionId));
  }

  private async begin(request: () => Promise<Started>): Promise<void> {
    if (this.done) return;
    this.report({ type: "asked" });
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
      await api.endSurely(this.sessionId);
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
      onStatus: (status, silentMs) => this.hear({ type: "socket", status, silentMs }),
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
    const next = nextTyped(state);
    const { sessionId } = this;
    if (this.done || !next || !sessionId) return;
    const { id, text } = next.line;
    this.report({ type: "typed.status", id, status: "sending" });
    const sent =
      next.way === "chat"
        ? this.media.sendText(text, id).catch(() => api.say(sessionId, text, id))
        : api.say(sessionId, text, id);
    sent.then(
      () => this.report({ type: "typed.status", id, status: "sent" }),
      (error: unknown) => {
        const tooFast = error instanceof ApiError && error.code === "throttled";
        this.report(tooFast ? { type: "typed.too_fast", id } : { type: "typed.status", id, status: "failed" });
      },
    );
  }

  async act(action: NoticeAction): Promise<void> {
    if (action === "microphone") await this.media.openMicrophone();
    if (action === "without-microphone") {
      dispatch({ type: "typing" });
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

  /** The button or the space bar of push-to-talk goes down or up. */
  hold(held: boolean): void {
    if (!state.settings.pushToTalk) return;
    if (state.mic === "on" || state.mic === "muted") this.media.hold(held);
    else if (held && state.mic !== "asking") void this.media.openMicrophone();
  }

  apply(settings: Partial<Settings>): void {
    if (settings.pushToTalk !== undefined) this.media.hold(settings.pushToTalk ? false : null);
    if (settings.microphone !== undefined) void this.media.chooseMicrophone(settings.microphone);
    if (settings.speaker !== undefined) void this.media.chooseSpeaker(settings.speaker);
  }

  async leave(): Promise<void> {
    const { sessionId } = this;
    dispatch(sessionId ? { type: "left" } : { type: "cancel" });
    if (!sessionId) return this.finish();
    if (await api.endSurely(sessionId)) return;
    this.hear({ type: "left.refused" });
    this.forget();
  }

  peersChanged(): void {
    this.media.reportStatus();
  }

  /** The network is back, or the page is: connections from before are not to be trusted. */
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
    if (conversation === this) face.use(null);
  }

  forget(): void {
    this.socket?.close();
  }
}

function talk(typing: boolean): void {
  const name = view.name.value.trim();
  saveName(name);
  sound.hide();
  view.check.open = false;
  conversation?.forget();
  conversation = new Conversation();
  dispatch({ type: "talk", typing });
  void (typing ? conversation.write(name) : conversation.talk(name));
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
  else if (action === "devices") openSettings();
  else if (action === "own-tab") window.open(window.location.href, "_blank", "noopener");
  else if (action === "leave") void conversation?.leave();
  else void conversation?.act(action);
}

function say(event: Event): void {
  event.preventDefault();
  const text = view.sayText.value.trim();
  if (!text) return;
  view.sayText.value = "";
  dispatch({ type: "typed", id: newId(), text });
}

/** What the visitor chose takes effect at once, here and in the next conversation. */
function change(settings: Partial<Settings>): void {
  dispatch({ type: "settings", settings });
  saveSettings(state.settings);
  conversation?.apply(settings);
}

function openSettings(): void {
  if (view.settingsDialog.open) return;
  view.settingsDialog.showModal();
  void sound.show(element("settings-sound"));
}

function nextCaptions(): void {
  const index = captionSizes.indexOf(state.settings.captions);
  change({ captions: captionSizes[(index + 1) % captionSizes.length] ?? "off" });
}

const commands: Readonly<Record<Command, () => void>> = {
  mute: () => {
    if (!state.settings.pushToTalk) void conversation?.toggleMute();
  },
  captions: nextCaptions,
  timing: () => dispatch({ type: "timing", shown: !state.timing }),
  write: () => view.sayText.focus(),
  devices: openSettings,
  leave: () => void conversation?.leave(),
  help: () => view.helpDialog.showModal(),
};

const isTalking = (): boolean => state.phase === "live" || state.phase === "starting";
const dialogIsOpen = (): boolean => document.querySelector("dialog[open]") !== null;

function onKeyDown(event: KeyboardEvent): void {
  if (event.key === "Escape" && event.target === view.sayText) view.sayText.blur();
  if (!isTalking() || dialogIsOpen()) return;
  if (event.code === "Space" && state.settings.pushToTalk && !takesSpace(event.target)) {
    event.preventDefault();
    if (!event.repeat) conversation?.hold(true);
    return;
  }
  const command = takesKeys(event.target) || !state.settings.shortcuts ? null : commandOf(event);
  if (!command || event.repeat) return;
  event.preventDefault();
  commands[command]();
}

/** A microphone turns up, by plug or by permission. */
async function onMicrophoneThere(): Promise<void> {
  if (!wantsMicrophone(state)) return;
  if ((await microphonePermission()) === "granted" && (await listDevices()).microphones.length) {
    await conversation?.act("microphone");
  }
}

function onPermission(permission: Permission): void {
  void sound.refresh();
  if (permission !== "granted" || state.phase !== "live" || state.mic !== "denied") return;
  if (wantsMicrophone(state)) void conversation?.act("microphone");
  // Somebody who has settled for text is asked, not heard.
  else dispatch({ type: "mic", status: "off" });
}

/** The check shows itself to whoever will need it, and stands in nobody's way. */
async function offerCheck(): Promise<void> {
  const permission = await microphonePermission();
  const none = permission === "granted" && (await listDevices()).microphones.length === 0;
  if (state.phase === "lobby" && (permission === "prompt" || permission === "denied" || none)) view.check.open = true;
}

function onSettingsChange(event: Event): void {
  const input = event.target;
  if (!(input instanceof HTMLInputElement)) return;
  if (input.id === "push-to-talk") change({ pushToTalk: input.checked });
  if (input.name === "captions") change({ captions: input.value as CaptionSize });
}

let ticked = Date.now();
function tick(): void {
  const now = Date.now();
  const slept = now - ticked > SLEPT_MS;
  ticked = now;
  if (!isTalking()) return;
  if (slept) conversation?.networkBack();
  dispatch({ type: "tick" });
}

view.talkForm.addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.phase === "lobby") talk(false);
});
view.typeInstead.addEventListener("click", () => talk(true));
view.again.addEventListener("click", () => talk(state.typing));
view.leave.addEventListener("click", () => void conversation?.leave());
view.mute.addEventListener("click", () => void conversation?.toggleMute());
view.captions.addEventListener("click", nextCaptions);
view.settings.addEventListener("click", openSettings);
view.settingsDialog.addEventListener("close", () => sound.hide());
view.settingsForm.addEventListener("change", onSettingsChange);
element("help-open").addEventListener("click", () => view.helpDialog.showModal());
element<HTMLInputElement>("shortcuts").addEventListener("change", (event) =>
  change({ shortcuts: (event.target as HTMLInputElement).checked }),
);
view.timingToggle.addEventListener("click", () => dispatch({ type: "timing", shown: !state.timing }));
view.check.addEventListener("toggle", () => {
  if (view.check.open) void sound.show(element("check-sound"));
  else sound.hide();
});
view.sayForm.addEventListener("submit", say);
view.noticeArea.addEventListener("click", onAction);
view.transcript.addEventListener("click", onAction);
view.erase.addEventListener("click", () => view.eraseDialog.showModal());
view.eraseDialog.addEventListener("close", () => {
  if (view.eraseDialog.returnValue === "erase") void erase();
  view.eraseDialog.returnValue = "";
});
for (const dialog of [view.settingsDialog, view.helpDialog]) {
  // A click beside a dialog hits the dialog itself: its content lies in a form that fills it.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}
document.addEventListener("keydown", onKeyDown);
listenToHold(view.hold, {
  hold: (held) => conversation?.hold(held),
  toggle: () => conversation?.hold(state.mic !== "on"),
});
onDeviceChange(() => void onMicrophoneThere());
void onPermissionChange(onPermission);
window.addEventListener("online", () => conversation?.networkBack());
document.addEventListener("resume", () => conversation?.networkBack());
// A page out of the browser's back-forward cache has lost its connections.
window.addEventListener("pageshow", (event) => event.persisted && window.location.reload());
setInterval(tick, TICK_MS);

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

settleInFrame(window, document);
view.name.value = loadName();
fillHelp(element("help-keys"));
if (boot.state === "resume" && boot.session && state.phase !== "blocked") {
  conversation = new Conversation();
  dispatch({ type: "resume", sessionId: boot.session.id, typing: isTypedTalk(boot.session.id) });
  void conversation.resume(boot.session.id);
} else {
  view.render(state);
  void offerCheck();
}
performance.mark("room-ready");
void loadLiveKit().catch(() => {});
