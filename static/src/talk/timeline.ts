/**
 * Who spoke when, on one axis, with a lane for each speaker and one for notices.
 *
 * Everything is placed in percent of the width, so that the same picture serves a phone and a desk, and can be placed
 * anew while the axis of a running conversation grows.
 */

import { clock, shortClock } from "../shared/clock.ts";
import type { Role, SegmentData } from "../shared/events.ts";
import type { NoticeMark, TimelineData } from "./data.ts";
import { setAll, shape } from "./make.ts";

const LEAST_MS = 10_000; // a conversation of one word is not stretched over the whole width
const PIXELS_A_SECOND = 7;
export const MOST_PIXELS = 6_000;
const LEAST_PERCENT = 0.3; // what was typed took no time, and is seen all the same
const STEPS_S: readonly number[] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600]; // between two ticks
const LONGEST_STEP_S = 3_600;
const PIXELS_A_TICK = 70;
const TITLE_CHARS = 200;
const LANES: Record<Role, number> = { user: 6, agent: 44 };
const NOTICES_LANE = 96;
const TICK_HEIGHT = 112;
const LABELS_LINE = 130;

export interface Tick {
  label: string;
  x: string;
}

/** From the first to the last moment of the picture, and how wide it is drawn. */
export class Axis {
  readonly endMs: number;
  readonly pixels: number;
  private readonly span: number;

  constructor(
    readonly startMs: number,
    endMs: number,
  ) {
    this.endMs = Math.max(endMs, startMs + LEAST_MS);
    this.span = this.endMs - startMs;
    this.pixels = Math.min(MOST_PIXELS, Math.round((this.span / 1_000) * PIXELS_A_SECOND));
  }

  holds(ms: number): boolean {
    return this.startMs <= ms && ms <= this.endMs;
  }

  x(ms: number): string {
    return percent(Math.max(0, Math.min(100, (100 * (ms - this.startMs)) / this.span)));
  }

  width(ms: number): string {
    return percent(Math.max(LEAST_PERCENT, (100 * ms) / this.span));
  }

  /** Moments with room for a label each, also for the last one's. */
  ticks(): Tick[] {
    // Not from the rounded width: while the axis grows the step would change to and fro.
    const pixelsASecond = Math.min(PIXELS_A_SECOND, (MOST_PIXELS / this.span) * 1_000);
    const step = 1_000 * (STEPS_S.find((seconds) => seconds * pixelsASecond >= PIXELS_A_TICK) ?? LONGEST_STEP_S);
    const last = this.endMs - Math.floor(this.span / 30);
    const found: Tick[] = [];
    for (let at = Math.ceil(this.startMs / step) * step; at < last; at += step)
      found.push({ label: shortClock(at), x: this.x(at) });
    return found;
  }
}

export function percent(value: number): string {
  return `${value.toFixed(3)}%`;
}

export function barTitle({ start_ms, end_ms, interrupted, text }: SegmentData): string {
  const note = interrupted ? " (interrupted)" : "";
  return `${clock(start_ms)}–${clock(end_ms)}${note}: ${[...text].slice(0, TITLE_CHARS).join("")}`;
}

/** What the picture shows, for whoever does not see it. */
export function inWords(axis: Axis, segments: readonly SegmentData[], notices: number): string {
  const speakers: readonly [Role, string][] = [
    ["user", "the visitor"],
    ["agent", "the agent"],
  ];
  const facts: string[] = [];
  for (const [role, name] of speakers) {
    const lines = segments.filter((segment) => segment.role === role);
    const spoken = lines.reduce((sum, line) => sum + line.end_ms - line.start_ms, 0);
    if (lines.length) facts.push(`${name} spoke ${lines.length} times, ${clock(spoken)} in all`);
  }
  const cut = segments.filter((segment) => segment.interrupted).length;
  if (cut) facts.push(`${cut} interrupted`);
  if (notices) facts.push(`${notices} notices`);
  return `From ${clock(axis.startMs)} to ${clock(axis.endMs)}: ${facts.join(", ") || "nobody spoke"}.`;
}

interface Bar {
  rect: SVGElement;
  fromMs: number;
  toMs: number;
}

/** The groups of the drawing, which the page has ready. */
export interface Groups {
  ticks: Element;
  bars: Element;
  marks: Element;
}

export class Timeline {
  private readonly segments: SegmentData[] = [];
  private readonly bars: Bar[] = [];
  private readonly speaking = new Map<string, Bar>(); // by the id of the utterance
  private readonly marks: { circle: SVGElement; atMs: number }[] = [];
  private readonly startMs: number;

  constructor(
    private readonly svg: Element,
    private readonly groups: Groups,
    data: TimelineData,
  ) {
    this.startMs = data.start_ms;
    const axis = new Axis(data.start_ms, data.end_ms);
    for (const segment of data.segments) this.addSegment(segment);
    for (const mark of data.notices) if (axis.holds(mark.at_ms)) this.addNotice(mark);
    this.place(data.end_ms);
  }

  /** A settled line: its bar leads to it. */
  addSegment(segment: SegmentData): void {
    const { segment_id: id, role, seq, interrupted, start_ms: fromMs, end_ms: toMs } = segment;
    this.speaking.get(id)?.rect.remove();
    this.speaking.delete(id);
    const title = barTitle(segment);
    const rect = bar(role, interrupted ? "cut" : "", title);
    const link = shape("a", { href: `#line-${seq}`, "aria-label": title });
    link.append(rect);
    this.groups.bars.append(link);
    this.segments.push(segment);
    this.bars.push({ rect, fromMs, toMs });
  }

  /** Somebody is speaking, from their first word to `atMs` so far. */
  speak(id: string, role: Role, atMs: number): void {
    const known = this.speaking.get(id);
    if (known) known.toMs = atMs;
    else {
      const rect = bar(role, "speaking");
      this.groups.bars.append(rect);
      this.speaking.set(id, { rect, fromMs: atMs, toMs: atMs });
    }
  }

  /** What was not settled is not kept. */
  endSpeaking(): void {
    for (const { rect } of this.speaking.values()) rect.remove();
    this.speaking.clear();
  }

  addNotice({ at_ms: atMs, level, text }: NoticeMark): void {
    const circle = shape("circle", { class: level, cy: NOTICES_LANE, r: 6 }, `${clock(atMs)} ${text}`);
    this.groups.marks.append(circle);
    this.marks.push({ circle, atMs });
  }

  /** The axis ends at this moment: everything on it moves. */
  place(endMs: number): void {
    const axis = new Axis(this.startMs, endMs);
    for (const { rect, fromMs, toMs } of [...this.bars, ...this.speaking.values()])
      setAll(rect, { x: axis.x(fromMs), width: axis.width(toMs - fromMs) });
    for (const { circle, atMs } of this.marks) circle.setAttribute("cx", axis.x(atMs));
    this.groups.ticks.replaceChildren(...axis.ticks().flatMap(drawTick));
    setAll(this.svg, { width: axis.pixels, "aria-label": inWords(axis, this.segments, this.marks.length) });
  }
}

function bar(role: Role, kind: string, title = ""): SVGElement {
  return shape("rect", { class: `${role} ${kind}`.trimEnd(), y: LANES[role], height: 28, rx: 3 }, title);
}

function drawTick({ label, x }: Tick): SVGElement[] {
  const text = shape("text", { x, y: LABELS_LINE });
  text.textContent = label;
  return [shape("line", { x1: x, x2: x, y1: 0, y2: TICK_HEIGHT }), text];
}
