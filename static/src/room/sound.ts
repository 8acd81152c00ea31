/**
 * The check of microphone and speaker: what the visitor chooses here is used in the conversation and remembered.
 *
 * One panel serves both places where one looks for it: under Talk before the conversation, in a dialog during it.
 * It holds a microphone of its own only while it is in sight and no conversation has one.
 */

import {
  canChooseSpeaker,
  canUseMicrophone,
  type Device,
  listDevices,
  microphonePermission,
  onDeviceChange,
  openMicrophone,
  playNotes,
} from "../shared/devices.ts";
import { element, setText } from "../shared/dom.ts";
import { t } from "../shared/i18n.ts";
import { microphoneKeeper } from "./frame.ts";
import { keptMicrophone } from "./notices.ts";
import { Meter } from "./visualiser.ts";

export interface SoundHooks {
  onMicrophone(id: string): void;
  onSpeaker(id: string): void;
  /** The microphone that a conversation has open. */
  inUse(): MediaStreamTrack | null;
}

export interface Chosen {
  microphone: string;
  speaker: string;
}

/** As loud as this (0 to 1) is a voice, not a hum. */
const HEARD = 0.18;

export class SoundPanel {
  private readonly panel = element("sound");
  private readonly allow = element<HTMLButtonElement>("sound-allow");
  private readonly microphones = element<HTMLSelectElement>("microphone");
  private readonly speakers = element<HTMLSelectElement>("speaker-choice");
  private readonly level = element("level");
  private readonly test = element<HTMLButtonElement>("speaker-test");
  private readonly meter = new Meter(this.level, (level) => this.heard(level));
  private context: AudioContext | null = null;
  private own: MediaStreamTrack | null = null;
  private shown = false;
  /** Calls overtake each other; only the latest may open something. */
  private round = 0;

  constructor(
    private readonly chosen: () => Chosen,
    private readonly hooks: SoundHooks,
  ) {
    this.allow.addEventListener("click", () => void this.listen(true));
    this.microphones.addEventListener("change", () => {
      this.hooks.onMicrophone(this.microphones.value);
      if (this.own) void this.listen(true);
    });
    this.speakers.addEventListener("change", () => this.hooks.onSpeaker(this.speakers.value));
    this.test.addEventListener("click", () => void this.play());
    onDeviceChange(() => void this.fill());
  }

  /** Comes into sight in `place`. The browser's question is never asked unasked. */
  async show(place: HTMLElement): Promise<void> {
    place.append(this.panel);
    this.shown = true;
    say("mic-hint", "");
    say("speaker-hint", "");
    await this.listen(false);
  }

  /** Out of sight, or a conversation takes over: the microphone is let go. */
  hide(): void {
    this.shown = false;
    this.round += 1;
    this.release();
  }

  /** The conversation's microphone has changed: show its level. */
  async refresh(): Promise<void> {
    if (this.shown) await this.listen(false);
  }

  private async listen(ask: boolean): Promise<void> {
    this.round += 1;
    const round = this.round;
    this.release();
    const running = this.hooks.inUse();
    const allowed = running !== null || (await microphonePermission()) === "granted";
    if (round !== this.round) return;
    this.reveal(allowed);
    if (!canUseMicrophone()) {
      say("mic-hint", t("Browsers allow the microphone only on secure (https) pages. You can write instead."));
      return;
    }
    if (!allowed && !ask) return;
    try {
      const track = running ?? (await openMicrophone(this.chosen().microphone));
      if (round !== this.round || !this.shown) {
        if (!running) track.stop();
        return;
      }
      this.own = running ? null : track;
      this.reveal(true);
      this.context = new AudioContext();
      this.meter.listen(this.context, track);
      say("mic-hint", track.enabled ? t("Say something: the bar should move.") : t("Your microphone is muted."));
    } catch (error) {
      if (round === this.round) say("mic-hint", problem(error));
    }
    await this.fill();
  }

  private release(): void {
    this.meter.close();
    this.own?.stop();
    this.own = null;
    void this.context?.close();
    this.context = null;
  }

  private reveal(allowed: boolean): void {
    element("sound-ask").hidden = allowed || !canUseMicrophone();
    element("mic-field").hidden = !allowed;
  }

  private async fill(): Promise<void> {
    const { microphones, speakers } = await listDevices();
    const { microphone, speaker } = this.chosen();
    const used = (this.own ?? this.hooks.inUse())?.getSettings().deviceId;
    fillChoice(this.microphones, microphones, used ?? microphone);
    fillChoice(this.speakers, speakers, speaker);
    this.speakers.hidden = element("speaker-label").hidden = !canChooseSpeaker() || speakers.length === 0;
  }

  private heard(level: number): void {
    const percent = Math.round(level * 100);
    if (this.level.getAttribute("aria-valuenow") !== String(percent)) {
      this.level.setAttribute("aria-valuenow", String(percent));
    }
    if (level > HEARD) say("mic-hint", t("Your microphone works."));
  }

  private async play(): Promise<void> {
    this.test.disabled = true;
    say("speaker-hint", t("Playing three notes …"));
    try {
      await playNotes(this.chosen().speaker);
      say("speaker-hint", t("Did you hear three notes? If not, turn up the volume or choose another speaker."));
    } catch {
      say("speaker-hint", t("Your browser could not play a sound. Check that this tab is not muted."));
    }
    this.test.disabled = false;
  }
}

function fillChoice(select: HTMLSelectElement, devices: readonly Device[], wanted: string): void {
  const options = devices.length ? devices : [{ id: "", label: t("Default") }];
  const known = [...select.options].map((option) => `${option.value} ${option.text}`).join("\n");
  if (known !== options.map((device) => `${device.id} ${device.label}`).join("\n")) {
    select.replaceChildren(...options.map((device) => new Option(device.label, device.id)));
  }
  const value = options.some((device) => device.id === wanted) ? wanted : (options[0]?.id ?? "");
  if (select.value !== value) select.value = value;
}

function problem(error: unknown): string {
  const name = error instanceof Error ? error.name : "";
  if (name === "NotAllowedError") {
    const keeper = microphoneKeeper(window, document);
    if (keeper) return keptMicrophone(`kept-by-${keeper}`).join(". ");
    return t("Your microphone is blocked. Allow it for this page in your browser's address bar. Or write instead.");
  }
  if (name === "NotFoundError") return t("No microphone found. Plug one in or switch it on. Or write instead.");
  return t("Your microphone does not answer. Another program may be using it. Close that program and try again.");
}

const say = (id: string, text: string): void => setText(element(id), text);
