// Runs before anything is drawn, so that a page never flashes in the other scheme.
try {
  document.body.dataset.theme = localStorage.getItem("theme") || "auto";
} catch {
  document.body.dataset.theme = "auto";
}
