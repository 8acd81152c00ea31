/** Choosing an agent's avatar among pictures. Without this script the list of names does it. */

const select = document.querySelector("select[name=avatar]");
const faces = JSON.parse(document.getElementById("agent-faces")?.textContent ?? "null");
if (select && faces) setUp();

function setUp() {
  const gallery = document.createElement("div");
  gallery.className = "m-gallery m-picker";
  gallery.setAttribute("role", "radiogroup");
  gallery.setAttribute("aria-label", "Avatar");
  const choices = [...select.options].map((option) => choice(option.value, option.textContent.trim()));
  gallery.append(...choices);
  select.before(gallery); // so that the menu for the chosen one stays beside it
  select.hidden = true;
  for (const arrow of select.parentElement.querySelectorAll(":scope > .material-symbols-outlined")) arrow.hidden = true;
  show();
  document.addEventListener("molts:offered", show);
  select.addEventListener("change", () => {
    const known = choices.some((each) => each.dataset.value === select.value);
    const option = select.selectedOptions[0];
    // One that was just made in the window beside.
    if (!known && option) choices.push(gallery.appendChild(choice(option.value, option.textContent.trim())));
    show();
  });

  function choice(value, name) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "m-character";
    made.dataset.value = value;
    made.setAttribute("role", "radio");
    const face = faces[value];
    if (face?.clip) made.dataset.clip = face.clip;
    const label = document.createElement("span");
    label.textContent = name;
    made.append(face?.picture ? image(face.picture) : initial(value ? name : "–"), label);
    made.addEventListener("click", () => choose(value));
    made.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const shown = choices.filter((each) => !each.hidden);
      const next = shown[(shown.indexOf(made) + step + shown.length) % shown.length];
      choose(next.dataset.value);
      next.focus();
    });
    return made;
  }

  function choose(value) {
    select.value = value;
    select.dispatchEvent(new Event("change", { bubbles: true }));
  }

  function show() {
    const offered = new Map([...select.options].map((option) => [option.value, !option.disabled]));
    for (const each of choices) {
      each.hidden = !offered.get(each.dataset.value);
      const chosen = each.dataset.value === select.value;
      each.setAttribute("aria-checked", String(chosen));
      each.tabIndex = chosen ? 0 : -1;
    }
  }
}

function image(address) {
  const made = document.createElement("img");
  made.src = address;
  made.alt = "";
  made.width = made.height = 160;
  return made;
}

function initial(name) {
  const made = document.createElement("span");
  made.className = "m-initial";
  made.ariaHidden = "true";
  made.textContent = name.slice(0, 1).toUpperCase();
  return made;
}
