/**
 * The LiveKit side of a conversation: microphone out, the agent's voice and face in, typed text out.
 *
 * It reports what happens and decides nothing about the page. A lost connection is first mended by LiveKit itself
 * (about 45 s of tries); when that gives up, a new token is asked for and a new room object takes over.
 */

import type { LocalAudioTrack, RemoteParticipant, RemoteTrack, Room } from "livekit-client";
import { canUseMicrophone, openMicrophone } from "../shared/devices.ts";
import { somethingStalls } from "../shared/peers.ts";
import { ApiError, type Started } from "./api.ts";
import { microphoneKeeper } from "./frame.ts";
import type { MediaStatus, MicStatus } from "./state.ts";

type LiveKit = typeof import("../shared/livekit.ts");

export interface MediaHooks {
  onStatus(status: MediaStatus): void;
  onMic(status: MicStatus): void;
  onAgent(present: boolean, video: boolean): void;
  onPlayback(blocked: boolean): void;
  /** The microphone went away and this one took its place. */
  onMicMoved(label: string): void;
  /** The agent's voice, or null when it is gone. */
  onVoice(track: MediaStreamTrack | null): void;
  onFace(track: RemoteTrack | null): void;
  /** The server says that the session is over (`mine`) or not this browser's (not `mine`). */
  onOver(mine: boolean): void;
  renew(): Promise<Started>;
}

export const CHAT_TOPIC = "lk.chat";
const LINE_ATTRIBUTE = "molts.line";
const SEND_DEADLINE_MS = 5_000;
/** A connection that lasted this long starts the back-off anew when it breaks. */
const STABLE_MS = 10_000;
const RETRY_MS: readonly number[] = [500, 1_000, 2_000, 4_000, 5_000];
/** LiveKit keeps only 10 s of speech for an agent that is still on its way; a late one takes longer. */
const KEEP_SPEECH_MS = 30_000;
/** An agent that has taken the kept speech is done with it by then. */
const SPEECH_TAKEN_MS = 5_000;

let loading: Promise<LiveKit> | null = null;

/** Loads the media library once; a failed load is tried again by the next caller. */
export function loadLiveKit(): Promise<LiveKit> {
  loading ??= import("../shared/livekit.ts").catch((error: unknown) => {
    loading = null;
    throw error;
  });
  return loading;
}

export interface Choice {
  microphone: string;
  speaker: string;
  pushToTalk: boolean;
}

export class Media {
  private live: Room | null = null;
  private mic: LocalAudioTrack | null = null;
  private wantsMuted = false;
  /** With push-to-talk: whether the button is held. Null without. */
  private held: boolean | null;
  private lentMicrophone = false;
  private closed = false;
  private status: MediaStatus = "idle";
  private retries = 0;
  private joinedAt = 0;

  constructor(
    private readonly hooks: MediaHooks,
    private readonly speaker: HTMLElement,
    private readonly choice: Choice,
  ) {
    this.held = choice.pushToTalk ? false : null;
  }

  get room(): Room | null {
    return this.live;
  }

  get microphoneTrack(): MediaStreamTrack | null {
    return this.mic?.mediaStreamTrack ?? null;
  }

  /** Opens the microphone, which may ask the visitor; speech is kept from here on until the agent is there. */
  async openMicrophone(): Promise<MicStatus> {
    this.hooks.onMic("asking");
    const status = await this.acquire();
    if (this.closed) return "off";
    this.hooks.onMic(status);
    if (status === "on" || status === "muted") await this.publish();
    return status;
  }

  async setMuted(muted: boolean): Promise<void> {
    this.wantsMuted = muted;
    if (!this.mic) return;
    await (muted ? this.mic.mute() : this.mic.unmute());
    this.gate();
    this.hooks.onMic(this.micStatus);
  }

  /**
   * Push-to-talk: open while `held`, null is off. The agent hears silence in between, as from somebody who says
   * nothing. A real mute would stop the sound in the middle of the last word, and with it the wait for its end.
   */
  hold(held: boolean | null): void {
    if (this.held === held) return;
    this.held = held;
    if (!this.mic) return;
    if (this.wantsMuted) {
      void this.setMuted(false);
      return;
    }
    this.gate();
    this.hooks.onMic(this.micStatus);
  }

