/**
 * The session's WebSocket: reconnects with back-off and asks only for what is newer than the last `seq` seen.
 *
 * A connection that stands may lead to nobody: a server that stands still closes nothing. So after a short quiet the page
 * asks whether anybody is there, and takes no answer for a cut.
 */

import { EVENT_TYPES, type ServerEvent } from "./events.ts";

export type SocketStatus = "idle" | "connecting" | "open" | "retrying" | "closed";

export const BACKOFF_MS: readonly number[] = [300, 1_000, 2_000, 4_000, 5_000];
const SNAPSHOT_DEADLINE_MS = 8_000;
export const QUIET_MS = 2_000;
export const ANSWER_MS = 3_500;
const PING = '{"type":"ping"}';
/** The server's last word: not signed in, unknown session, session over and everything sent. */
const FINAL_CODES: readonly number[] = [4401, 4404, 4410];

export interface SocketLike {
  onmessage: ((message: { data: unknown }) => void) | null;
  onclose: ((close: { code: number }) => void) | null;
  send(text: string): void;
  close(): void;
}

export interface SocketHooks {
  lastSeq(): number;
  onEvent(event: ServerEvent): void;
  /** `silentMs`: for how long nothing has come already. */
  onStatus(status: SocketStatus, silentMs?: number): void;
  onOver(code: number): void;
}

export interface SocketParts {
  open(url: string): SocketLike;
  later(callback: () => void, ms: number): () => void;
}

export const browserParts: SocketParts = {
  open: (url) => new WebSocket(url) as unknown as SocketLike,
  later: (callback, ms) => {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
};

export class SessionSocket {
  private socket: SocketLike | null = null;
  private failures = 0;
  /** Its snapshot has come. */
  private isOpen = false;
  private cancelTimer: () => void = () => {};
  private stopped = false;

  constructor(
    private readonly url: string,
    private readonly hooks: SocketHooks,
    private readonly parts: SocketParts = browserParts,
  ) {}

  open(): void {
    if (this.stopped) return;
    this.hooks.onStatus("connecting");
    const socket = this.parts.open(`${this.url}?after=${this.hooks.lastSeq()}`);
    this.socket = socket;
    this.cancelTimer = this.parts.later(() => this.drop(socket), SNAPSHOT_DEADLINE_MS);
    socket.onmessage = (message) => this.receive(message.data);
    socket.onclose = (close) => this.closed(socket, close.code);
  }

  /** The network is back: do not sit out the rest of a pause, and do not trust a socket from before. */
  retryNow(): void {
    if (this.stopped) return;
    this.failures = 0;
    this.detach();
    this.open();
  }

  close(): void {
    this.stopped = true;
    this.detach();
    this.hooks.onStatus("closed");
  }

  private receive(data: unknown): void {
    const event = typeof data === "string" ? parseEvent(data) : null;
    if (!event) return;
    if (this.isOpen) this.listen();
    // Only the snapshot proves that the server really serves this session again.
    if (event.type === "snapshot") {
      this.isOpen = true;
      this.listen();
      this.failures = 0;
      this.hooks.onStatus("open");
    }
    this.hooks.onEvent(event);
  }

  /** From the last that came: whether more could. */
  private listen(): void {
    const { socket } = this;
    if (!socket) return;
    this.cancelTimer();
    this.cancelTimer = this.parts.later(() => {
      socket.send(PING);
      this.cancelTimer = this.parts.later(() => this.drop(socket, QUIET_MS + ANSWER_MS), ANSWER_MS);
    }, QUIET_MS);
  }

  private drop(socket: SocketLike, silentMs = 0): void {
    this.detach();
    this.closed(socket, 1006, silentMs);
  }

  private closed(socket: SocketLike, code: number, silentMs = 0): void {
    if (this.stopped || (this.socket !== null && this.socket !== socket)) return;
    this.detach();
    if (FINAL_CODES.includes(code)) {
      this.stopped = true;
      this.hooks.onOver(code);
      return;
    }
    this.hooks.onStatus("retrying", silentMs);
    const pause = BACKOFF_MS[Math.min(this.failures, BACKOFF_MS.length - 1)] ?? 5_000;
    this.failures += 1;
    this.cancelTimer = this.parts.later(() => this.open(), pause);
  }

  private detach(): void {
    this.cancelTimer();
    const socket = this.socket;
    this.socket = null;
    this.isOpen = false;
    if (!socket) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close();
  }
}

/** `ws://` or `wss://`, as the page itself was loaded. */
export function socketUrl(path: string, location: { protocol: string; host: string }): string {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${path}`;
}

/** The event in `text`, or null for anything this page does not know: a newer server must not break an open page. */
function parseEvent(text: string): ServerEvent | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null || !("type" in value)) return null;
  return typeof value.type === "string" && EVENT_TYPES.has(value.type) ? (value as ServerEvent) : null;
}
