// Follows a running conversation: its words, its state, its timeline. The server has drawn everything up to
// `data-seq`; what is newer comes through the same WebSocket that visitors have.
const page = document.getElementById("talk");
const find = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const PAUSES_MS = [300, 1_000, 2_000, 4_000, 5_000];
// A server that stands still closes nothing: after a quiet it is asked whether it is there, and no answer is a cut.
const QUIET_MS = 2_000;
const ANSWER_MS = 3_500;
const OPEN_MS = 8_000;
const FINAL_CODES = new Set([4401, 4404, 4410]);
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600]; // seconds between two marks of the axis
const LANES = { user: 6, agent: 44 };
const STATES = {
  waiting: ["waiting", "busy"],
  active: ["running", "good"],
  ended: ["ended", "quiet"],
  failed: ["failed", "bad"],
};
const REASONS = {
  visitor_left: "The visitor left",
  ended_by_user: "Ended by the visitor",
  ended_by_api: "Ended by a program or an admin",
  silence: "Silence",
  time_limit: "Time limit",
  no_agent: "No agent came",
  agent_lost: "The agent was lost",
  budget: "Budget used up",
  error: "Error",
};
const PARTS = ["endpointing", "stt", "llm", "tts", "avatar"];
const timeline = find("timeline");
const startMs = Number(timeline.dataset.start);
const loadedAt = performance.now();
const names = { user: page.dataset.visitor, agent: page.dataset.agent };
const partials = new Map(); // segment id -> { line, bar }

let lastSeq = Number(page.dataset.seq);
let failures = 0;
let over = false;
let offset = Number(page.dataset.now) - loadedAt;

const now = () => Math.round(performance.now() + offset);

