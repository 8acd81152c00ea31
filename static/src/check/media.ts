/** The way to the media server: signalling first, then each way that a voice can take, one at a time. */

import type { Room as LiveKitRoom } from "livekit-client";
import { t } from "../shared/i18n.ts";
import { wait } from "./browser.ts";
import { type Finding, operator, visitor } from "./rows.ts";

export interface MediaBoot {
  token_url: string;
  media_url: string;
  media_is_local: boolean;
  udp_port: number;
  tcp_port: number;
}

export interface MediaFindings {
  signalling: Finding;
  udp: Finding;
  tcp: Finding;
  turn: Finding;
}

type Way = "udp" | "tcp" | "turn";

/** What one attempt to enter the room by one way alone showed. */
interface Attempt {
  signalled: boolean;
  problem: string;
  relays: readonly string[];
  path: string;
}

const SIGNAL_MS = 8_000;
const MEDIA_MS = 8_000;
const PATH_MS = 2_000;
const TOKEN_MS = 12_000;

export async function checkMedia(
  boot: MediaBoot,
  csrfToken: string,
  report: <K extends keyof MediaFindings>(row: K, finding: Finding) => void,
): Promise<void> {
  const skipAll = (): void => {
    for (const row of ["udp", "tcp", "turn"] as const) {
      report(row, { status: "skipped", text: t("Needs the connection to the media server, see above.") });
    }
  };
  report("signalling", { status: "running", text: t("Calling the media server.") });
  const mismatch = addressProblem(boot);
  if (mismatch) {
    report("signalling", mismatch);
    return skipAll();
  }
  const entry = await fetchToken(boot.token_url, csrfToken);
  if ("status" in entry) {
    report("signalling", entry);
    return skipAll();
  }
  report("udp", { status: "running", text: t("Trying this way alone.") });
  const udp = await attempt(entry, "udp");
  if (!udp.signalled) {
    report("signalling", signallingFailed(boot, udp.problem));
    return skipAll();
  }
  report("signalling", { status: "ok", text: t("The media server answers."), detail: boot.media_url });
  const overUdp = udp.problem === "";
  report("udp", overUdp ? wayWorks(udp) : udpFailed(boot, udp.problem));
  await checkTcp(boot, entry, overUdp, report);
  await checkTurn(entry, udp.relays, overUdp, report);
}

async function checkTcp(
  boot: MediaBoot,
  entry: Entry,
  overUdp: boolean,
  report: (row: "tcp", finding: Finding) => void,
): Promise<void> {
  if (boot.media_is_local && boot.udp_port > 0 && boot.tcp_port === 0) {
    report("tcp", {
      status: "skipped",
      text: t("Switched off, because only this machine may connect."),
      detail: "loopback only",
    });
    return;
  }
  report("tcp", { status: "running", text: t("Trying this way alone.") });
  const tcp = await attempt(entry, "tcp");
  report("tcp", tcp.problem === "" ? wayWorks(tcp) : tcpFailed(boot, overUdp, tcp.problem));
}

async function checkTurn(
  entry: Entry,
  relays: readonly string[],
  overUdp: boolean,
  report: (row: "turn", finding: Finding) => void,
): Promise<void> {
  if (relays.length === 0) {
    report("turn", {
      status: "skipped",
      text: overUdp
        ? t("Not set up, and not needed from here. Visitors whose network lets only web pages through need it.")
        : t("Not set up."),
      fixes: overUdp
        ? []
        : [
            operator(
              t("Set up TURN on the media server, on TLS port 443: it reaches visitors whom UDP and TCP do not."),
            ),
          ],
      detail: "no TURN server offered",
    });
    return;
  }
  report("turn", { status: "running", text: t("Trying this way alone.") });
  const turn = await attempt(entry, "turn");
  if (turn.problem === "") return report("turn", wayWorks(turn));
  report("turn", {
    status: overUdp ? "warning" : "failed",
    text: t("The relay does not pass the voice on."),
    fixes: [operator(t("Check the media server's TURN settings: domain, certificate, ports 443 and 3478."))],
    detail: `${relays.join(" ")}: ${turn.problem}`,
  });
}

// -- What went wrong, in words ----------------------------------------------------------------------------------------

/** An address that no attempt is needed to see the fault of. */
function addressProblem(boot: MediaBoot): Finding | null {
  const name = "LIVEKIT_PUBLIC_URL";
  if (location.protocol === "https:" && boot.media_url.startsWith("ws:") && !boot.media_is_local) {
    return {
      status: "failed",
      text: t("This page is encrypted, the address of the media server is not: browsers refuse that."),
      fixes: [operator(t("Put the media server behind TLS and set {name} to its wss:// address.", { name }))],
      detail: `${location.origin} with ${boot.media_url}`,
    };
  }
  const here = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
  if (boot.media_is_local && !here) {
    return {
      status: "failed",
      text: t("The address of the media server leads back to your own machine."),
      fixes: [
        operator(
          t("Set {name} to an address of the media server that visitors reach, or start with MOLTS_HOST=0.0.0.0.", {
            name,
          }),
        ),
      ],
      detail: `${location.origin} with ${boot.media_url}`,
    };
  }
  return null;
}

