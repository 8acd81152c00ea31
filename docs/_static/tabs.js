// The same example in several languages, one block after the other, becomes tabs. Without this script they stay a list.
const NAMES = { sh: "curl", python: "Python", ts: "TypeScript" };
const KEPT = "molts-docs-language";

function languageOf(block) {
  return Object.keys(NAMES).find((name) => block.classList?.contains(`highlight-${name}`));
}

function groups() {
  const found = [];
  const seen = new Set();
  for (const block of document.querySelectorAll("article div[class*='highlight-']")) {
    if (seen.has(block) || !languageOf(block)) continue;
    const group = [block];
    let next = block.nextElementSibling;
    while (next && languageOf(next) && !group.some((other) => languageOf(other) === languageOf(next))) {
      group.push(next);
      next = next.nextElementSibling;
    }
    for (const one of group) seen.add(one);
    if (group.length > 1) found.push(group);
  }
  return found;
}

function remembered() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

function choose(language) {
  for (const tab of document.querySelectorAll(".code-tabs [role=tab]")) {
    const list = tab.parentElement;
    const wanted = list.querySelector(`[data-language="${language}"]`);
    if (!wanted) continue;
    const chosen = tab === wanted;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
}

function keep(language) {
  choose(language);
  try {
    localStorage.setItem(KEPT, language);
  } catch {
    // private window: the choice holds for this page
  }
}

function makeTabs(group, number) {
  const list = document.createElement("div");
  list.className = "code-tabs";
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", "Language of the example");
  group.forEach((block, place) => {
    const language = languageOf(block);
    const tab = document.createElement("button");
    tab.type = "button";
    tab.textContent = NAMES[language];
    tab.dataset.language = language;
    tab.id = `tab-${number}-${place}`;
    tab.setAttribute("role", "tab");
    block.id ||= `panel-${number}-${place}`;
    tab.setAttribute("aria-controls", block.id);
    block.setAttribute("role", "tabpanel");
    block.setAttribute("aria-labelledby", tab.id);
    block.classList.add("in-tab");
    tab.addEventListener("click", () => {
      const before = list.getBoundingClientRect().top;
      keep(language);
      window.scrollBy(0, list.getBoundingClientRect().top - before); // examples above may have grown or shrunk
    });
    list.append(tab);
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const tabs = [...list.children];
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    keep(next.dataset.language);
    next.focus();
    event.preventDefault();
  });
  group[0].before(list);
}

groups().forEach(makeTabs);
// Two side columns: by their names a screen reader tells them apart.
document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "Contents");
document.querySelector(".toc-drawer")?.setAttribute("aria-label", "On this page");
choose("sh");
if (remembered()) choose(remembered());
// Code that is wider than the page scrolls: by keyboard too.
for (const box of document.querySelectorAll(".highlight pre, .table-wrapper")) {
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
}
// What was scrolled to has moved: the examples above it have folded.
if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