function clock(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  return [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60]
    .map((n) => String(n).padStart(2, "0"))
    .join(":");
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function draw(tag, attributes, title = "") {
  const shape = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
  if (title) shape.append(Object.assign(document.createElementNS(SVG, "title"), { textContent: title }));
  return shape;
}

function count(id) {
  find(id).textContent = String(Number(find(id).textContent) + 1);
}

// -- words ------------------------------------------------------------------------------------------------------------
function makeLine(role, at, text, notes = []) {
  const words = make("p", { dir: "auto" }, text);
  for (const note of notes) words.append(" ", make("span", { class: "note" }, note));
  return make(
    "li",
    { class: `line ${role}` },
    make("span", { class: "at" }, clock(at)),
    make("span", { class: "who" }, names[role]),
    words,
  );
}

/** New lines come into sight, unless somebody reads further up. */
function add(line) {
  const scroll = find("scroll");
  const below = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
  find("no-lines").hidden = true;
  if (!line.isConnected) find("lines").append(line);
  if (below) scroll.scrollTop = scroll.scrollHeight;
}

function hearPartial({ segment_id: id, role, text, offset_ms: at }) {
  let partial = partials.get(id);
  if (!partial) {
    partial = {
      line: makeLine(role, at, ""),
      bar: draw("rect", {
        class: `${role} speaking`,
        y: LANES[role],
        height: 28,
        rx: 3,
        "data-from": at,
        "data-to": at,
      }),
    };
    partial.line.classList.add("partial");
    find("bars").append(partial.bar);
    partials.set(id, partial);
  }
  partial.line.querySelector("p").textContent = text;
  partial.bar.dataset.to = at;
  add(partial.line);
}

function hearFinal(segment) {
  if (segment.seq <= lastSeq) return;
  lastSeq = segment.seq;
  const partial = partials.get(segment.segment_id);
  partial?.line.remove();
  partial?.bar.remove();
  partials.delete(segment.segment_id);
  const { role, text, start_ms: from, end_ms: to, interrupted, revised } = segment;
  const notes = [interrupted && "interrupted", revised && "revised"].filter(Boolean);
  const line = makeLine(role, from, text, notes);
  line.id = `line-${lastSeq}`;
  add(line);
  const kind = `${role}${interrupted ? " cut" : ""}`;
  const title = `${clock(from)}–${clock(to)}: ${text.slice(0, 200)}`;
  const link = draw("a", { href: `#${line.id}`, "aria-label": title });
  link.append(
    draw("rect", { class: kind, y: LANES[role], height: 28, rx: 3, "data-from": from, "data-to": to }, title),
  );
  find("bars").append(link);
  find("fact-lines").textContent = String(lastSeq);
  if (interrupted) count("fact-cuts");
}

// -- everything else ----------------------------------------------------------------------------------------------------
function showState(state, reason) {
  const [text, tone] = STATES[state] ?? [state, "quiet"];
  find("state-chip").replaceChildren(make("span", { class: `chip chip-${tone}` }, text));
  if (state !== "ended" && state !== "failed") return;
  over = true;
  for (const { line, bar } of partials.values()) {
    line.remove();
    bar.remove();
  }
  find("agent-state").textContent = REASONS[reason] ?? "";
  find("link-state").replaceChildren(make("a", { href: window.location.pathname }, "Show the whole record"));
  find("steer")?.remove();
}

function showAgent(state) {
  if (!over) find("agent-state").textContent = state[0].toUpperCase() + state.slice(1);
}

function showNotice({ level, code, text, offset_ms: at }) {
  find("no-notices").hidden = true;
  find("notices").append(
    make("li", { class: level }, make("span", { class: "at" }, clock(at)), ` ${text} `, make("code", {}, code)),
  );
  find("marks").append(draw("circle", { class: level, cy: 96, r: 6, "data-from": at }, `${clock(at)} ${text}`));
}

function showTurn(event) {
  const row = make("tr", {}, make("th", { scope: "row" }, String(event.turn)));
  const bar = draw("svg", { class: "wait", width: "100%", height: 14, "aria-hidden": "true" });
  row.append(make("td", { class: "bar-cell" }, bar));
  for (const name of [...PARTS, "total"]) row.append(make("td", {}, String(event[`${name}_ms`] ?? "unknown")));
  row.append(make("td"));
  for (const part of PARTS)
    bar.append(draw("rect", { class: `part-${part}`, height: 14, "data-ms": event[`${part}_ms`] ?? 0 }));
  const table = find("waits");
  table.hidden = false;
  find("no-waits").hidden = true;
  table.tBodies[0].append(row);
  count("fact-turns");
  scaleWaits(table);
}

/** All bars on one scale; those that the server drew are read from their cells. */
function scaleWaits(table) {
  const rows = [...table.tBodies[0].rows].map((row) => ({
    bars: row.querySelectorAll("rect"),
    parts: PARTS.map((_, index) => Number(row.cells[index + 2].textContent) || 0),
  }));
  const longest = Math.max(1, ...rows.map(({ parts }) => parts.reduce((sum, ms) => sum + ms, 0)));
  for (const { bars, parts } of rows) {
    let at = 0;
    for (const bar of bars) {
      const ms = parts[PARTS.indexOf(bar.getAttribute("class").replace("part-", ""))] ?? 0;
      bar.setAttribute("x", `${(100 * at) / longest}%`);
      bar.setAttribute("width", `${(100 * ms) / longest}%`);
      at += ms;
    }
  }
}

/** The axis ends at this moment, so everything on it moves. */
function place() {
  const end = Math.max(now(), startMs + 10_000);
  const percent = (ms) => `${Math.max(0, Math.min(100, (100 * (ms - startMs)) / (end - startMs)))}%`;
  const pixels = Math.min(6_000, Math.round(((end - startMs) / 1000) * 7));
  timeline.setAttribute("width", pixels);
  for (const bar of find("bars").querySelectorAll("rect")) {
    const { from, to } = bar.dataset;
    bar.setAttribute("x", percent(from));
    bar.setAttribute("width", `${Math.max(0.3, (100 * (to - from)) / (end - startMs))}%`);
  }
  for (const mark of find("marks").children) mark.setAttribute("cx", percent(mark.dataset.from));
  const step = STEPS.find((s) => (s * 1000 * pixels) / (end - startMs) >= 70) ?? 3600;
  const ticks = [];
  for (let at = Math.ceil(startMs / (step * 1000)) * step * 1000; at < end - (end - startMs) / 30; at += step * 1000) {
    const label = draw("text", { x: percent(at), y: 130 });
    label.textContent = clock(at).replace(/^00:0?/, "");
    ticks.push(draw("line", { x1: percent(at), x2: percent(at), y1: 0, y2: 112 }), label);
  }
  find("ticks").replaceChildren(...ticks);
  find("fact-lasted").textContent = clock(now());
}

// -- the socket ---------------------------------------------------------------------------------------------------------
const hear = {
  snapshot(event) {
    failures = 0;
    offset = event.offset_ms - performance.now();
    for (const segment of event.segments) hearFinal(segment);
    showAgent(event.session.agent_state);
    showState(event.session.state, event.session.reason);
    if (!over) find("link-state").textContent = "following live";
  },
  "transcript.partial": hearPartial,
  "transcript.final": hearFinal,
  "agent.state": (event) => showAgent(event.state),
  "session.state": (event) => showState(event.state, event.reason),
  "turn.metrics": showTurn,
  notice: showNotice,
};

function follow() {
  const socket = new WebSocket(`${window.location.origin.replace("http", "ws")}${page.dataset.ws}?after=${lastSeq}`);
  let silence = 0;
  const leave = () => {
    socket.onmessage = null;
    socket.close();
    closed({ code: 1006 });
  };
  const ask = () => {
    socket.send('{"type":"ping"}');
    silence = setTimeout(leave, ANSWER_MS);
  };
  silence = setTimeout(leave, OPEN_MS);
  socket.onmessage = ({ data }) => {
    clearTimeout(silence);
    silence = setTimeout(ask, QUIET_MS);
    const event = JSON.parse(data);
    hear[event.type]?.(event);
  };
  const closed = ({ code }) => {
    clearTimeout(silence);
    socket.onclose = null;
    if (over || FINAL_CODES.has(code)) {
      if (!over) find("link-state").textContent = "no longer following: load the page again";
      over = true;
      return;
    }
    find("link-state").textContent = "the connection is lost, trying again…";
    setTimeout(follow, PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]);
    failures += 1;
  };
  socket.onclose = closed;
}

const say = find("say");
if (say) {
  say.hidden = false;
  say.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fields = new FormData(say);
    const problem = find("say-problem");
    const button = say.querySelector("button");
    button.disabled = true;
    problem.hidden = true;
    try {
      const response = await fetch(say.action, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRFToken": fields.get("csrfmiddlewaretoken") },
        body: JSON.stringify({ text: fields.get("text"), as: fields.get("as") }),
        signal: AbortSignal.timeout(10_000),
      });
      const answer = await response.json().catch(() => ({}));
      if (!response.ok) throw new Error(answer.errors?.[0]?.detail ?? "It was not taken. Please try again.");
      find("say-text").value = "";
    } catch (error) {
      problem.textContent = error.name === "TimeoutError" ? "No answer came in time. Please try again." : error.message;
      problem.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
}

find("scroll").scrollTop = find("scroll").scrollHeight;
const beat = setInterval(() => (over ? clearInterval(beat) : place()), 1_000);
follow();
