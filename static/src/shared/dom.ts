/** The page's elements by name. One that is missing is a mistake in the template, and says so at once. */

export function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no #${id}.`);
  return found as T;
}

/** Writes only what differs: nothing is drawn, selected or announced anew without need. */
export function setText(target: HTMLElement, text: string): void {
  if (target.textContent !== text) target.textContent = text;
}

export function show(id: string, visible: boolean): void {
  element(id).hidden = !visible;
}
