"""The package index on loopback, with the cache headers of the public one: no network time is in any number."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """Files below one folder, with ETag and 304."""

    protocol_version = "HTTP/1.1"  # connections are kept, as installers expect
    disable_nagle_algorithm = True
    wbufsize = -1
    folder = Path()
    tags: dict[Path, str]

    def do_GET(self) -> None:
        path = self.folder / self.path.split("?")[0].split("#")[0].strip("/")
        if path.is_dir():
            path /= "index.html"
        if ".." in path.parts or not path.is_file():
            self.answer(404, b"", {})
            return
        data = path.read_bytes()
        tag = self.tags.setdefault(path, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
        page = path.suffix == ".html"
        headers = {
            "ETag": tag,
            "Content-Type": "text/html" if page else "application/octet-stream",
            "Cache-Control": "max-age=600, public" if page else "max-age=365000000, immutable, public",
        }
        if self.headers.get("If-None-Match") == tag:
            self.answer(304, b"", headers)
        else:
            self.answer(200, data, headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True  # a kept connection does not keep the program
    request_queue_size = 128


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the index; gives the address of its pages."""
    handler = type("IndexHandler", (Handler,), {"folder": folder, "tags": {}})
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/simple/"
        finally:
            server.shutdown()
            thread.join()
