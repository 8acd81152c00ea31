/** What the server wrote into the page, and where the visitor's requests go. */

/** `resume`: this browser is in a conversation already. `invited`: a program has made one for whoever enters first. */
export type LinkState = "open" | "expired" | "revoked" | "full" | "resume" | "invited";

export interface Boot {
  link: string;
  state: LinkState;
  agent: { name: string; description: string; language: string; portrait_url: string | null; greeting: string };
  project: string;
  max_seconds: number | null;
  start_url: string;
  session: { id: string; ws_path: string } | null;
  offline_recogniser: boolean;
  /** `host:port` of those that the operator wants asked; mostly none. */
  stun_servers: string[];
}

export function readBoot(document: Document): Boot {
  const text = document.getElementById("boot")?.textContent;
  if (!text) throw new Error("The page carries no #boot data.");
  return JSON.parse(text) as Boot;
}

/** The form's hidden field, so that the page also works where the CSRF cookie is HttpOnly. */
export function readCsrfToken(document: Document): string {
  return document.querySelector<HTMLInputElement>("input[name=csrfmiddlewaretoken]")?.value ?? "";
}

/** In a frame on somebody's page only the room itself may be shown: other pages of ours open in a tab of their own. What
 * needs the frame's own cookies there goes: the menu of languages, and the conversation's page. The brand is no link. */
export function settleInFrame(window: Window, document: Document): void {
  if (window.top === window) return;
  document.body.classList.add("framed");
  document.querySelector(".brand")?.removeAttribute("href");
  for (const link of document.querySelectorAll<HTMLAnchorElement>("a:not([download])")) {
    link.target = "_blank";
    link.rel = "noopener";
  }
}
