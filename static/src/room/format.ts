/** Plain words and figures. */

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

export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return plural(seconds, "second");
  const minutes = Math.floor(seconds / 60);
  return seconds % 60 ? `${minutes} min ${seconds % 60} s` : plural(minutes, "minute");
}

export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** For comparing what was typed with what came back. */
export function sameWords(left: string, right: string): boolean {
  const plain = (text: string): string => text.replace(/\s+/g, " ").trim();
  return plain(left) === plain(right);
}
