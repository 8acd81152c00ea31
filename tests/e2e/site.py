"""A web site of somebody else, which shows a room in a frame."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """A web site of somebody else: whatever is asked for, it answers `html`.

    For browsers `localhost` and `127.0.0.1`, where molts runs, are different sites.
    """

    def __init__(self) -> None:
        self.html = ""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = site.html.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def show(self, body: str) -> None:
        self.html = f"<!doctype html><html lang=en><title>A shop</title><body><h1>A shop</h1>{body}</body></html>"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
