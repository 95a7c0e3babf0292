"""A web address that keeps what it is told, as a chat room behind a webhook does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from serving import serving


class ChatRoom(HTTPServer):
    """What was posted to which path; a rude one repeats the path in its refusal."""

    rude = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Posted)
        self.told: list[tuple[str, str]] = []

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(text) for _, text in self.told]

    @contextmanager
    def open(self) -> Iterator[ChatRoom]:
        with serving(self):
            yield self


class _Posted(BaseHTTPRequestHandler):
    server: ChatRoom

    def do_POST(self) -> None:
        told = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.told.append((self.path, told))
        if self.server.rude:
            self.send_response(500, f"no room at {self.path}")
        else:
            self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return
