/** The form that puts words into a running conversation, without leaving its page. */

import { element } from "../shared/dom.ts";

const DEADLINE_MS = 10_000;

export function takeWords(form: HTMLFormElement): void {
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void send(form);
  });
}

async function send(form: HTMLFormElement): Promise<void> {
  const problem = element("say-problem");
  const button = form.querySelector("button");
  if (button) button.disabled = true;
  problem.hidden = true;
  try {
    await post(form.action, new FormData(form));
    element<HTMLInputElement>("say-text").value = "";
  } catch (error) {
    problem.textContent = inWords(error);
    problem.hidden = false;
  } finally {
    if (button) button.disabled = false;
  }
}

async function post(address: string, fields: FormData): Promise<void> {
  const response = await fetch(address, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRFToken": String(fields.get("csrfmiddlewaretoken")) },
    body: JSON.stringify({ text: fields.get("text"), as: fields.get("as") }),
    signal: AbortSignal.timeout(DEADLINE_MS),
  });
  if (response.ok) return;
  const answer = (await response.json().catch(() => ({}))) as { errors?: { detail: string }[] };
  throw new Error(answer.errors?.[0]?.detail ?? "It was not taken. Please try again.");
}

function inWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.name === "TimeoutError" ? "No answer came in time. Please try again." : error.message;
}
