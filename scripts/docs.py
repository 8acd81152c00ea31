"""`make docs`: makes a site of docs/ in var/docs and shows it on this machine. `--build` only makes it.

Only what changed is made anew. A running molts serves the same folder at /docs/.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import shutil
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "docs"
SITE = ROOT / "var" / "docs"
DOCTREES = ROOT / "var" / "stamps" / "doctrees"
PORT = 8040


def build(*, site: Path = SITE, doctrees: Path = DOCTREES) -> int:
    """The exit status of Sphinx. Its warnings are errors: a link that leads nowhere is a mistake."""
    from sphinx.cmd.build import build_main

    site.mkdir(parents=True, exist_ok=True)
    quiet_but_strict = ["--quiet", "--fail-on-warning", "--builder", "html", "--doctree-dir", str(doctrees)]
    return build_main([*quiet_but_strict, str(SOURCE), str(site)])


class SiteHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal keeps the one line that matters, the address."""


def serve(site: Path, port: int) -> None:
    handler = functools.partial(SiteHandler, directory=str(site))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError:  # taken: any other will do
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    print(f"docs: http://127.0.0.1:{server.server_port}/  (Ctrl-C ends it)", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build", action="store_true", help="only make the site, in var/docs")
    parser.add_argument("--port", type=int, default=PORT, help=f"where to show it ({PORT}; another one when taken)")
    options = parser.parse_args()
    if status := build():
        shutil.rmtree(DOCTREES, ignore_errors=True)  # else the next run would take the faulty pages for done
        return status
    if not options.build:
        serve(SITE, options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
