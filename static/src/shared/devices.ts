/** Microphones and speakers, as the browser gives them. */

export interface Device {
  id: string;
  label: string;
}

export interface Devices {
  microphones: Device[];
  speakers: Device[];
}

export type Permission = "granted" | "denied" | "prompt" | "unknown";

const speech: MediaTrackConstraints = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

export const canUseMicrophone = (): boolean => navigator.mediaDevices?.getUserMedia !== undefined;
export const canChooseSpeaker = (): boolean => "setSinkId" in HTMLMediaElement.prototype;

/** Opens the microphone `id`, or the default one when that is not there (any more). */
export async function openMicrophone(id: string): Promise<MediaStreamTrack> {
  if (!id) return open(speech);
  try {
    return await open({ ...speech, deviceId: { exact: id } });
  } catch (error) {
    const name = error instanceof Error ? error.name : "";
    if (name === "OverconstrainedError" || name === "NotFoundError") return open(speech);
    throw error;
  }
}

async function open(audio: MediaTrackConstraints): Promise<MediaStreamTrack> {
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  const [track] = stream.getAudioTracks();
  if (!track) throw new DOMException("no microphone", "NotFoundError");
  return track;
}

/** Names are known only once the microphone may be used; until then the lists are empty. */
export async function listDevices(): Promise<Devices> {
  const all = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  const ofKind = (kind: MediaDeviceKind): Device[] =>
    all
      .filter((device) => device.kind === kind && device.deviceId && device.label)
      .map((device) => ({ id: device.deviceId, label: device.label }));
  return { microphones: ofKind("audioinput"), speakers: ofKind("audiooutput") };
}

export function onDeviceChange(callback: () => void): void {
  navigator.mediaDevices?.addEventListener?.("devicechange", callback);
}

/** Whether asking for the microphone would show the browser's question. */
export async function microphonePermission(): Promise<Permission> {
  return (await query())?.state ?? "unknown";
}

export async function onPermissionChange(callback: (permission: Permission) => void): Promise<void> {
  const status = await query();
  status?.addEventListener("change", () => callback(status.state));
}

async function query(): Promise<PermissionStatus | null> {
  try {
    return await navigator.permissions.query({ name: "microphone" as PermissionName });
  } catch {
    return null;
  }
}

const NOTES_HZ: readonly number[] = [523.25, 659.25, 783.99];
const NOTE_S = 0.28;

/** Three soft notes from the chosen speaker. Ends when they have been played. */
export async function playNotes(speaker: string): Promise<void> {
  const context = new AudioContext();
  const player = new Audio();
  try {
    const out = context.createMediaStreamDestination();
    player.srcObject = out.stream;
    if (speaker && canChooseSpeaker()) await player.setSinkId(speaker).catch(() => {});
    await Promise.all([context.resume(), player.play()]);
    const begin = context.currentTime + 0.05;
    for (const [index, frequency] of NOTES_HZ.entries()) note(context, out, frequency, begin + index * NOTE_S);
    await new Promise((resolve) => setTimeout(resolve, (NOTES_HZ.length * NOTE_S + 0.5) * 1000));
  } finally {
    player.srcObject = null;
    await context.close();
  }
}

function note(context: AudioContext, out: AudioNode, frequency: number, at: number): void {
  const oscillator = new OscillatorNode(context, { type: "triangle", frequency });
  const loudness = new GainNode(context, { gain: 0 });
  loudness.gain.setValueAtTime(0, at);
  loudness.gain.linearRampToValueAtTime(0.25, at + 0.03);
  loudness.gain.exponentialRampToValueAtTime(0.001, at + NOTE_S + 0.25);
  oscillator.connect(loudness).connect(out);
  oscillator.start(at);
  oscillator.stop(at + NOTE_S + 0.3);
}