function wayWorks(found: Attempt): Finding {
  return { status: "ok", text: t("Your voice gets through this way."), detail: found.path };
}

function signallingFailed(boot: MediaBoot, problem: string): Finding {
  return {
    status: "failed",
    text: t("The media server at {address} does not answer.", { address: boot.media_url }),
    fixes: [
      visitor(t("A company network, proxy or VPN may block it: try another network.")),
      operator(
        t("Check that the media server runs, that its TCP port is open, and that LIVEKIT_PUBLIC_URL is its address."),
      ),
    ],
    detail: problem,
  };
}

function udpFailed(boot: MediaBoot, problem: string): Finding {
  return {
    status: "failed",
    text: t("Nothing comes through over UDP, the fastest way."),
    fixes: [
      visitor(t("A company network, firewall or VPN may block it: try another network, such as a phone's.")),
      operator(
        boot.udp_port
          ? t(
              "Open UDP port {port} in the firewall and the router. Behind NAT set MOLTS_NODE_IP to the public address.",
              {
                port: boot.udp_port,
              },
            )
          : t("Open the media server's UDP port in its firewall, and let it announce its public address."),
      ),
    ],
    detail: problem,
  };
}

function tcpFailed(boot: MediaBoot, overUdp: boolean, problem: string): Finding {
  return {
    status: overUdp ? "warning" : "failed",
    text: overUdp
      ? t("Nothing comes through over TCP. You do not need it from here; visitors whose network blocks UDP do.")
      : t("Nothing comes through over TCP either."),
    fixes: [
      operator(
        boot.tcp_port
          ? t("Open TCP port {port} in the firewall and the router.", { port: boot.tcp_port })
          : t("Open the media server's TCP port for media (usually 7881)."),
      ),
    ],
    detail: problem,
  };
}

// -- The token --------------------------------------------------------------------------------------------------------

interface Entry {
  server_url: string;
  participant_token: string;
}

async function fetchToken(url: string, csrfToken: string): Promise<Entry | Finding> {
  let answer: Response;
  try {
    answer = await fetch(url, {
      method: "POST",
      headers: { "X-CSRFToken": csrfToken, Accept: "application/json" },
      signal: AbortSignal.timeout(TOKEN_MS),
    });
  } catch (error) {
    return {
      status: "failed",
      text: t("This site does not answer any more."),
      fixes: [visitor(t("Check that you are online, then check again."))],
      detail: String(error),
    };
  }
  if (!answer.ok) return tokenRefused(answer.status);
  try {
    return (await answer.json()) as Entry;
  } catch (error) {
    return { ...tokenRefused(answer.status), detail: `token: ${String(error)}` }; // such as a proxy's own page
  }
}

function tokenRefused(status: number): Finding {
  const detail = `token: HTTP ${status}`;
  if (status === 429) {
    return {
      status: "failed",
      text: t("You have checked very often."),
      fixes: [visitor(t("Wait a minute, then check again."))],
      detail,
    };
  }
  if (status === 403) {
    return {
      status: "failed",
      text: t("This site did not take our request."),
      fixes: [
        visitor(t("Allow cookies for this site, load the page again and check again.")),
        operator(t("Set {name} to the address that visitors open.", { name: "MOLTS_PUBLIC_URL" })),
      ],
      detail,
    };
  }
  return {
    status: "failed",
    text: t("The site itself cannot reach its media server."),
    fixes: [
      operator(
        t("Start the media server, or check LIVEKIT_URL and its keys. The command {command} says what is wrong.", {
          command: "manage.py doctor",
        }),
      ),
    ],
    detail,
  };
}

// -- One attempt ------------------------------------------------------------------------------------------------------

