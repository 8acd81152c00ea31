/**
 * The page's words in the visitor's language.
 *
 * The English text is the key: the server writes the other language's texts into the page as `#catalog`, and what it
 * leaves out stays English. `t` takes a literal as its first argument, so that a tool finds every text in the sources.
 */

export type Catalog = Readonly<Record<string, string>>;

let catalog: Catalog | null = null;

/** `text` in the visitor's language, its `{names}` filled in. A name without a value stays as it is. */
export function t(text: string, values: Readonly<Record<string, string | number>> = {}): string {
  catalog ??= readCatalog();
  const words = (Object.hasOwn(catalog, text) && catalog[text]) || text;
  return words.replace(/\{(\w+)\}/g, (placeholder, name: string) => String(values[name] ?? placeholder));
}

export function useCatalog(entries: Catalog): void {
  catalog = entries;
}

function readCatalog(): Catalog {
  const text = typeof document === "undefined" ? null : document.getElementById("catalog")?.textContent;
  return text ? (JSON.parse(text) as Catalog) : {};
}
