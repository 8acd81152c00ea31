/** Faces that move while they are pointed at: what names its clip in `data-clip` plays it over its picture. */

const still = window.matchMedia("(prefers-reduced-motion: reduce)");

for (const name of ["pointerover", "focusin"]) document.addEventListener(name, (event) => begin(holder(event)));
for (const name of ["pointerout", "focusout"])
  document.addEventListener(name, (event) => {
    const left = holder(event);
    if (left && !left.contains(event.relatedTarget)) end(left);
  });

function holder(event) {
  return event.target instanceof Element ? event.target.closest("[data-clip]") : null;
}

function begin(face) {
  const picture = face?.querySelector("img, .m-initial");
  if (!picture || still.matches || face.querySelector("video")) return;
  const video = document.createElement("video");
  video.className = `${picture.className} m-moving`;
  Object.assign(video, { muted: true, loop: true, playsInline: true, src: face.dataset.clip });
  video.setAttribute("aria-hidden", "true");
  video.addEventListener("playing", () => video.classList.add("m-shown"), { once: true });
  picture.after(video);
  video.play().catch(() => video.remove());
}

function end(face) {
  face.querySelector("video.m-moving")?.remove();
}
