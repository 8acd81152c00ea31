// Shows a conversation on another site's page. The tag in the page says which, and where:
//
//   <script src="https://talks.example.org/embed.js" data-link="..." async></script>
//
//   data-link      public id of the room link (needed)
//   data-target    CSS selector of the element to show it in; without one a button floats in the corner
//   data-label     words on the button; "Talk to us" without any
//   data-position  corner of the floating button: right (default) or left
(() => {
  const script =
    document.currentScript ?? document.querySelector('script[src*="/embed.js"][data-link]:not([data-ready])');
  if (!script || script.dataset.ready) return;
  script.dataset.ready = "yes";
  const { link = "", target = "", label = "", position = "right" } = script.dataset;
  const room = new URL(`r/${encodeURIComponent(link)}`, script.src).href;
  const DEADLINE_MS = 10_000;

  const STYLE = `
    :host { all: initial; display: block; font: 16px/1.4 system-ui, sans-serif; color-scheme: light dark; }
    * { box-sizing: border-box; }
    button { font: inherit; font-weight: 600; cursor: pointer; border: 0; }
    button:focus-visible { outline: 3px solid #2b6cff; outline-offset: 3px; }
    .launch { display: inline-flex; align-items: center; gap: .6em; min-height: 3.25em; padding: .6em 1.3em;
      border-radius: 2em; background: #1f1c18; color: #fff; box-shadow: 0 4px 18px rgb(0 0 0 / .28); }
    .launch svg { width: 1.3em; height: 1.3em; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; }
    .launch[aria-busy="true"] { opacity: .7; cursor: progress; }
    .panel { display: flex; flex-direction: column; overflow: hidden; background: #fff; color: #1f1c18;
      border: 1px solid rgb(0 0 0 / .18); border-radius: 1em; }
    .bar { display: flex; align-items: center; justify-content: space-between; gap: 1em; padding: .35em .35em .35em 1em; }
    .bar strong { font-size: .9em; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
    .close { flex: none; width: 2.75em; height: 2.75em; border-radius: 50%; background: none; color: inherit; font-size: 1em; }
    .close:hover { background: rgb(127 127 127 / .18); }
    iframe { flex: 1; width: 100%; min-height: 0; border: 0; }
    .problem { margin: 0; padding: .9em 1.1em; border-radius: .8em; background: #fff4e5; color: #5a3200;
      border: 1px solid #d9902f; max-width: min(26em, calc(100vw - 2.5em)); }
    .floating { position: fixed; bottom: 1.25em; z-index: 2147483000; display: flex; flex-direction: column; gap: .8em; }
    .floating.right { right: 1.25em; align-items: flex-end; }
    .floating.left { left: 1.25em; align-items: flex-start; }
    .floating .panel { width: min(25rem, calc(100vw - 2.5em)); height: min(42rem, calc(100vh - 2.5em));
      height: min(42rem, calc(100dvh - 2.5em)); /* a phone's browser shows less than 100vh */
      box-shadow: 0 10px 40px rgb(0 0 0 / .35); }
    .inline { display: grid; height: 100%; min-height: 100%; }
    .inline .panel { min-height: 36rem; }
    .inline .launch, .inline .problem { place-self: center; }
    [hidden] { display: none !important; }
    @media (prefers-color-scheme: dark) { .panel { background: #1c1a17; color: #f4efe6; border-color: rgb(255 255 255 / .22); }
      .launch { background: #f4efe6; color: #1c1a17; } .problem { background: #33240f; color: #ffdcae; } }
  `;
  const MICROPHONE = "M12 3.5a3 3 0 0 1 3 3V12a3 3 0 0 1-6 0V6.5a3 3 0 0 1 3-3ZM5.5 11.5a6.5 6.5 0 0 0 13 0M12 18v2.5";

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  /** Element by element: a site may forbid markup that is made from text. */
  function makeIcon(path) {
    const [icon, line] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
    icon.setAttribute("viewBox", "0 0 24 24");
    icon.setAttribute("aria-hidden", "true");
    line.setAttribute("d", path);
    icon.append(line);
    return icon;
  }

  class Talk {
    constructor(place) {
      this.floats = place === null;
      this.host = make("div", { "data-molts": link });
      const shadow = this.host.attachShadow({ mode: "open" });
      const sheet = new CSSStyleSheet(); // also where a site's policy forbids <style>
      sheet.replaceSync(STYLE);
      shadow.adoptedStyleSheets = [sheet];
      this.box = make("div", { class: this.floats ? `floating ${position === "left" ? "left" : "right"}` : "inline" });
      this.button = make("button", { class: "launch", type: "button", "aria-expanded": "false" });
      this.words = make("span", {}, label || "Talk to us");
      this.button.append(makeIcon(MICROPHONE), this.words);
      this.problem = make("p", { class: "problem", role: "alert", hidden: "" });
      this.box.append(this.problem, this.button);
      shadow.append(this.box);
      this.panel = null;
      this.busy = false;
      this.button.addEventListener("click", () => this.open(true));
      this.host.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
      (place ?? document.body).append(this.host);
      if (!this.floats) this.open(false);
    }

    /** Ask first: a browser refuses a frame without a word that anybody could read. */
    async open(byHand) {
      if (this.panel || this.busy) return;
      this.busy = true;
      this.button.setAttribute("aria-busy", "true");
      try {
        this.show(await this.ask(), byHand);
      } catch (error) {
        this.problem.textContent = error.message;
        this.problem.hidden = false;
      } finally {
        this.busy = false;
        this.button.removeAttribute("aria-busy");
      }
    }

    async ask() {
      let response;
      try {
        response = await fetch(`${room}/embed`, { credentials: "omit", signal: AbortSignal.timeout(DEADLINE_MS) });
      } catch {
        throw new Error("The conversation cannot be reached right now. Please try again in a moment.");
      }
      const answer = await response.json().catch(() => ({}));
      if (!response.ok) throw new Error(answer.errors?.[0]?.detail ?? "The conversation cannot be shown right now.");
      return answer;
    }

    /** From now on the words are those of the browser's language. */
    show({ agent, language, rtl, words }, byHand) {
      const { title } = words;
      const spoken = { lang: language, dir: rtl ? "rtl" : "ltr" };
      if (!label) {
        this.words.textContent = words.label;
        Object.assign(this.button, spoken);
      }
      const close = make("button", { class: "close", type: "button", "aria-label": words.close }, "✕");
      const frame = make("iframe", {
        src: room,
        title,
        allow: "microphone; autoplay; speaker-selection",
        referrerpolicy: "origin",
      });
      const bar = make("div", { class: "bar" }, make("strong", { dir: "auto" }, agent), close);
      this.panel = make("section", { class: "panel", "aria-label": title, ...spoken }, bar, frame);
      close.addEventListener("click", () => this.close());
      this.problem.hidden = true;
      this.button.hidden = true;
      this.button.setAttribute("aria-expanded", "true");
      this.box.append(this.panel);
      if (byHand) frame.focus();
    }

    /** Without its frame the conversation is over: the microphone is off, and the other side notices in seconds. */
    close() {
      if (!this.panel) return;
      this.panel.remove();
      this.panel = null;
      this.button.hidden = false;
      this.button.setAttribute("aria-expanded", "false");
      this.button.focus();
    }
  }

  function begin() {
    let place = null;
    try {
      if (target) place = document.querySelector(target);
    } catch {
      return console.error(`embed.js: data-target ${target} is not a CSS selector.`);
    }
    if (target && !place) console.error(`embed.js: there is no element ${target} on this page.`);
    else new Talk(place);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin, { once: true });
  else begin();
})();
