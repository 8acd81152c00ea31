"""How Sphinx makes a site of these Markdown files: `make docs`. Nothing in it is fetched from elsewhere.

The files stay readable on a Git host, so what only a site needs (the table of contents, llms.txt) is added here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent

# Every page, in reading order, under the heading it has in the sidebar.
PAGES = {
    "Begin": ("quickstart", "phone", "admin"),
    "Use": ("providers", "avatars", "engines", "videos", "embedding", "speech", "rest", "webhooks"),
    "Run": ("environment", "operating", "troubleshooting"),
    "Inside": ("architecture",),
}

project = "molts"
author = "the molts authors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_templates", "_static", "images"]
templates_path = ["_templates"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # index.md begins where the sidebar ends

html_theme = "furo"
html_title = "molts"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["tabs.js"]
html_favicon = "../static/src/room/icon.svg"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = True
html_show_sourcelink = False
html_domain_indices = False
html_use_index = False
# Colours of code in both schemes, set in site.css as well: the page's policy forbids styles inside it.
pygments_style = "a11y-light"
pygments_dark_style = "a11y-dark"


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """The sidebar, from PAGES: index.md itself holds plain links."""
    if name == "index":
        for caption, pages in PAGES.items():
            lines = "\n".join(pages)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n"


def write_llms_txt(app: Sphinx, exception: Exception | None) -> None:
    """llms.txt (https://llmstxt.org): what a program that reads text needs to find the right page."""
    if exception is not None or app.builder.format != "html":
        return
    lines = ["# molts", "", f"> {_first_paragraph('index')}"]
    for caption, pages in PAGES.items():
        lines += ["", f"## {caption}", ""]
        for page in pages:
            title = app.env.titles[page].astext()
            lines.append(f"- [{title}](/docs/_sources/{page}.md.txt): {_first_paragraph(page)}")
    Path(app.outdir, "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _first_paragraph(page: str) -> str:
    """The first words below the title, on one line and without markup."""
    text = (HERE / f"{page}.md").read_text(encoding="utf-8")
    paragraph = text.split("\n\n")[1]
    return " ".join(re.sub(r"\[([^]]+)\]\([^)]+\)|[*`]", r"\1", paragraph).split())


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_contents)
    app.connect("build-finished", write_llms_txt)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
