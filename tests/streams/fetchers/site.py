"""A real web server on this machine, well-behaved and not."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENDLESS = b"without end"


class Site(ThreadingHTTPServer):
    """Answers each path from `pages` (`/a?*`: with any query), and writes down what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, list[tuple[int, dict[str, str], bytes]]] = {}
        self.asked: list[dict[str, str]] = []
        self.paths: list[str] = []

    def url(self, path: str) -> str:
        return f"http://me:secret@127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    """The last answer of a path is given again and again."""

    server: Site

    def do_GET(self) -> None:
        self.server.asked.append(dict(self.headers))
        self.server.paths.append(self.path)
        any_query = f"{self.path.partition('?')[0]}?*"
        pages = self.server.pages
        answers = pages.get(self.path) or pages.get(any_query) or [(404, {}, b"")]
        status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
        if headers.get("ETag") and headers["ETag"] == self.headers.get("If-None-Match"):
            status, body = 304, b""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body == ENDLESS:
            self.send_without_end()
        self.wfile.write(body)

    def send_without_end(self) -> None:
        """A byte now and then, until the client has gone away."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"x")
                time.sleep(0.01)

    def log_message(self, *_: Any) -> None:
        """Silence."""


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
