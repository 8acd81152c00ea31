/** The avatar's editor: engines with their options, a portrait with its marks, and the face moving beside it. */

import { setUpMarks } from "./avatars-marks.js";
import { answer, setUpStage } from "./avatars-stage.js";
import { setUpTabs } from "./tabs.js";

const MAX_BYTES = 10_000_000;
const editor = document.querySelector("[data-avatar-editor]");
if (editor) {
  const form = editor.querySelector("[data-avatar-form]");
  const tabs = editor.querySelector("[data-tabs]");
  if (tabs) setUpTabs(tabs, form);
  const stage = setUpStage(editor.querySelector("[data-stage]"), form);
  if (form.querySelector("[data-engines]")) setUpFace(form, stage);
  warnUnsaved(form);
}

function setUpFace(form, stage) {
  const facts = JSON.parse(document.getElementById("face-facts").textContent);
  const options = form.querySelector("[data-options]");
  const optionsField = form.querySelector("[data-options-field]");
  const keyField = form.querySelector("[data-key-field]");
  const portraitField = form.querySelector("[data-portrait-field]");
  const keys = form.querySelector("[data-key-select]");
  const project = form.querySelector("select#id_project"); // a saved avatar has one, and is offered no other's keys
  const remembered = new Map();
  const marks = setUpMarks(portraitField, form, () => stage.refresh());
  let engine = form.elements.engine.value;

  project?.addEventListener("change", show);
  for (const choice of form.querySelectorAll("[name=engine]"))
    choice.addEventListener("change", () => choose(choice.value));
  options.addEventListener("input", (event) => {
    if (event.target.matches("[data-slider]")) showValue(event.target);
    stage.refresh();
  });
  setUpPicture(portraitField, () => {
    marks.forget();
    void marks.find();
    stage.refresh();
  });
  checkPictureFirst(portraitField, form);
  show();
  stage.begin(facts[engine]);

  function choose(next) {
    remembered.set(engine, [...options.childNodes]);
    const template = form.querySelector(`template[data-options-of="${next}"]`);
    const known = remembered.get(next);
    options.replaceChildren(...(known ?? (template ? [template.content.cloneNode(true)] : [])));
    engine = next;
    show();
    stage.engine(facts[engine]);
  }

  function show() {
    const fact = facts[engine] ?? {};
    for (const slider of options.querySelectorAll("[data-slider]")) showValue(slider); // the browser may have kept another
    optionsField.hidden = !options.querySelector("[data-option]");
    portraitField.hidden = !fact.takesPortrait;
    keyField.hidden = !fact.hosted;
    for (const option of keys?.options ?? []) {
      const ours = !project || option.dataset.project === project.value;
      const fits = !option.dataset.provider || (option.dataset.provider === engine && ours);
      option.hidden = option.disabled = !fits;
      if (!fits && option.selected) keys.value = "";
    }
    marks.enable(Boolean(fact.needsPortrait));
  }
}

function showValue(slider) {
  slider.parentElement.querySelector("output").value = Number(slider.value).toFixed(2);
}

// -- The picture -----------------------------------------------------------------------------------------------------
/** A chosen or dropped picture is shown before it is saved, and what cannot be one is refused at once. */
function setUpPicture(box, changed) {
  const input = box.querySelector("input[type=file]");
  const frame = box.querySelector("[data-marks]");
  const picture = box.querySelector("[data-picture]");
  const empty = box.querySelector("[data-picture-empty]");

  input.addEventListener("change", () => {
    const [file] = input.files;
    input.setCustomValidity("");
    if (!file) return;
    if (file.size > MAX_BYTES) return refuse("The file is too large: at most 10 MB.");
    picture.src = URL.createObjectURL(file);
    picture.hidden = false;
    empty.hidden = true;
    box.querySelector(".m-field .m-error")?.remove();
    changed();
  });
  picture.addEventListener("error", () => {
    if (picture.src.startsWith("blob:")) refuse("This is no picture that can be used: choose a PNG, JPEG or WebP.");
  });
  for (const name of ["dragover", "dragleave", "drop"])
    frame.addEventListener(name, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      frame.classList.toggle("m-over", name === "dragover");
      if (name !== "drop" || !event.dataTransfer.files.length) return;
      input.files = event.dataTransfer.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    });

  function refuse(text) {
    input.setCustomValidity(text);
    input.reportValidity();
  }
}

/**
 * A chosen picture is checked before the form is sent. A browser forgets the picture of a form that is refused; so
 * this page stays, with the picture, its marks and what is to be mended. Where the check cannot be had, saving decides.
 */
function checkPictureFirst(box, form) {
  const input = box.querySelector("input[type=file]");
  let asking = false;
  let checked = false;

  form.addEventListener("submit", (event) => {
    if (checked || !input.files.length || box.hidden) return;
    event.preventDefault();
    event.stopPropagation();
    if (!asking && form.reportValidity()) void check(event.submitter);
  });

  async function check(button) {
    asking = true;
    tell("Looking at the picture…", "m-help");
    const refusal = await refusedFor();
    asking = false;
    tell(refusal, "m-error");
    if (refusal) return;
    checked = true;
    form.requestSubmit(button);
    checked = false;
  }

  /** What is to be mended, "" for nothing. */
  async function refusedFor() {
    const body = new FormData(form);
    if (form.dataset.avatar) body.set("avatar", form.dataset.avatar);
    try {
      const response = await fetch(box.dataset.checkUrl, { method: "POST", body, signal: AbortSignal.timeout(60_000) });
      if (response.status !== 400) return "";
      await answer(response);
    } catch (error) {
      if (error.name === "Error") return error.message;
    }
    return "";
  }

  function tell(text, style) {
    const field = input.closest(".m-field");
    const wrong = Boolean(text) && style === "m-error";
    field.classList.toggle("m-wrong", wrong);
    for (const before of field.querySelectorAll("[role]")) before.remove();
    if (!text) return;
    const said = document.createElement("p");
    Object.assign(said, { className: style, role: wrong ? "alert" : "status", textContent: text });
    input.after(said);
    if (wrong) input.focus();
  }
}

function warnUnsaved(form) {
  let changed = false;
  let saving = false;
  for (const name of ["input", "change"])
    form.addEventListener(name, () => {
      changed = true;
    });
  document.addEventListener("submit", () => {
    saving = true;
  });
  window.addEventListener("beforeunload", (event) => {
    if (changed && !saving) event.preventDefault();
  });
}
