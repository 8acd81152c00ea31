/** Builds static/dist from the page's sources, with .gz and .br beside every file so that the web server sends those. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "..", "..", "dist");

rmSync(dist, { recursive: true, force: true });
const options = {
  outdir: dist,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "linked",
  logLevel: "warning",
};
await build({
  ...options,
  entryPoints: [
    { in: join(here, "main.ts"), out: "room" },
    { in: join(here, "room.css"), out: "room" },
    { in: join(here, "..", "check", "main.ts"), out: "check" },
    { in: join(here, "..", "check", "check.css"), out: "check" },
    { in: join(here, "..", "start", "main.ts"), out: "start" },
    { in: join(here, "..", "summary", "main.ts"), out: "summary" },
    { in: join(here, "..", "summary", "summary.css"), out: "summary" },
  ],
  chunkNames: "chunk-[hash]",
  splitting: true,
});
// By itself: what the admin's page has in common with the room page would be a file of its own, which visitors fetch.
await build({ ...options, entryPoints: [{ in: join(here, "..", "talk", "main.ts"), out: "talk" }] });
await build({
  ...options,
  stdin: { contents: switchedPalette(), loader: "css" },
  outdir: undefined,
  outfile: join(dist, "palette.css"),
});
for (const name of readdirSync(dist)) {
  const path = join(dist, name);
  const bytes = readFileSync(path);
  writeFileSync(`${path}.gz`, gzipSync(bytes, { level: 9 }));
  writeFileSync(`${path}.br`, brotliCompressSync(bytes));
}

/** The palette for the admin: dark where its own switch has put the class `dark` on the root, whatever the system says. */
function switchedPalette() {
  const bySystem = /@media \(prefers-color-scheme: dark\) \{\s*:root (\{[^}]*\})\s*\}/;
  const palette = readFileSync(join(here, "..", "shared", "palette.css"), "utf8");
  if (!bySystem.test(palette))
    throw new Error("palette.css has no dark colours, or not in the form that build.mjs knows.");
  return palette.replace(bySystem, ".dark $1");
}
