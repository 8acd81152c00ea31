/** Shows a chosen portrait before it is saved, and says at once when it cannot be one. */

const MAX_BYTES = 10_000_000;
const input = document.querySelector("input[type=file][name=portrait]");
input?.addEventListener("change", () => {
  const file = input.files[0];
  const preview = document.querySelector(".m-face-large");
  input.setCustomValidity("");
  if (!file || !preview) return;
  const image = document.createElement("img");
  image.className = "m-face m-face-large";
  image.alt = "The chosen portrait, not saved yet";
  image.src = URL.createObjectURL(file);
  image.addEventListener("error", () => refuse("This is no picture that can be used: choose a PNG, JPEG or WebP."));
  if (file.size > MAX_BYTES) refuse("The file is too large: at most 10 MB.");
  preview.replaceWith(image);

  function refuse(text) {
    input.setCustomValidity(text);
    input.reportValidity();
  }
});