/** Enters the room by `way` alone and leaves again. Never throws: what went wrong is in `problem`. */
async function attempt(entry: Entry, way: Way): Promise<Attempt> {
  let room: LiveKitRoom | null = null;
  let narrowed: Narrowed | null = null;
  let signalled = false;
  let problem = "";
  let path = "";
  try {
    const { Room, RoomEvent } = await import("../shared/livekit.ts");
    narrowed = narrow(way);
    room = new Room({ reconnectPolicy: { nextRetryDelayInMs: () => null } });
    room.once(RoomEvent.SignalConnected, () => {
      signalled = true;
    });
    const entered = room.connect(entry.server_url, entry.participant_token, {
      maxRetries: 0,
      websocketTimeout: SIGNAL_MS,
      peerConnectionTimeout: MEDIA_MS,
      ...(way === "turn" ? { rtcConfig: { iceTransportPolicy: "relay" as const } } : {}),
    });
    await Promise.race([entered, failAfter(SIGNAL_MS + MEDIA_MS)]);
    path = await narrowed.path();
    if (path && !isBy(way, path)) problem = `connected by ${path}`;
  } catch (error) {
    problem = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  } finally {
    narrowed?.restore();
    if (room) await Promise.race([room.disconnect(), failAfter(2_000)]).catch(() => {});
  }
  return { signalled, problem, relays: narrowed?.relays() ?? [], path };
}

interface Narrowed {
  restore(): void;
  relays(): string[];
  path(): Promise<string>;
}

const failAfter = (ms: number): Promise<never> =>
  new Promise((_, reject) => setTimeout(() => reject(new Error(`nothing within ${ms} ms`)), ms));

const isBy = (way: Way, path: string): boolean => (way === "turn" ? path.startsWith("relay") : path.startsWith(way));

/**
 * Until `restore`, every peer connection of this page knows only candidates of `way`: ours are not told to the server,
 * the server's are not told to the browser. So what connects has come that way.
 */
function narrow(way: Way): Narrowed {
  const Whole = window.RTCPeerConnection;
  const made: { peer: RTCPeerConnection; relays: string[] }[] = [];
  const fits = (candidate: string): boolean => way === "turn" || protocolOf(candidate) === way;
  const narrowedSdp = ({ type, sdp }: RTCSessionDescriptionInit): RTCSessionDescriptionInit => ({
    type,
    sdp: sdp?.replace(/^a=(candidate:.*)\r\n/gm, (line, candidate: string) => (fits(candidate) ? line : "")),
  });

  class Narrow extends Whole {
    constructor(config?: RTCConfiguration) {
      super(config);
      made.push({ peer: this, relays: relaysOf(config) });
      // Registered before anybody else's: an event that is stopped here reaches no other listener.
      this.addEventListener("icecandidate", (event) => {
        if (event.candidate?.candidate && !fits(event.candidate.candidate)) event.stopImmediatePropagation();
      });
      // A later offer or answer of ours repeats the candidates that were found meanwhile.
      Object.assign(this, {
        createOffer: async (options?: RTCOfferOptions) => narrowedSdp(await super.createOffer(options)),
        createAnswer: async (options?: RTCAnswerOptions) => narrowedSdp(await super.createAnswer(options)),
      });
    }

    override async addIceCandidate(candidate?: RTCIceCandidateInit | null): Promise<void> {
      if (!candidate?.candidate || fits(candidate.candidate)) await super.addIceCandidate(candidate);
    }

    override async setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
      await super.setRemoteDescription(narrowedSdp(description));
    }
  }

  window.RTCPeerConnection = Narrow;
  return {
    restore: () => {
      window.RTCPeerConnection = Whole;
    },
    relays: () => [...new Set(made.flatMap(({ relays }) => relays))],
    path: async () => {
      // The browser's figures come a moment after the connection itself.
      for (const end = performance.now() + PATH_MS; performance.now() < end; await wait(100)) {
        for (const { peer } of made) {
          const found = await pathOf(peer);
          if (found) return found;
        }
      }
      return "";
    },
  };
}

/** The third word of a candidate line. */
const protocolOf = (candidate: string): string => candidate.split(" ")[2]?.toLowerCase() ?? "";

function relaysOf(config: RTCConfiguration | undefined): string[] {
  const urls = (config?.iceServers ?? []).flatMap((server) => server.urls);
  return urls.filter((url) => url.startsWith("turn:") || url.startsWith("turns:"));
}

/** `udp 192.0.2.7:7882, 12 ms`; `relay udp ...` through TURN. Empty when this peer is not connected. */
async function pathOf(peer: RTCPeerConnection): Promise<string> {
  const stats = await peer.getStats();
  for (const entry of stats.values()) {
    if (entry.type !== "candidate-pair" || entry.state !== "succeeded" || !(entry.nominated || entry.selected))
      continue;
    const mine = stats.get(entry.localCandidateId);
    const theirs = stats.get(entry.remoteCandidateId);
    const relay = mine?.candidateType === "relay" ? "relay " : "";
    const address = theirs ? `${theirs.address ?? "?"}:${theirs.port}` : "?";
    return `${relay}${mine?.protocol ?? "?"} ${address}, ${Math.round((entry.currentRoundTripTime ?? 0) * 1000)} ms`;
  }
  return "";
}
