/** Push-to-talk by pointer and by key. However it ends (the window loses the focus, a call comes in), it ends. */

export interface HoldHooks {
  hold(held: boolean): void;
  /** For whoever cannot hold anything: a screen reader's or a switch's click has no length. */
  toggle(): void;
}

export function listenToHold(button: HTMLButtonElement, hooks: HoldHooks): void {
  const release = (): void => hooks.hold(false);
  const isKey = (event: KeyboardEvent): boolean => event.key === " " || event.key === "Enter";
  button.addEventListener("pointerdown", (event) => {
    button.setPointerCapture(event.pointerId);
    hooks.hold(true);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) button.addEventListener(end, release);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("keydown", (event) => {
    if (!isKey(event)) return;
    event.preventDefault();
    if (!event.repeat) hooks.hold(true);
  });
  button.addEventListener("keyup", (event) => isKey(event) && release());
  button.addEventListener("click", (event) => event.detail === 0 && hooks.toggle());
  // The space bar works wherever the focus is; it goes down in `main.ts`, where all keys are read.
  window.addEventListener("keyup", (event) => event.code === "Space" && release());
  window.addEventListener("blur", release);
  document.addEventListener("visibilitychange", () => document.hidden && release());
}
