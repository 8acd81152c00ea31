/** A question and its answer, as figures. */

import type { TurnMetrics } from "./events.ts";

/** How long each part of an answer took, one after the other; null is unknown, or had no part in it. */
export type TurnTimes = Omit<TurnMetrics, "type" | "at" | "offset_ms">;

type Name = keyof TurnTimes extends infer Key ? (Key extends `${infer Part}_ms` ? Part : never) : never;
export type Part = Exclude<Name, "total">;
