/** Moments of a conversation, as they are written beside its lines and on its axis. */

const two = (value: number): string => String(value).padStart(2, "0");

/** `HH:MM:SS` since the session's start. */
export function clock(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

/** `4:07`, or `1:04:07` past an hour. */
export function shortClock(ms: number): string {
  const text = clock(ms);
  return text.startsWith("00:") ? text.slice(3).replace(/^0(?=\d)/, "") : text.replace(/^0(?=\d)/, "");
}
