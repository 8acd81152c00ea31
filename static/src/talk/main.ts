/** The admin's page of one conversation: draws when who spoke and how long answers took, and follows it while it runs. */

import { element } from "../shared/dom.ts";
import { readData } from "./data.ts";
import { Follower } from "./follow.ts";
import { takeWords } from "./say.ts";
import { Timeline } from "./timeline.ts";
import { Waits } from "./waits.ts";

const data = readData();
const groups = { ticks: element("ticks"), bars: element("bars"), marks: element("marks") };
const timeline = new Timeline(element("timeline"), groups, data.timeline);
const body = element<HTMLTableElement>("waits").tBodies[0];
if (!body) throw new Error("The table of turns has no body.");
const waits = new Waits(body, data.turns, data.labels.parts);
element("when").hidden = false;

if (data.ws_path) new Follower(data, timeline, waits).start(data.ws_path);
const say = document.querySelector<HTMLFormElement>("#say");
if (say) takeWords(say);
