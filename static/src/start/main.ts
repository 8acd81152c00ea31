/** The start page's faces move while the visitor lets them (WCAG 2.2.2), and not for whoever wants less motion. */

const KEY = "molts.motion";
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
const button = document.querySelector<HTMLButtonElement>("#motion");
const faces = document.querySelectorAll<HTMLVideoElement>(".picture video");
let paused = read();

function show(): void {
  if (button) {
    button.hidden = still.matches;
    button.dataset.paused = String(paused);
  }
  for (const face of faces) {
    if (paused || still.matches) face.pause();
    else void face.play().catch(() => {}); // a browser that saves power shows them still
  }
}

/** Storage may be switched off: then the choice holds for this page. */
function read(): boolean {
  try {
    return localStorage.getItem(KEY) === "paused";
  } catch {
    return false;
  }
}

function keep(): void {
  try {
    localStorage.setItem(KEY, paused ? "paused" : "moving");
  } catch {}
}

button?.addEventListener("click", () => {
  paused = !paused;
  keep();
  show();
});
still.addEventListener("change", show);
show();
