// Test connection: asks without leaving the page, and shows what each call gave. Without scripts the buttons post.
const WAIT_MS = 15_000;

document.addEventListener("click", (event) => {
  const button = event.target instanceof Element && event.target.closest("[data-test-url]");
  if (!button) return;
  event.preventDefault();
  if (button.getAttribute("aria-busy") !== "true") test(button);
});

async function test(button) {
  const results = document.querySelector("[data-results]");
  const label = button.textContent;
  button.setAttribute("aria-busy", "true");
  button.textContent = "Testing…";
  results.replaceChildren(line("wait", `Testing ${button.dataset.name ?? "the connection"}…`));
  try {
    show(results, await ask(button), button.dataset.name);
  } catch {
    results.replaceChildren(line("failed", "This server did not answer. Check that it runs, then test again."));
  }
  button.textContent = label;
  button.removeAttribute("aria-busy");
}

async function ask(button) {
  const body = new FormData("withForm" in button.dataset ? button.form : undefined);
  body.set("csrfmiddlewaretoken", button.form.elements.namedItem("csrfmiddlewaretoken").value);
  const answer = await fetch(button.dataset.testUrl, {
    method: "POST",
    body,
    headers: { Accept: "application/json" },
    signal: AbortSignal.timeout(WAIT_MS),
  });
  if (answer.headers.get("Content-Type")?.startsWith("application/json") && answer.ok) return answer.json();
  return { error: "You may not test this key, or you were signed out. Load the page again.", results: [] };
}

function show(results, outcome, name) {
  const lines = outcome.results.map(({ ok, label, verdict, text, latency_ms: ms }) =>
    line(ok ? "ok" : "failed", text, `${label} ${verdict}`, ok && ms !== null ? `${ms} ms` : ""),
  );
  if (outcome.error) lines.push(line("failed", outcome.error, "Not tested"));
  if (name) lines.unshift(Object.assign(document.createElement("h3"), { textContent: name }));
  results.replaceChildren(...lines);
}

function line(state, text, title = "", took = "") {
  const row = document.createElement("p");
  row.dataset.state = state;
  for (const [tag, words] of [
    ["strong", title],
    ["span", took],
    ["span", text],
  ]) {
    if (words) row.append(Object.assign(document.createElement(tag), { textContent: words }));
  }
  return row;
}