  async chooseMicrophone(id: string): Promise<void> {
    this.choice.microphone = id;
    if (this.mic) await this.openMicrophone();
  }

  async chooseSpeaker(id: string): Promise<void> {
    this.choice.speaker = id;
    await this.live?.switchActiveDevice("audiooutput", id || "default").catch((error: unknown) => {
      console.warn("the speaker could not be changed", error);
    });
  }

  /** Connects and keeps connected until `close`. */
  async connect(started: Started): Promise<void> {
    this.become("connecting");
    if (await this.join(started)) return;
    await this.recover();
  }

  /** For a visitor who comes back to this tab after talking in another: with the microphone, if it was open here. */
  async takeOver(): Promise<void> {
    this.retries = 0;
    await this.recover(0);
    if (this.lentMicrophone && !this.mic && !this.closed) await this.openMicrophone();
  }

  /** A line of the same id counts once, however often and by whatever way it is sent. */
  async sendText(text: string, id: string): Promise<void> {
    const room = this.live;
    if (!room) throw new Error("not connected");
    const sent = room.localParticipant.sendText(text, {
      topic: CHAT_TOPIC,
      attributes: { [LINE_ATTRIBUTE]: id },
    });
    await Promise.race([sent, rejectAfter(SEND_DEADLINE_MS)]);
  }

  /** Must be called from a click: that is what lets the browser play sound. */
  async enableSound(): Promise<void> {
    await this.live?.startAudio();
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.releaseMicrophone();
    const room = this.live;
    this.live = null;
    this.speaker.replaceChildren();
    await room?.disconnect();
  }

  /** The library notices a media server that stands still after fifteen seconds, the browser after five. */
  reportStatus(): void {
    if (this.closed) return;
    this.hooks.onStatus(this.status === "connected" && somethingStalls() ? "reconnecting" : this.status);
  }

  private become(status: MediaStatus): void {
    this.status = status;
    this.reportStatus();
  }

  private get micStatus(): MicStatus {
    return this.wantsMuted || this.held === false ? "muted" : "on";
  }

  private gate(): void {
    const track = this.mic?.mediaStreamTrack;
    if (track) track.enabled = !this.wantsMuted && this.held !== false;
  }

  private async acquire(): Promise<MicStatus> {
    if (!canUseMicrophone()) return "insecure";
    try {
      // Asked for before the library is there: the browser's question need not wait for it.
      const source = await openMicrophone(this.choice.microphone);
      const livekit = await loadLiveKit().catch((error: unknown) => {
        source.stop();
        throw error;
      });
      if (this.closed) {
        source.stop();
        return "off";
      }
      await this.useSource(livekit, source);
      return this.micStatus;
    } catch (error) {
      return microphoneProblem(error);
    }
  }

  /** The device is the page's, never LiveKit's to change: what happens when it goes away must be said. */
  private async useSource(livekit: LiveKit, source: MediaStreamTrack): Promise<void> {
    const mic = this.mic;
    if (mic?.sender) {
      const before = mic.mediaStreamTrack;
      await mic.replaceTrack(source, true);
      before.stop();
      if (!this.wantsMuted) await mic.unmute();
    } else {
      this.releaseMicrophone();
      this.mic = new livekit.LocalAudioTrack(source, undefined, true);
      // It opens its source by itself, only not at once; what closes it must come after that.
      await wait(0);
      if (this.closed) return;
      this.gate();
      if (this.wantsMuted) await this.mic.mute();
      if (!this.agentIsPresent()) keepSpeech(this.mic);
    }
    this.gate();
    source.addEventListener("ended", () => void this.microphoneGone(source));
  }

  /** Unplugged, or no longer allowed. The browser's default takes over where there is one. */
  private async microphoneGone(source: MediaStreamTrack): Promise<void> {
    if (this.closed || this.microphoneTrack !== source) return;
    const status = await this.acquire();
    if (this.closed) return;
    if (status === "on" || status === "muted") {
      this.hooks.onMic(status);
      this.hooks.onMicMoved(this.microphoneTrack?.label ?? "");
      return;
    }
    const mic = this.mic;
    this.releaseMicrophone();
    if (mic && this.live) await this.live.localParticipant.unpublishTrack(mic, true).catch(() => {});
    this.hooks.onMic(status === "busy" ? "missing" : status);
  }

