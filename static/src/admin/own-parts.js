/** A form that still chooses its project offers the voices, faces and agents of that project alone. */

const project = document.querySelector("select#id_project");
if (project) {
  offer();
  project.addEventListener("change", offer);
}

function offer() {
  // Keys follow their provider as well: agents-rungs.js and avatars.js see to them.
  for (const choice of document.querySelectorAll("option[data-project]:not([data-provider])")) {
    const own = choice.dataset.project === project.value;
    choice.hidden = choice.disabled = !own;
    if (own || !choice.selected) continue;
    const select = choice.closest("select");
    select.value = "";
    select.dispatchEvent(new Event("change", { bubbles: true }));
  }
  document.dispatchEvent(new Event("molts:offered"));
}
