/** How long each answer took and on what: the figures, then the drawer that shows them as bars and as words. */

import { t } from "../shared/i18n.ts";
import type { Part, TurnTimes } from "../shared/turns.ts";

export interface TurnBar {
  turn: number;
  totalMs: number;
  parts: { part: Part; ms: number; percent: number }[];
}

const order: readonly Part[] = ["endpointing", "stt", "llm", "tts", "avatar"];

export function partName(part: Part): string {
  const names: Record<Part, string> = {
    endpointing: t("Waiting for your last word"),
    stt: t("Understanding"),
    llm: t("Thinking"),
    tts: t("Finding the voice"),
    avatar: t("Moving the picture"),
  };
  return names[part];
}

/** The latest first; a turn of which nothing is known is left out. The slowest fills the whole width: turns can be
 * compared by eye. */
export function turnBars(turns: readonly TurnTimes[]): TurnBar[] {
  const measured = turns.map((turn) => {
    const parts = order.map((part) => ({ part, ms: turn[`${part}_ms`] ?? 0 })).filter(({ ms }) => ms > 0);
    return { turn: turn.turn, parts, totalMs: turn.total_ms ?? parts.reduce((sum, { ms }) => sum + ms, 0) };
  });
  const known = measured.filter(({ totalMs }) => totalMs > 0);
  const slowest = Math.max(1, ...known.map(({ totalMs, parts }) => Math.max(totalMs, sum(parts))));
  return known
    .map(({ parts, ...turn }) => ({
      ...turn,
      parts: parts.map((item) => ({ ...item, percent: (item.ms / slowest) * 100 })),
    }))
    .reverse();
}

const sum = (parts: { ms: number }[]): number => parts.reduce((total, { ms }) => total + ms, 0);

/** `0.42 s`, `1.9 s`, `12 s`. */
export function seconds(ms: number): string {
  const value = ms / 1000;
  return t("{seconds} s", { seconds: value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0) });
}

/** The drawer. Bars are for the eye; the same figures stand beside them in words. */
export class Timing {
  private drawn: readonly TurnTimes[] | null = null;

  constructor(
    private readonly list: HTMLElement,
    private readonly empty: HTMLElement,
  ) {}

  render(turns: readonly TurnTimes[]): void {
    if (this.drawn === turns) return;
    this.drawn = turns;
    const bars = turnBars(turns);
    this.empty.hidden = bars.length > 0;
    this.list.replaceChildren(...bars.map(turnItem));
  }
}

function turnItem(turn: TurnBar): HTMLElement {
  const item = document.createElement("li");
  const head = made("p", "turn-head");
  const total = made("strong", "", seconds(turn.totalMs));
  total.dir = "auto";
  head.append(made("span", "", t("Turn {number}", { number: turn.turn })), total);
  const bar = made("div", "turn-bar");
  bar.setAttribute("aria-hidden", "true");
  const parts = made("ul", "turn-parts");
  for (const { part, ms, percent } of turn.parts) {
    const piece = made("span", "");
    piece.dataset.part = part;
    piece.style.setProperty("--part", `${percent.toFixed(2)}%`);
    bar.append(piece);
    const words = made("li", "", t("{part} {time}", { part: partName(part), time: seconds(ms) }));
    words.dataset.part = part;
    parts.append(words);
  }
  item.append(head, bar, parts);
  return item;
}

function made(tag: string, className: string, text = ""): HTMLElement {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}