  private releaseMicrophone(): void {
    this.mic?.stopPreConnectBuffer();
    this.mic?.stop();
    this.mic = null;
  }

  /** Publishing waits for a connected room: LiveKit would stop a track that it cannot publish within 15 s. */
  private async publish(): Promise<void> {
    const room = this.live;
    const mic = this.mic;
    if (!room || !mic || room.state !== "connected") return;
    const { Track } = await loadLiveKit();
    if (room.localParticipant.getTrackPublication(Track.Source.Microphone)) return;
    try {
      await room.localParticipant.publishTrack(mic, { source: Track.Source.Microphone });
      this.gate();
    } catch (error) {
      // A room that is going down cannot take the track; its successor will.
      if (!this.closed && this.live === room && room.state === "connected") this.hooks.onMic("busy");
      console.warn("could not publish the microphone", error);
    }
  }

  /** One try with one token. True once connected. */
  private async join(started: Started): Promise<boolean> {
    let room: Room | null = null;
    let livekit: LiveKit;
    try {
      livekit = await loadLiveKit();
      if (this.closed) return true;
      // The microphone belongs to the conversation, not to one room object: it outlives a change of rooms.
      room = new livekit.Room({
        adaptiveStream: true,
        stopLocalTrackOnUnpublish: false,
        ...(this.choice.speaker ? { audioOutput: { deviceId: this.choice.speaker } } : {}),
      });
      this.live = room;
      this.listen(livekit, room);
      await room.connect(started.server_url, started.participant_token, { maxRetries: 0 });
    } catch (error) {
      if (this.closed) return true;
      console.warn("could not join the room", error);
      if (room && this.live === room) this.live = null;
      void room?.disconnect();
      return false;
    }
    if (this.closed) {
      void room.disconnect();
      return true;
    }
    this.joinedAt = Date.now();
    const joined = room;
    room.on(livekit.RoomEvent.Disconnected, (reason) => {
      const elsewhere = reason === livekit.DisconnectReason.DUPLICATE_IDENTITY;
      if (!this.closed && this.live === joined) this.disconnected(elsewhere);
    });
    this.become("connected");
    this.reportAgent();
    this.hooks.onPlayback(!room.canPlaybackAudio);
    await this.publish();
    return true;
  }

  private async recover(pause?: number): Promise<void> {
    while (!this.closed) {
      this.become("reconnecting");
      await wait(pause ?? RETRY_MS[Math.min(this.retries, RETRY_MS.length - 1)] ?? 5_000);
      pause = undefined;
      this.retries += 1;
      if (this.closed) return;
      const started = await this.token();
      if (started === "over") return;
      if (!started) continue;
      const hadMicrophone = this.mic !== null;
      if (!(await this.join(started))) continue;
      if (hadMicrophone && this.mic?.mediaStreamTrack.readyState === "ended") await this.openMicrophone();
      return;
    }
  }

  private async token(): Promise<Started | "over" | null> {
    try {
      return await this.hooks.renew();
    } catch (error) {
      if (!(error instanceof ApiError) || ![403, 404, 410].includes(error.status)) return null;
      if (!this.closed) this.hooks.onOver(error.status === 410);
      return "over";
    }
  }

  private listen(livekit: LiveKit, room: Room): void {
    const { RoomEvent } = livekit;
    const current = (): boolean => !this.closed && this.live === room;
    room
      .on(RoomEvent.Reconnecting, () => current() && this.become("reconnecting"))
      .on(RoomEvent.SignalReconnecting, () => current() && this.become("reconnecting"))
      .on(RoomEvent.Reconnected, () => current() && this.become("connected"))
      .on(RoomEvent.ParticipantConnected, () => current() && this.reportAgent())
      .on(RoomEvent.ParticipantDisconnected, () => current() && this.reportAgent())
      .on(RoomEvent.TrackSubscribed, (track, _publication, from) => current() && this.attach(livekit, track, from))
      .on(RoomEvent.TrackUnsubscribed, (track, _publication, from) => current() && this.detach(livekit, track, from))
      .on(RoomEvent.AudioPlaybackStatusChanged, () => current() && this.hooks.onPlayback(!room.canPlaybackAudio))
      .on(RoomEvent.LocalTrackSubscribed, () => current() && this.speechTaken(livekit));
  }

