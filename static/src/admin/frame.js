// Small helps of every admin page. Each works on what the page declares in data attributes.
document.addEventListener("change", (event) => {
  const field = event.target;
  if (field instanceof HTMLElement && field.matches("[data-submit-on-change]")) field.closest("form")?.requestSubmit();
});

// Boxes for text grow with what stands in them; where style sheets cannot say so, this does.
function fit(box) {
  box.style.blockSize = "auto";
  box.style.blockSize = `${box.scrollHeight + 2}px`;
}

if (!CSS.supports("field-sizing", "content")) {
  document.addEventListener("input", ({ target }) => target instanceof HTMLTextAreaElement && fit(target));
  document.addEventListener("focusin", ({ target }) => target instanceof HTMLTextAreaElement && fit(target));
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("textarea").forEach(fit));
}

document.addEventListener("DOMContentLoaded", () => {
  for (const cell of document.querySelectorAll("[data-label]"))
    cell.dataset.label = cell.dataset.label.charAt(0).toUpperCase() + cell.dataset.label.slice(1);
});
