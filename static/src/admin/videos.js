/** Follows videos in the making, in the list and on a video's own page, until they are over. */

const EVERY_MS = 1_000;
const SLOWLY_MS = 5_000;
const page = document.querySelector(".v-page[data-live]");
const MOST = 100; // the server answers for no more at once
const rows = page ? [page] : [...document.querySelectorAll(".v-progress[data-video]")].slice(0, MOST);
if (rows.length) follow(page ? page.dataset.follow : "progress/");

async function follow(address) {
  const query = new URLSearchParams(rows.map((row) => ["video", row.dataset.video]));
  for (let wait = EVERY_MS; ; ) {
    await new Promise((done) => setTimeout(done, wait));
    if (document.hidden) continue;
    try {
      const response = await fetch(`${address}?${query}`, { signal: AbortSignal.timeout(10_000) });
      if (!response.ok) throw new Error(String(response.status));
      const videos = await response.json();
      if (rows.some((row) => !["queued", "running"].includes(videos[row.dataset.video]?.state))) {
        location.reload(); // what is there now is drawn by the server
        return;
      }
      for (const row of rows) show(row, videos[row.dataset.video]);
      wait = EVERY_MS;
    } catch {
      wait = SLOWLY_MS; // the server is away, or the session is over
    }
  }
}

function show(row, { state, text, progress, left }) {
  row.querySelector("progress").value = progress;
  row.querySelector("[data-left]").textContent = left;
  const now = row.querySelector("[data-text]");
  if (now) now.textContent = text;
  const chip = document.querySelector(".v-page .chip") ?? row.querySelector(".chip");
  if (chip && state === "running") {
    chip.textContent = "Running";
    chip.className = "chip chip-busy";
  }
}
