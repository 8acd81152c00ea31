/** What a server offers, as suggestions of the fields for model and voice. Anything else can be typed all the same. */

const address = document.querySelector("[data-offers-url]")?.dataset.offersUrl;
const asked = new Map(); // by what was asked, so that a page asks once

/** `scope` holds the choice of provider and key, `options` the fields. They may be swapped for others at any time. */
export function setUpOffers(scope, options, kind) {
  if (!address) return;
  options.addEventListener("focusin", async ({ target: field }) => {
    const name = /option_(model|voice)$/.exec(field.name ?? "")?.[1];
    if (!name || field.tagName !== "INPUT") return;
    const provider = scope.querySelector("[data-provider-select]").value;
    const key = scope.querySelector("[data-key-select]")?.value ?? "";
    const offers = await ask(new URLSearchParams({ provider, kind, provider_key: key }).toString());
    suggest(field, offers[name] ?? []);
  });
}

function ask(query) {
  if (!asked.has(query)) {
    const answer = fetchOffers(query).catch(() => {
      asked.delete(query); // the next look at the field asks again
      return {};
    });
    asked.set(query, answer);
  }
  return asked.get(query);
}

async function fetchOffers(query) {
  const response = await fetch(`${address}?${query}`, { signal: AbortSignal.timeout(8_000) });
  if (!response.ok) throw new Error(response.statusText);
  return (await response.json()).offers;
}

function suggest(field, names) {
  const id = `${field.id}-offers`;
  const list = Object.assign(document.createElement("datalist"), { id });
  list.append(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
  field.parentElement.querySelector("datalist")?.remove();
  field.after(list);
  field.setAttribute("list", id);
}
