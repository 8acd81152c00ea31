"""A receiver of webhooks on loopback that does what a test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: str


@dataclass
class Receiver:
    """`answers` says with which status the next requests are answered; the last one is for all that follow."""

    url: str = ""
    answers: list[int] = field(default_factory=lambda: [200])
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"thank you"
    megabytes: int = 0
    hangs: bool = False
    received: list[Received] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    leave: threading.Event = field(default_factory=threading.Event)
    while_answering: Callable[[], None] = lambda: None

    def next_status(self) -> int:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def receiving(**behaviour: object) -> Iterator[Receiver]:
    receiver = Receiver(**behaviour)  # type: ignore[arg-type]
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            got = Received(self.path, {name.lower(): text for name, text in self.headers.items()}, body)
            with lock:
                receiver.received.append(got)
                status = receiver.next_status()
            receiver.arrived.release()
            if receiver.hangs:
                receiver.leave.wait()
                return
            receiver.while_answering()
            with suppress(OSError):  # whoever asked need not read all of it
                self._answer(status)

        def do_GET(self) -> None:
            raise AssertionError("a redirect was followed")

        def _answer(self, status: int) -> None:
            size = receiver.megabytes * 1_000_000 or len(receiver.body)
            self.send_response(status)
            for name, text in {"content-length": str(size), **receiver.headers}.items():
                self.send_header(name, text)
            self.end_headers()
            if not receiver.megabytes:
                self.wfile.write(receiver.body)
            for _ in range(receiver.megabytes):
                self.wfile.write(b"x" * 1_000_000)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.leave.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
