/**
 * The face beside its editor: a clip of it as the form stands, made anew after every change, and the clip that is kept.
 *
 * The server makes one clip at a time for each person; asking again drops the one before.
 */

const PAUSE_MS = 700;
const ASK_MS = 400;
const LONGEST_MS = 330_000;

export function setUpStage(stage, form) {
  const video = stage.querySelector("[data-video]");
  const screen = stage.querySelector("[data-screen]");
  const progress = stage.querySelector("[data-progress]");
  const status = stage.querySelector("[data-stage-status]");
  const sound = stage.querySelector("[data-sound]");
  const again = stage.querySelector("[data-again]");
  const render = stage.querySelector("[data-render]");
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  const kept = stage.querySelector("[data-kept]");
  if (kept) kept.open = window.matchMedia("(min-width: 1280px)").matches; // elsewhere the form would begin far below
  let timer = 0;
  let wanted = 0;
  let fact = null;
  let address = "";

  // What is chosen here is no part of the avatar.
  for (const name of ["input", "change"]) stage.addEventListener(name, (event) => event.stopPropagation());
  again?.addEventListener("click", () => void make());
  render?.addEventListener("click", () => void make({ keep: true, aloud: true }));
  sound?.addEventListener("click", () => hear(video.muted));
  const text = stage.querySelector("[data-text]");
  if (text) {
    const count = stage.querySelector("[data-text-count]");
    text.addEventListener("input", () => countText(text, count));
    countText(text, count);
  }
  if (!("live" in stage.dataset)) playKept();

  return {
    /** The page is there: play what is kept of the face; where that is none or of an earlier face, its picture is shown
     * until a clip is made and kept. */
    begin(first) {
      fact = first;
      say();
      showChosen();
      playKept();
      const wanting = !("current" in video.dataset) && !still.matches && fact?.renders && fact.ready;
      if (wanting && form.dataset.avatar) void make({ keep: !form.querySelector(".m-error") });
      else if (wanting && !fact.needsPortrait) void make();
    },
    engine(next) {
      fact = next;
      this.refresh();
    },
    /** Something changed: look at it once the changes pause. */
    refresh() {
      window.clearTimeout(timer);
      wanted += 1;
      busy(null);
      say();
      showChosen();
      if (!fact?.renders) {
        showPicture();
        return;
      }
      if (fact.ready && !lacksPicture()) timer = window.setTimeout(() => void make(), PAUSE_MS);
    },
  };

  function say() {
    if (fact?.renders === false)
      tell(
        fact.hosted ? "The vendor renders this face: it is seen in conversations." : "This face stays still.",
        "m-help",
      );
    else if (fact && !fact.ready)
      tell(`${fact.label} is not ready on this server, so it cannot be shown here.`, "m-help");
    else if (lacksPicture()) tell("Choose a picture: it moves here as soon as it is there.", "m-help");
    else tell("", "m-help");
    if (again) again.disabled = !fact?.renders;
    if (render) render.disabled = !fact?.renders;
  }

  async function make({ keep = false, aloud = false } = {}) {
    window.clearTimeout(timer);
    wanted += 1;
    const mine = wanted;
    const body = new FormData(form);
    if (form.dataset.avatar) body.set("avatar", form.dataset.avatar);
    if (keep) body.set("keep", "1");
    // A vendor's voice may cost money: it speaks when asked to, not by itself.
    if (aloud) {
      body.set("text", text.value);
      body.set("agent", stage.querySelector("[data-agent]").value);
    }
    busy({ stage: "Starting", progress: 0 });
    tell("", "m-help");
    try {
      const { news } = await answer(
        await fetch(stage.dataset.url, { method: "POST", body, signal: AbortSignal.timeout(30_000) }),
      );
      const done = await follow(news, mine);
      if (!done) return;
      play(done.clip, { aloud });
      tell(aloud ? "Rendered and kept." : "", "m-help");
    } catch (error) {
      if (mine === wanted) tell(error.name === "TimeoutError" ? "No answer within 30 s." : error.message, "m-error");
    } finally {
      if (mine === wanted) busy(null);
    }
  }

  /** News of a clip until it is done; null when another one is wanted meanwhile. */
  async function follow(news, mine) {
    const until = performance.now() + LONGEST_MS;
    while (performance.now() < until) {
      if (mine !== wanted) return null;
      const state = await answer(await fetch(news, { signal: AbortSignal.timeout(10_000) }));
      if (mine !== wanted) return null;
      if (state.state === "done") return state;
      if (state.state === "failed") throw new Error(state.error);
      busy(state);
      await new Promise((resolve) => window.setTimeout(resolve, ASK_MS));
    }
    throw new Error("The preview took too long.");
  }

  function busy(state) {
    progress.hidden = !state;
    screen.toggleAttribute("aria-busy", Boolean(state));
    if (!state) return;
    const bar = progress.querySelector("progress");
    if (state.progress) bar.value = state.progress;
    else bar.removeAttribute("value");
    progress.querySelector("[data-progress-text]").textContent = state.stage;
  }

  function playKept() {
    if ("current" in video.dataset) play(video.dataset.stored);
  }

  function play(clip, { aloud = false } = {}) {
    address = clip;
    video.src = clip;
    video.loop = !aloud;
    video.controls = still.matches || aloud;
    hear(aloud);
    video.onloadeddata = () => {
      if (address !== clip) return;
      video.hidden = false;
      screen.classList.add("m-playing");
      if (sound) sound.hidden = false;
    };
    video.onerror = () => showPicture();
    if (!still.matches || aloud) video.play().catch(() => hear(false));
  }

  function hear(aloud) {
    video.muted = !aloud;
    if (!sound) return;
    sound.setAttribute("aria-pressed", String(aloud));
    sound.querySelector(".material-symbols-outlined").textContent = aloud ? "volume_up" : "volume_off";
    sound.querySelector("[data-sound-text]").textContent = aloud ? "Sound on" : "Sound off";
    if (aloud && video.paused && !video.hidden) void video.play().catch(() => {});
  }

  /** The chosen character or portrait at rest; what moved before it belongs to another one. */
  function showChosen() {
    const drawn = form.querySelector("[data-options] .m-character:has(:checked) img");
    const chosen = drawn ?? portrait();
    const face = screen.querySelector(".m-face");
    if (chosen ? face.src === chosen.src : face.matches(".m-initial")) return;
    const picture = document.createElement(chosen ? "img" : "span");
    picture.className = `m-face m-face-large${chosen ? "" : " m-initial"}`;
    if (chosen) Object.assign(picture, { alt: "", src: chosen.src });
    else picture.innerHTML = '<span class="material-symbols-outlined" aria-hidden="true">add_photo_alternate</span>';
    face.replaceWith(picture);
    showPicture();
  }

  function portrait() {
    return form.querySelector("[data-portrait-field]:not([hidden]) [data-picture]:not([hidden])");
  }

  function lacksPicture() {
    return Boolean(fact?.needsPortrait) && !portrait();
  }

  function showPicture() {
    address = "";
    video.pause();
    video.hidden = true;
    screen.classList.remove("m-playing");
    if (sound) sound.hidden = true;
  }

  function tell(text, style) {
    status.textContent = text;
    status.className = `m-stage-status ${style}`;
  }
}

/** How long the text is, as the server counts it. Nothing is cut: one that is too long is said to be. */
function countText(text, line) {
  const limit = Number(text.dataset.limit);
  const length = [...text.value.trim().replace(/\s+/g, " ")].length;
  const over = length - limit;
  line.textContent =
    over > 0
      ? `${length} of ${limit} characters: shorten it by ${over} before it is rendered.`
      : `${length} of ${limit} characters`;
  line.className = over > 0 ? "m-error" : "m-help";
  text.setAttribute("aria-invalid", String(over > 0));
}

export async function answer(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    throw new Error(response.status === 403 ? "You may not do this. Sign in again." : "The server did not answer.");
  }
  if (!response.ok) throw new Error(body.errors?.[0]?.detail ?? "The server did not answer.");
  return body;
}
