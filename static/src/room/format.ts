/** Plain words for lengths and counts. */

import { t } from "../shared/i18n.ts";

export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return seconds === 1 ? t("1 second") : t("{count} seconds", { count: seconds });
  const minutes = Math.floor(seconds / 60);
  if (seconds % 60) return t("{minutes} min {seconds} s", { minutes, seconds: seconds % 60 });
  return minutes === 1 ? t("1 minute") : t("{count} minutes", { count: minutes });
}

export function lineCount(count: number): string {
  return count === 1 ? t("1 line") : t("{count} lines", { count });
}

/** For comparing what was typed with what came back. */
export function sameWords(left: string, right: string): boolean {
  const plain = (text: string): string => text.replace(/\s+/g, " ").trim();
  return plain(left) === plain(right);
}
