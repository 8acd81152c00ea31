// Buttons with data-copy put that text on the clipboard.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    // Browsers give the clipboard to secure pages only: mark the text, so that one key copies it.
    button.previousElementSibling?.select();
  }
});
