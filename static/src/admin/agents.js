/** The agent's editor: tabs, unsaved changes, presets, the panel to talk in, and the box to ask in. */

import { setUpTabs } from "./tabs.js";

/** Where a click leaves the address of the editor whose next page shall open the trial; an address alone opens none. */
const TALK = "molts.talk";

const form = document.querySelector("[data-agent-form]");
for (const link of document.querySelectorAll("[data-talk-link]"))
  link.addEventListener("click", (event) => {
    const elsewhere = event.ctrlKey || event.metaKey || event.shiftKey;
    if (!elsewhere) window.sessionStorage.setItem(TALK, link.pathname);
  });
if (form) {
  const editor = form.closest(".m-editor");
  setUpTabs(editor.querySelector("[data-tabs]"), form);
  const changes = watchChanges();
  setUpPresets();
  setUpTalk(editor.querySelector("[data-talk]"), changes);
  setUpAsk(editor.querySelector("[data-ask]"));
}

// -- Unsaved changes -------------------------------------------------------------------------------------------------
function watchChanges() {
  const listeners = [];
  const state = { changed: false, onChange: (listener) => listeners.push(listener) };
  const note = () => {
    if (state.changed) return;
    state.changed = true;
    for (const listener of listeners) listener();
  };
  // The box to ask in is no part of the agent.
  const ours = (event) => !event.target.closest?.("[data-ask]");
  for (const name of ["input", "change"]) form.addEventListener(name, (event) => ours(event) && note());
  let saving = false;
  form.addEventListener("submit", () => {
    saving = true;
  });
  window.addEventListener("beforeunload", (event) => {
    if (state.changed && !saving) event.preventDefault();
  });
  if (form.querySelector(".m-error, .errors, .errorlist")) queueMicrotask(note);
  return state;
}

// -- Turn-taking -----------------------------------------------------------------------------------------------------
/** A preset fills in the fields; fields that are changed by hand say which preset they are, if any. */
function setUpPresets() {
  const data = document.getElementById("turn-presets");
  const choices = form.querySelectorAll("[name=turn_preset]");
  if (!data || !choices.length) return;
  const presets = JSON.parse(data.textContent);
  const names = Object.keys(Object.values(presets)[0]);
  if (!names.every((name) => form.elements[name])) return; // they may only be looked at
  const read = (field) => (field.type === "checkbox" ? field.checked : Number(field.value));
  for (const choice of choices)
    choice.addEventListener("change", () => {
      for (const [name, value] of Object.entries(presets[choice.value] ?? {})) {
        const field = form.elements[name];
        if (field.type === "checkbox") field.checked = value;
        else field.value = value;
      }
    });
  for (const name of names)
    form.elements[name].addEventListener("input", () => {
      const is = Object.entries(presets).find(([, values]) =>
        names.every((each) => read(form.elements[each]) === values[each]),
      );
      form.elements.turn_preset.value = is ? is[0] : "custom";
    });
}

// -- Talking ---------------------------------------------------------------------------------------------------------
function setUpTalk(panel, changes) {
  if (!panel) return;
  const frame = panel.querySelector("iframe");
  const trial = panel.querySelector("[data-trial]");
  changes.onChange(() => {
    panel.querySelector("[data-clean]").hidden = true;
    panel.querySelector("[data-dirty]").hidden = false;
  });
  trial.addEventListener("submit", () => {
    frame.hidden = false;
    panel.querySelector("[data-frame-empty]").hidden = true;
    panel.classList.add("m-open");
    panel.querySelector("[data-trial-label]").textContent = "Start again";
    sayWhoAnswers(panel);
  });
  panel.querySelector("[data-save-talk]").addEventListener("click", () => {
    window.sessionStorage.setItem(TALK, window.location.pathname);
  });
  const asked = window.sessionStorage.getItem(TALK);
  window.sessionStorage.removeItem(TALK);
  if (asked === window.location.pathname && !("refused" in panel.dataset)) trial.requestSubmit();
}
/** Someone else may have saved since the page was opened. */
async function sayWhoAnswers(panel) {
  const number = panel.querySelector("[data-newest-number]");
  try {
    const response = await fetch(panel.dataset.newestUrl, { signal: AbortSignal.timeout(10_000) });
    const newest = await response.json();
    if (!response.ok || !newest.number || !number) return;
    number.textContent = `r${newest.number}`;
    panel.querySelector("[data-newest-saved]").textContent = newest.saved;
  } catch {
    // What the page said stays; the conversation itself does not depend on it.
  }
}

// -- Asking ----------------------------------------------------------------------------------------------------------
function setUpAsk(box) {
  if (!box) return;
  const question = box.querySelector("[data-ask-question]");
  const shown = box.querySelector("[data-ask-answer]");
  box.hidden = false;
  box.querySelector("[data-ask-go]").addEventListener("click", ask);
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    ask();
  });

  async function ask() {
    const body = new FormData();
    body.set("question", question.value);
    for (const name of ["name", "language", "greeting", "knowledge"]) body.set(name, form.elements[name]?.value ?? "");
    for (const row of document.querySelectorAll("[data-chain=answers] [data-row]:not([hidden])")) {
      body.append("asked", row.querySelector("[name$=-question]").value);
      body.append("answered", row.querySelector("[name$=-answer]").value);
    }
    shown.replaceChildren(line("Thinking…", "m-help"));
    try {
      const response = await fetch(box.dataset.url, {
        method: "POST",
        body,
        headers: { "X-CSRFToken": form.elements.csrfmiddlewaretoken.value },
        signal: AbortSignal.timeout(10_000),
      });
      const said = await response.json();
      if (!response.ok) throw new Error(said.errors[0].detail);
      shown.replaceChildren(line(said.answer, "m-said"), line(source(said), "m-help"));
    } catch (error) {
      shown.replaceChildren(line(error instanceof SyntaxError ? "It could not be asked." : error.message, "m-error"));
    }
  }

  function source(said) {
    if (!said.sure) return `From: ${said.source}.`;
    const from = said.question ? `${said.source}: “${said.question}”` : said.source;
    return `${said.sure} % sure, from ${from}.`;
  }

  function line(text, style) {
    const made = document.createElement("p");
    made.className = style;
    made.textContent = text;
    return made;
  }
}
