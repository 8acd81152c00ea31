/** The transcript while it grows: settled lines, and below them what somebody is saying. */

import { clock } from "../shared/clock.ts";
import { element } from "../shared/dom.ts";
import type { Role, SegmentData } from "../shared/events.ts";
import { make } from "./make.ts";

/** Who is so near to the end of the list sees new lines come; others read further up. */
const NEAR_PIXELS = 60;

export class Lines {
  private readonly scroll = element("scroll");
  private readonly list = element("lines");
  private readonly speaking = new Map<string, HTMLElement>(); // by the id of the utterance

  constructor(private readonly names: Readonly<Record<Role, string>>) {
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  /** The words so far of what began at `atMs`. */
  speak(id: string, role: Role, text: string, atMs: number): void {
    const line = this.speaking.get(id) ?? this.line(role, atMs, "");
    line.classList.add("partial");
    const words = line.querySelector("p");
    if (words) words.textContent = text;
    this.speaking.set(id, line);
    this.show(line);
  }

  addSegment({ seq, segment_id: id, role, text, start_ms, interrupted, revised }: SegmentData): void {
    this.speaking.get(id)?.remove();
    this.speaking.delete(id);
    const notes = [interrupted && "interrupted", revised && "revised"].filter((note) => note !== false);
    const line = this.line(role, start_ms, text, notes);
    line.id = `line-${seq}`;
    this.show(line);
  }

  /** What was not settled is not kept. */
  endSpeaking(): void {
    for (const line of this.speaking.values()) line.remove();
    this.speaking.clear();
  }

  private line(role: Role, atMs: number, text: string, notes: readonly string[] = []): HTMLElement {
    const words = make("p", { dir: "auto" }, text);
    for (const note of notes) words.append(" ", make("span", { class: "note" }, note));
    const at = make("span", { class: "at" }, clock(atMs));
    return make("li", { class: `line ${role}` }, at, make("span", { class: "who" }, this.names[role]), words);
  }

  private show(line: HTMLElement): void {
    const { scroll } = this;
    const isNear = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < NEAR_PIXELS;
    element("no-lines").hidden = true;
    if (!line.isConnected) this.list.append(line);
    if (isNear) scroll.scrollTop = scroll.scrollHeight;
  }
}