  /** LiveKit has given up on the connection, or the server has closed it. */
  private disconnected(elsewhere: boolean): void {
    this.live = null;
    this.speaker.replaceChildren();
    this.hooks.onVoice(null);
    this.hooks.onFace(null);
    this.hooks.onAgent(false, false);
    if (elsewhere) {
      this.lentMicrophone = this.mic !== null;
      this.releaseMicrophone();
      this.hooks.onMic("off");
      this.become("elsewhere");
      return;
    }
    if (Date.now() - this.joinedAt > STABLE_MS) this.retries = 0;
    void this.recover();
  }

  private agents(): RemoteParticipant[] {
    const participants = this.live ? [...this.live.remoteParticipants.values()] : [];
    return participants.filter((participant) => participant.isAgent);
  }

  private agentIsPresent(): boolean {
    return this.agents().length > 0;
  }

  private reportAgent(): void {
    const agents = this.agents();
    const video = agents.some((agent) => [...agent.videoTrackPublications.values()].some((item) => item.isSubscribed));
    this.hooks.onAgent(agents.length > 0, video);
  }

  /** Only an agent is heard and seen: nobody else has a place in this room. */
  private attach(livekit: LiveKit, track: RemoteTrack, from: RemoteParticipant): void {
    if (!from.isAgent) return;
    if (track.kind === livekit.Track.Kind.Audio) {
      this.speaker.append(track.attach());
      this.hooks.onVoice(track.mediaStreamTrack);
    } else {
      this.hooks.onFace(track);
    }
    this.reportAgent();
  }

  /** Voice and face may change hands (an avatar takes over from the agent, and gives back): who is left serves on. */
  private detach(livekit: LiveKit, track: RemoteTrack, from: RemoteParticipant): void {
    if (track.kind === livekit.Track.Kind.Audio) {
      for (const element of track.detach()) element.remove();
      if (from.isAgent) this.hooks.onVoice(this.newest(track)?.mediaStreamTrack ?? null);
    } else if (from.isAgent) {
      this.hooks.onFace(this.newest(track));
    }
    if (from.isAgent) this.reportAgent();
  }

  /** The agents' track of the same kind as one that is gone. */
  private newest(gone: RemoteTrack): RemoteTrack | null {
    const tracks = this.agents().flatMap((agent) =>
      [...agent.trackPublications.values()].map((publication) => publication.track),
    );
    const left = tracks.filter((track) => track && track !== gone && track.kind === gone.kind);
    return (left.at(-1) as RemoteTrack | undefined) ?? null;
  }

  /**
   * The kept speech is handed over once. Taking its mark off the track matters for the next agent in this room: it
   * would wait several seconds for kept speech that never comes.
   */
  private speechTaken(livekit: LiveKit): void {
    const mic = this.mic;
    if (!mic) return;
    setTimeout(() => {
      if (this.closed || this.mic !== mic) return;
      mic.emit(livekit.TrackEvent.AudioTrackFeatureUpdate, mic, PRECONNECT_BUFFER, false);
    }, SPEECH_TAKEN_MS);
  }
}

/** `AudioTrackFeature.TF_PRECONNECT_BUFFER` of LiveKit's protocol, which the client library does not export. */
const PRECONNECT_BUFFER = 6;

function keepSpeech(track: LocalAudioTrack): void {
  try {
    track.startPreConnectBuffer();
  } catch (error) {
    console.warn("speech before the agent is there cannot be kept", error);
    return;
  }
  const timed = track as unknown as { autoStopPreConnectBuffer?: ReturnType<typeof setTimeout> };
  clearTimeout(timed.autoStopPreConnectBuffer);
  timed.autoStopPreConnectBuffer = setTimeout(() => track.stopPreConnectBuffer(), KEEP_SPEECH_MS);
}

function microphoneProblem(error: unknown): MicStatus {
  const name = error instanceof Error ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") {
    const keeper = microphoneKeeper(window, document);
    return keeper ? `kept-by-${keeper}` : "denied";
  }
  if (name === "NotFoundError" || name === "OverconstrainedError" || name === "DeviceUnsupportedError")
    return "missing";
  console.warn("the microphone could not be opened", error);
  return "busy";
}

const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function rejectAfter(ms: number): Promise<never> {
  return new Promise((_resolve, reject) => setTimeout(() => reject(new Error("not sent in time")), ms));
}
