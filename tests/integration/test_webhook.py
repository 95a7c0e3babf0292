"""The webhook, against a real server on this host."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bb_release.tools import webhook


class Listener(HTTPServer):
    """Keeps what it was told, and answers with `status`."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, object]]] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append((self.path, json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_told_arrives_as_json_at_the_whole_address(listener: Listener) -> None:
    url = f"http://127.0.0.1:{listener.server_port}/hooks/abc?room=7"
    webhook.post(url, {"text": "live", "exit_code": 0}, timeout_seconds=5)
    assert [("/hooks/abc?room=7", {"text": "live", "exit_code": 0})] == listener.told


@pytest.mark.parametrize("status", [302, 404, 500])
def test_an_answer_that_is_no_success_is_said_and_no_redirect_is_followed(listener: Listener, status: int) -> None:
    listener.status = status
    with pytest.raises(webhook.NotTold, match=f"answered {status}"):
        webhook.post(f"http://127.0.0.1:{listener.server_port}/secret-path", {}, timeout_seconds=5)
    assert 1 == len(listener.told)


@pytest.mark.parametrize(
    "url",
    ["http://example.org/secret-path", "ftp://127.0.0.1/secret-path", "secret-path", "https://[/secret-path",
     "http://127.0.0.1:99999/secret-path", "https:///secret-path", "http://127.0.0.1:1/secret-path",
     "http://127.0.0.1:1/secret-path\r\nX: y", "http://127.0.0.1:1/secret-path ü"],
)  # fmt: skip
def test_what_cannot_be_told_is_one_clear_sentence_without_the_address(url: str) -> None:
    with pytest.raises(webhook.NotTold) as caught:
        webhook.post(url, {}, timeout_seconds=5)
    assert "webhook" in str(caught.value)
    assert "secret-path" not in str(caught.value)


def test_a_listener_that_answers_byte_by_byte_is_not_waited_for() -> None:
    ended = threading.Event()

    def drip(server: socket.socket) -> None:
        line, _ = server.accept()
        with line, suppress(OSError):
            while not ended.wait(0.1):
                line.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        began = time.monotonic()
        with pytest.raises(webhook.NotTold, match="could not be reached"):
            webhook.post(f"http://127.0.0.1:{server.getsockname()[1]}/x", {}, timeout_seconds=0.5)
        took = time.monotonic() - began
        ended.set()
        thread.join()
    assert took < 20
