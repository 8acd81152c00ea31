/** The points of a face on its picture: found by the server, or put there by hand with the mouse or the arrow keys. */

import { answer } from "./avatars-stage.js";

const POINTS = {
  left_eye: ["Eye on the left", 0.39, 0.42],
  right_eye: ["Eye on the right", 0.61, 0.42],
  mouth_left: ["Left corner of the mouth", 0.42, 0.66],
  mouth_right: ["Right corner of the mouth", 0.58, 0.66],
  mouth_top: ["Where the lips meet, above", 0.5, 0.655],
  mouth_bottom: ["Where the lips meet, below", 0.5, 0.665],
  chin: ["Tip of the chin", 0.5, 0.82],
};
/** Which points each option of the engine holds, in its order. */
const OPTIONS = {
  option_eyes: ["left_eye", "right_eye"],
  option_mouth: ["mouth_left", "mouth_right", "mouth_top", "mouth_bottom"],
  option_chin: ["chin"],
};
const STEP = 0.004;

export function setUpMarks(box, form, changed) {
  const frame = box.querySelector("[data-marks]");
  const picture = box.querySelector("[data-picture]");
  const tools = box.querySelector("[data-marks-tools]");
  const status = box.querySelector("[data-marks-status]");
  const hand = box.querySelector("[data-marks-hand]");
  const handles = new Map();
  let enabled = false;
  let asked = 0;

  hand.addEventListener("click", () => {
    const open = !frame.classList.contains("m-by-hand");
    byHand(open);
    if (!open) return;
    if (!handles.size) place(Object.fromEntries(Object.entries(POINTS).map(([name, [, x, y]]) => [name, [x, y]])));
    store();
    tell("Drag the points to the eyes, the mouth and the chin; or use Tab and the arrow keys.", "m-help");
  });
  box.querySelector("[data-marks-find]").addEventListener("click", () => {
    forget();
    void find();
    changed();
  });

  return { find, forget, enable };

  function enable(on) {
    enabled = on;
    tools.hidden = !on || picture.hidden;
    frame.classList.toggle("m-markable", on);
    if (on && !picture.hidden && !handles.size) void find();
  }

  /** Nothing is marked by hand any more. */
  function forget() {
    byHand(false);
    for (const handle of handles.values()) handle.remove();
    handles.clear();
    for (const name of Object.keys(OPTIONS)) if (form.elements[name]) form.elements[name].value = "";
  }

  async function find() {
    if (!enabled) return;
    tools.hidden = false;
    const marked = stored();
    if (marked) {
      place(marked);
      tell("Marked by hand.", "m-help");
      return;
    }
    asked += 1;
    const mine = asked;
    const body = new FormData();
    body.set("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
    const [file] = box.querySelector("input[type=file]").files;
    if (file) body.set("portrait", file);
    if (form.dataset.avatar) body.set("avatar", form.dataset.avatar);
    tell("Looking for the face…", "m-help");
    try {
      const response = await fetch(box.dataset.marksUrl, { method: "POST", body, signal: AbortSignal.timeout(30_000) });
      const marks = await answer(response);
      if (mine !== asked) return;
      place(marks);
      tell(
        marks.confidence < 0.5
          ? "A face was found, but not clearly. Check the points, and mark them by hand if they are off."
          : "The face was found.",
        "m-help",
      );
    } catch (error) {
      if (mine !== asked) return;
      tell(error.message, "m-error");
    }
  }

  function stored() {
    const marks = {};
    for (const [option, names] of Object.entries(OPTIONS)) {
      const value = form.elements[option]?.value;
      const points = value && value !== "null" ? JSON.parse(value) : null;
      if (!points) continue;
      for (const [index, name] of names.entries()) marks[name] = names.length === 1 ? points : points[index];
    }
    return marks.left_eye ? marks : null;
  }

  function place(marks) {
    for (const [name, [label]] of Object.entries(POINTS)) {
      if (!marks[name]) continue;
      if (!handles.has(name)) handles.set(name, frame.appendChild(handle(name, label)));
      put(handles.get(name), ...marks[name]);
    }
    byHand(frame.classList.contains("m-by-hand"));
  }

  function handle(name, label) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = `m-mark m-mark-${name.split("_")[0]}`;
    made.setAttribute("aria-label", label);
    made.title = label;
    made.addEventListener("pointerdown", (event) => {
      if (!frame.classList.contains("m-by-hand")) return;
      event.preventDefault();
      made.focus();
      made.setPointerCapture(event.pointerId);
      const move = (moved) => {
        const area = picture.getBoundingClientRect();
        put(made, (moved.clientX - area.left) / area.width, (moved.clientY - area.top) / area.height);
      };
      made.addEventListener("pointermove", move);
      made.addEventListener(
        "lostpointercapture",
        () => {
          made.removeEventListener("pointermove", move);
          store();
        },
        { once: true },
      );
    });
    made.addEventListener("keydown", (event) => {
      const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [];
      if (x === undefined) return;
      event.preventDefault();
      put(made, Number(made.dataset.x) + x * STEP, Number(made.dataset.y) + y * STEP);
      store();
    });
    return made;
  }

  function put(made, x, y) {
    made.dataset.x = Math.min(1, Math.max(0, x)).toFixed(4);
    made.dataset.y = Math.min(1, Math.max(0, y)).toFixed(4);
    made.style.insetInlineStart = `${made.dataset.x * 100}%`;
    made.style.insetBlockStart = `${made.dataset.y * 100}%`;
  }

  function store() {
    for (const [option, names] of Object.entries(OPTIONS)) {
      const field = form.elements[option];
      if (!field || names.some((name) => !handles.has(name))) continue;
      const points = names.map((name) => [Number(handles.get(name).dataset.x), Number(handles.get(name).dataset.y)]);
      field.value = JSON.stringify(names.length === 1 ? points[0] : points);
    }
    form.dispatchEvent(new Event("input", { bubbles: true }));
    changed();
  }

  function byHand(open) {
    frame.classList.toggle("m-by-hand", open);
    hand.textContent = open ? "Done" : "Mark by hand";
    for (const made of handles.values()) made.tabIndex = open ? 0 : -1;
  }

  function tell(text, style) {
    status.textContent = text;
    status.className = style;
  }
}
