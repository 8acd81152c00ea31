/** What can be found out about this browser, its devices and the way to the site, without the media server. */

import { openMicrophone } from "../shared/devices.ts";
import { t } from "../shared/i18n.ts";
import { type Finding, operator, visitor } from "./rows.ts";

const SOCKET_MS = 8_000;
const LISTEN_MS = 6_000;
/** Of full level: what a quiet room's noise stays below. */
const HEARD = 0.02;
const ENOUGH_FRAMES = 3;

export const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export function checkSecure(): Finding {
  if (window.isSecureContext) {
    const local = location.protocol === "http:";
    return {
      status: "ok",
      text: local ? t("This page comes from this very machine.") : t("This page is encrypted (https)."),
      detail: location.protocol,
    };
  }
  return {
    status: "failed",
    text: t("Browsers give the microphone to encrypted pages (https) only."),
    fixes: [
      visitor(t("Open the address with https:// in front, if there is one.")),
      operator(t("Put the site behind HTTPS and set {name} to its https:// address.", { name: "MOLTS_PUBLIC_URL" })),
    ],
    detail: `${location.protocol} is no secure context`,
  };
}

/** Opens the microphone `id`, as the room does, and listens for a few seconds; `onLevel` gets 0 to 1 many times a second. */
export async function checkMicrophone(
  context: AudioContext,
  id: string,
  onLevel: (level: number) => void,
): Promise<Finding> {
  if (!navigator.mediaDevices?.getUserMedia) {
    return {
      status: "skipped",
      text: t("This page may not ask for a microphone, see above."),
      detail: "no mediaDevices",
    };
  }
  let track: MediaStreamTrack;
  try {
    track = await openMicrophone(id);
  } catch (error) {
    return microphoneRefused(error);
  }
  const name = track.label;
  try {
    const heard = await listen(context, new MediaStream([track]), onLevel);
    if (heard) return { status: "ok", text: t("We hear you: {device}.", { device: name }), detail: name };
    return {
      status: "warning",
      text: t("It is open, but no sound came: {device}.", { device: name }),
      fixes: [
        visitor(
          t("Speak while it is checked. Unmute the microphone, or choose another one in the browser's settings."),
        ),
      ],
      detail: `${name}: silent`,
    };
  } finally {
    track.stop();
    onLevel(0);
  }
}

function microphoneRefused(error: unknown): Finding {
  const name = error instanceof DOMException ? error.name : String(error);
  if (name === "NotAllowedError") {
    return {
      status: "failed",
      text: t("This page may not use your microphone."),
      fixes: [
        visitor(
          t(
            "Click the icon beside the address, allow the microphone and check again. If it stays blocked, allow it for the browser in the system's privacy settings.",
          ),
        ),
      ],
      detail: name,
    };
  }
  if (name === "NotFoundError") {
    return {
      status: "failed",
      text: t("No microphone was found."),
      fixes: [visitor(t("Plug one in or switch it on, then check again."))],
      detail: name,
    };
  }
  return {
    status: "failed",
    text: t("The microphone does not answer."),
    fixes: [visitor(t("Close other programs that use it, then check again."))],
    detail: name,
  };
}

async function listen(context: AudioContext, stream: MediaStream, onLevel: (level: number) => void): Promise<boolean> {
  const source = context.createMediaStreamSource(stream);
  const meter = context.createAnalyser();
  source.connect(meter);
  const samples = new Float32Array(meter.fftSize);
  let loud = 0;
  const end = performance.now() + LISTEN_MS;
  const soonest = performance.now() + LISTEN_MS / 3;
  while (performance.now() < end && !(loud >= ENOUGH_FRAMES && performance.now() > soonest)) {
    await wait(50);
    meter.getFloatTimeDomainData(samples);
    const level = Math.max(...samples.map(Math.abs));
    if (level > HEARD) loud += 1;
    onLevel(Math.min(1, Math.sqrt(level)));
  }
  source.disconnect();
  return loud >= ENOUGH_FRAMES;
}

/** Not every browser lets a page choose. */
interface SinkChoice {
  setSinkId(id: string): Promise<void>;
}

/** Two short tones from the speaker that the room uses. Whether they were heard only the visitor knows. */
export async function checkSpeaker(context: AudioContext & Partial<SinkChoice>, speaker: string): Promise<Finding> {
  // A speaker that is gone, or a browser that lets nobody choose, leaves the default.
  await context.setSinkId?.(speaker).catch(() => {});
  await Promise.race([context.resume(), wait(1_500)]);
  if (context.state !== "running") {
    return {
      status: "failed",
      text: t("Your browser holds back the sound of this page."),
      fixes: [visitor(t("Allow sound for this page beside the address, then check again."))],
      detail: `audio context ${context.state}`,
    };
  }
  playTone(context);
  return {
    status: "ok",
    text: t("Two tones were played. If you heard nothing, turn up the volume or choose another speaker."),
    detail: `${context.sampleRate} Hz`,
  };
}

export function playTone(context: AudioContext): void {
  const start = context.currentTime + 0.05;
  for (const [index, pitch] of [523.25, 659.25].entries()) {
    const tone = context.createOscillator();
    const volume = context.createGain();
    const at = start + index * 0.28;
    tone.frequency.value = pitch;
    volume.gain.setValueAtTime(0, at);
    volume.gain.linearRampToValueAtTime(0.2, at + 0.03);
    volume.gain.exponentialRampToValueAtTime(0.001, at + 0.26);
    tone.connect(volume).connect(context.destination);
    tone.start(at);
    tone.stop(at + 0.28);
  }
}

/** A WebSocket to the site itself, which carries the words of a conversation. */
export async function checkServer(path: string): Promise<Finding> {
  const url = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${path}`;
  const started = performance.now();
  const problem = await openSocket(url);
  if (problem === "") {
    const ms = Math.round(performance.now() - started);
    return { status: "ok", text: t("Words can travel both ways ({ms} ms).", { ms }), detail: `${ms} ms` };
  }
  return {
    status: "failed",
    text: t("The lasting connection (WebSocket) to this site does not open."),
    fixes: [
      visitor(t("A company network, proxy or VPN may block it: try another network.")),
      operator(
        t(
          "Let the proxy in front of molts pass WebSocket upgrades for {path}, and set {name} to the address of this page.",
          {
            path: "/ws/",
            name: "MOLTS_PUBLIC_URL",
          },
        ),
      ),
    ],
    detail: problem,
  };
}

/** Empty when the server said its word, else what happened instead. */
function openSocket(url: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = new WebSocket(url);
    const late = setTimeout(() => done(`no answer within ${SOCKET_MS} ms`), SOCKET_MS);
    const done = (problem: string): void => {
      clearTimeout(late);
      socket.close();
      resolve(problem);
    };
    socket.onmessage = () => done("");
    socket.onclose = (event) => done(`closed with ${event.code}`);
  });
}
