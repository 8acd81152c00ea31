/** How long each answer took: a bar for each turn, part by part, all on one scale. */

import type { Part, TurnTimes } from "../shared/turns.ts";
import { make, shape } from "./make.ts";
import { percent } from "./timeline.ts";

const HEIGHT = 14;
const WHOLE = "Not measured in parts";

/** One part of a wait and its place in the bar; `unknown` where only the whole was measured. */
export interface WaitPart {
  part: Part | "unknown";
  ms: number;
  x: string;
  width: string;
}

/** The parts of each turn's wait; the longest wait takes the whole width. */
export function waitBars(turns: readonly TurnTimes[], parts: readonly Part[]): WaitPart[][] {
  const longest = Math.max(1, ...turns.map((turn) => waited(turn, parts)));
  return turns.map((turn) => {
    const found: WaitPart[] = [];
    let at = 0;
    const add = (part: WaitPart["part"], ms: number): void => {
      if (ms) found.push({ part, ms, x: percent((100 * at) / longest), width: percent((100 * ms) / longest) });
      at += ms;
    };
    for (const part of parts) add(part, turn[`${part}_ms`] ?? 0);
    if (!found.length) add("unknown", turn.total_ms ?? 0);
    return found;
  });
}

function waited(turn: TurnTimes, parts: readonly Part[]): number {
  const sum = parts.reduce((total, part) => total + (turn[`${part}_ms`] ?? 0), 0);
  return Math.max(turn.total_ms ?? 0, sum);
}

/** The bars in the table of turns. Its rows and figures are the page's own; rows of new turns are added. */
export class Waits {
  private readonly turns: TurnTimes[] = [];
  private readonly cells: HTMLElement[] = [];
  private readonly parts: readonly Part[];

  constructor(
    private readonly body: HTMLTableSectionElement,
    turns: readonly TurnTimes[],
    private readonly names: Readonly<Record<Part, string>>,
  ) {
    this.parts = Object.keys(names) as Part[];
    this.turns.push(...turns);
    this.cells.push(...body.querySelectorAll<HTMLElement>(".bar-cell"));
    this.draw();
  }

  add(turn: TurnTimes): void {
    const cell = make("td", { class: "bar-cell" });
    const figures = [...this.parts, "total" as const].map((name) => String(turn[`${name}_ms`] ?? "unknown"));
    this.body.append(
      make(
        "tr",
        {},
        make("th", { scope: "row" }, String(turn.turn)),
        cell,
        ...figures.map((text) => make("td", {}, text)),
        make("td"),
      ),
    );
    this.turns.push(turn);
    this.cells.push(cell);
    this.draw();
  }

  private draw(): void {
    const bars = waitBars(this.turns, this.parts);
    for (const [index, cell] of this.cells.entries()) {
      const svg = shape("svg", { class: "wait", width: "100%", height: HEIGHT, "aria-hidden": "true" });
      for (const { part, ms, x, width } of bars[index] ?? []) {
        const name = part === "unknown" ? WHOLE : this.names[part];
        svg.append(shape("rect", { class: `part-${part}`, x, width, height: HEIGHT }, `${name} ${ms} ms`));
      }
      cell.replaceChildren(svg);
    }
  }
}
