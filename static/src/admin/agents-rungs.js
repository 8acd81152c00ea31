/**
 * Rows that can be added, removed and put in order, and option fields that follow the chosen provider.
 *
 * Without this script the fields of the saved provider are there, and places are typed as numbers.
 */

import { setUpOffers } from "./agents-offers.js";

const facts = JSON.parse(document.getElementById("provider-facts")?.textContent ?? "{}");

document.documentElement.classList.add("m-scripted");
// On a phone the longest names end in an ellipsis: pointing at them shows them whole.
document.addEventListener("pointerover", ({ target }) => {
  if (target instanceof HTMLSelectElement) target.title = target.selectedOptions[0]?.textContent.trim() ?? "";
});
for (const list of document.querySelectorAll("[data-chain]")) setUpList(list);
const voiceOptions = document.querySelector(".m-chain[data-kind] > [data-options]");
if (voiceOptions) setUpRung(voiceOptions.closest("form"), voiceOptions, voiceOptions.parentElement.dataset.kind);

// -- Rows ------------------------------------------------------------------------------------------------------------
function setUpList(section) {
  const rows = section.querySelector("[data-rows]");
  if (!rows) return;
  const form = rows.closest("form");
  const empty = section.querySelector("[data-empty]");
  const blank = section.querySelector("[data-blank-row]");
  const add = section.querySelector("[data-add-row]");
  add.hidden = false;
  for (const row of rows.children) setUpRow(row);
  number();

  add.addEventListener("click", () => {
    const prefix = blank.innerHTML.match(/name="([\w-]+)-__prefix__-/)[1];
    const total = form.elements[`${prefix}-TOTAL_FORMS`];
    const holder = document.createElement("template");
    holder.innerHTML = blank.innerHTML.replaceAll("__prefix__", total.value);
    total.value = Number(total.value) + 1;
    const row = rows.appendChild(holder.content.firstElementChild);
    setUpRow(row);
    changed();
    row.querySelector("select, textarea, input:not([type=hidden])").focus();
  });

  function setUpRow(row) {
    row.querySelector("[data-tools]").hidden = false;
    row.querySelector("[data-up]").addEventListener("click", (event) => move(row, -1, event.currentTarget));
    row.querySelector("[data-down]").addEventListener("click", (event) => move(row, 1, event.currentTarget));
    row.querySelector("[data-remove]").addEventListener("click", () => remove(row));
    setUpDrag(row, rows, changed);
    const options = row.querySelector("[data-options]");
    if (options) setUpRung(row, options, row.dataset.kind);
  }

  function move(row, step, button) {
    const shown = [...rows.children].filter((each) => !each.hidden);
    const other = shown[shown.indexOf(row) + step];
    if (!other) return;
    if (step < 0) other.before(row);
    else other.after(row);
    changed();
    (button.disabled ? row.querySelector(step < 0 ? "[data-down]" : "[data-up]") : button).focus();
  }

  function remove(row) {
    const mark = row.querySelector("input[name$=-DELETE]");
    if (mark) mark.checked = true;
    row.hidden = true;
    changed();
    add.focus();
  }

  function changed() {
    number();
    form.dispatchEvent(new Event("input", { bubbles: true }));
  }

  /** Places as they are on the page; the first cannot go up, the last not down. */
  function number() {
    const shown = [...rows.children].filter((row) => !row.hidden);
    shown.forEach((row, index) => {
      row.querySelector("[data-place]").value = index + 1;
      const label = row.querySelector("[data-number]");
      if (label) label.textContent = index + 1;
      row.querySelector("[data-up]").disabled = index === 0;
      row.querySelector("[data-down]").disabled = index === shown.length - 1;
    });
    if (empty) empty.hidden = shown.length > 0;
  }
}

/** Dragging by the handle; the keyboard and touch screens have the buttons. */
function setUpDrag(row, rows, changed) {
  const handle = row.querySelector("[data-drag]");
  handle.addEventListener("pointerdown", () => {
    row.draggable = true;
  });
  handle.addEventListener("pointerup", () => {
    row.draggable = false;
  });
  row.addEventListener("dragstart", (event) => {
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", "");
    row.classList.add("m-dragged");
  });
  row.addEventListener("dragend", () => {
    row.draggable = false;
    row.classList.remove("m-dragged");
    changed();
  });
  row.addEventListener("dragover", (event) => {
    const dragged = rows.querySelector(".m-dragged");
    if (!dragged) return;
    event.preventDefault();
    if (dragged === row) return;
    const box = row.getBoundingClientRect();
    if (event.clientY < box.top + box.height / 2) row.before(dragged);
    else row.after(dragged);
  });
}

// -- Options ---------------------------------------------------------------------------------------------------------
/** The option fields and keys of one provider select. Values typed for one provider come back when it does. */
function setUpRung(scope, options, kind) {
  const select = scope.querySelector("[data-provider-select]");
  const key = scope.querySelector("[data-key-select]");
  if (!select) return;
  const prefix = select.name.replace(/provider$/, "");
  const remembered = new Map();
  let shown = select.value;
  offerKeys();
  setUpOffers(scope, options, kind);
  scope.ownerDocument.querySelector("select#id_project")?.addEventListener("change", offerKeys);

  select.addEventListener("change", () => {
    remembered.set(shown, options.cloneNode(true));
    const values = valuesOf(options);
    keepSelects(options, remembered.get(shown));
    shown = select.value;
    if (remembered.has(shown)) options.replaceChildren(...remembered.get(shown).childNodes);
    else options.replaceChildren(...freshFields(values));
    const empty = options.parentElement.querySelector(":scope > [data-empty]");
    if (empty) empty.hidden = options.childElementCount > 0;
    offerKeys();
  });

  function freshFields(values) {
    const template = document.querySelector(`template[data-options-of="${kind}:${shown}"]`);
    if (!template) return [];
    const holder = document.createElement("template");
    // Fields of the formset carry its prefix; a form by itself has none.
    holder.innerHTML = template.innerHTML.replaceAll(/(?<=["_])__prefix__-/g, prefix);
    for (const field of holder.content.querySelectorAll("[name]")) {
      const known = values.get(field.name);
      // What both take under the same name, such as a language, is kept; models and voices are the vendor's own.
      if (known && !/option_(model|voice)$/.test(field.name) && fits(field, known)) field.value = known;
    }
    hideEmptyFold(holder.content);
    return [...holder.content.childNodes];
  }

  function offerKeys() {
    const fact = facts[shown];
    const holder = key?.closest("[data-key-field]") ?? key?.closest(".field-line, .form-row, .field-provider_key");
    if (!key) return;
    for (const choice of key.options) {
      const fitting = !choice.dataset.provider || (choice.dataset.provider === shown && isOurs(choice));
      choice.hidden = choice.disabled = !fitting;
      if (!fitting && choice.selected) key.value = "";
    }
    const fitting = [...key.options].filter((choice) => choice.dataset.provider === shown && isOurs(choice));
    if (fact?.needsKey && !key.value && fitting.length === 1) key.value = fitting[0].value;
    if (holder) holder.hidden = !fact?.takesKey;
  }
  hideEmptyFold(options);
}

/** Whether a key belongs to the project that the form chooses; a saved form has one, and offers no other's keys. */
function isOurs(choice) {
  const project = document.querySelector("select#id_project");
  return !project || choice.dataset.project === project.value;
}

function valuesOf(box) {
  return new Map([...box.querySelectorAll("[name]")].map((field) => [field.name, field.value]));
}

/** A clone forgets what was chosen in a select and typed into a field: carry it over. */
function keepSelects(from, to) {
  const copies = to.querySelectorAll("[name]");
  [...from.querySelectorAll("[name]")].forEach((field, index) => {
    copies[index].value = field.value;
    copies[index].checked = field.checked;
  });
}

function fits(field, value) {
  return field.tagName !== "SELECT" || [...field.options].some((choice) => choice.value === value);
}

function hideEmptyFold(box) {
  for (const fold of box.querySelectorAll("[data-more]")) fold.hidden = !fold.querySelector("[data-option]");
}
