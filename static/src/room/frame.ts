/** What the page around this one, or a header, keeps from it: named, so that whoever made that page can mend it. */

export interface Surroundings {
  framed: boolean;
  /** Permissions of a sandbox without which nothing here works. */
  missing: readonly string[];
}

/** Who keeps the microphone from this page before the visitor is even asked. */
export type MicrophoneKeeper = "frame" | "header";

interface Policy {
  allowsFeature(feature: string): boolean;
}

type PolicedDocument = Document & { permissionsPolicy?: Policy; featurePolicy?: Policy };

export function lookAround(window: Window, document: Document): Surroundings {
  const missing: string[] = [];
  // Without its own origin a page has no cookies, and no request of its reaches the server.
  if (window.origin === "null") missing.push("allow-same-origin");
  if (!formsWork(document)) missing.push("allow-forms");
  return { framed: window.top !== window, missing };
}

/** A sandbox without `allow-forms` drops a form's event as if nobody had pressed the button. */
function formsWork(document: Document): boolean {
  const form = document.createElement("form");
  let works = false;
  form.hidden = true;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    works = true;
  });
  document.body.append(form);
  form.requestSubmit();
  form.remove();
  return works;
}

/** Null: nobody, or this browser does not tell. */
export function microphoneKeeper(window: Window, document: PolicedDocument): MicrophoneKeeper | null {
  const policy = document.permissionsPolicy ?? document.featurePolicy;
  if (!policy || policy.allowsFeature("microphone")) return null;
  return window.top === window ? "header" : "frame";
}
