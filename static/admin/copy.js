// Buttons with data-copy put that text on the clipboard, and say so for two seconds.
const spoken = Object.assign(document.createElement("p"), { className: "sr-only" });
spoken.setAttribute("role", "status");
document.addEventListener("DOMContentLoaded", () => document.body.append(spoken));

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    // Browsers give the clipboard to secure pages only: mark the text, so that one key copies it.
    button.previousElementSibling?.select?.();
    return;
  }
  const words = button.textContent;
  button.textContent = spoken.textContent = "Copied";
  button.disabled = true; // a second press would take the new word for the old one
  setTimeout(() => {
    button.textContent = words;
    spoken.textContent = "";
    button.disabled = false;
  }, 2_000);
});
