/** Links to the parts of the page become tabs; the address names the open one, so that saving comes back to it. */
export function setUpTabs(list, form) {
  const tabs = [...list.querySelectorAll("[data-tab]")];
  const panels = new Map([...document.querySelectorAll("[data-panel]")].map((panel) => [panel.dataset.panel, panel]));
  list.setAttribute("role", "tablist");
  for (const tab of tabs) {
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", `panel-${tab.dataset.tab}`);
    panels.get(tab.dataset.tab).setAttribute("role", "tabpanel");
    tab.addEventListener("click", (event) => {
      event.preventDefault();
      open(tab.dataset.tab);
    });
  }
  list.addEventListener("keydown", (event) => {
    const last = tabs.length - 1;
    const at = tabs.indexOf(document.activeElement);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last }[event.key];
    if (next === undefined || at < 0) return;
    event.preventDefault();
    const tab = tabs[(next + tabs.length) % tabs.length];
    open(tab.dataset.tab);
    tab.focus();
  });
  window.addEventListener("hashchange", () => open(named()));
  const wrong = tabs.find((tab) => "errors" in tab.dataset);
  open(wrong ? wrong.dataset.tab : named(), !wrong);

  function named() {
    const name = window.location.hash.slice(1);
    return panels.has(name) ? name : tabs[0].dataset.tab;
  }

  function open(name) {
    for (const tab of tabs) {
      const isOpen = tab.dataset.tab === name;
      tab.setAttribute("aria-selected", String(isOpen));
      tab.tabIndex = isOpen ? 0 : -1;
      panels.get(tab.dataset.tab).hidden = !isOpen;
    }
    window.history.replaceState(null, "", `#${name}`);
    form.action = `${window.location.pathname}${window.location.search}#${name}`;
  }
}
