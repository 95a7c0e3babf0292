"""The health check against real servers on a port and on a unix socket."""

from __future__ import annotations

import os
import shutil
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bb_release.errors import ConfigurationInvalid, NotHealthy
from bb_release.tools.health import NoAnswer, ask, check_url, wait_healthy


class Site(BaseHTTPRequestHandler):
    asked: list[dict[str, str]]  # the headers of each request

    def do_GET(self) -> None:
        self.asked.append({name.lower(): value for name, value in self.headers.items()})
        if self.path == "/slow":
            time.sleep(2)
        status, body = 200, b"all is well in r-12"
        if self.path == "/broken" or (self.path == "/waking" and len(self.asked) < 3):
            status, body = 500, b"Traceback\nImportError: x\n" + b"more\n" * 50
        elif self.path == "/moved":
            status = 301
        elif self.path == "/host":
            status = 400
        elif self.path == "/big":
            body = b"x" * 200_000
        try:
            self.send_response(status)
            if status == 301:
                self.send_header("Location", "https://example.org/")
            self.send_header("X-Release", "r-12")
            self.end_headers()
            if self.path == "/drip":
                for _ in range(30):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.1)
            self.wfile.write(body)
        except OSError:
            return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        return


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        return super().get_request()[0], ("local", 0)


@pytest.fixture
def asked() -> list[dict[str, str]]:
    return []


@pytest.fixture
def url(asked: list[dict[str, str]]) -> Iterator[str]:
    handler = type("Handler", (Site,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def unix_url(asked: list[dict[str, str]]) -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="bb", dir="/tmp")  # a unix socket's path must be short
    handler = type("Handler", (Site,), {"asked": asked})
    with UnixServer(f"{folder}/x.sock", handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http+unix://{folder}/x.sock:"
        server.shutdown()
        thread.join()
    shutil.rmtree(folder)


Wait = Callable[..., str]


def wait(url: str, **more: Any) -> str:
    settings: dict[str, Any] = {
        "expect": 200,
        "headers": {},
        "body": "",
        "release_where": "",
        "release": "r-12",
        "timeout_seconds": 10.0,
        "interval_seconds": 0.05,
    }
    return wait_healthy(url, **{**settings, **more}).line


def test_healthy(url: str, asked: list[dict[str, str]]) -> None:
    line = wait(f"{url}/?a=1", headers={"Host": "example.org", "X-Forwarded-Proto": "https"}, body="is well")
    assert line.startswith("200 in ")
    assert line.endswith(" ms")
    assert asked[0]["host"] == "example.org"
    assert asked[0]["x-forwarded-proto"] == "https"


def test_unix_socket(unix_url: str) -> None:
    answer = ask(f"{unix_url}/health", headers={}, timeout_seconds=5)
    assert answer.status == 200
    assert answer.headers["x-release"] == "r-12"
    assert os.getpid() == answer.by  # the server is a thread of ours
    assert wait(f"{unix_url}/health", release_where="header:X-Release").startswith("200")


def test_recovers(url: str, asked: list[dict[str, str]]) -> None:
    assert wait(f"{url}/waking", timeout_seconds=10).startswith("200")
    assert len(asked) == 3


def test_broken(url: str, asked: list[dict[str, str]]) -> None:
    with pytest.raises(NotHealthy) as raised:
        wait(f"{url}/broken", timeout_seconds=1.0)
    assert raised.value.message == f"the site answered 500 at {url}/broken (wanted 200)"
    assert raised.value.details.startswith("Traceback\nImportError: x")
    assert len(raised.value.details.splitlines()) == 10
    assert len(asked) > 1


def test_expected_status(url: str) -> None:
    assert wait(f"{url}/broken", expect=500).startswith("500")
    assert wait(f"{url}/moved", expect=301).startswith("301")


def test_redirect_is_not_followed(url: str) -> None:
    with pytest.raises(NotHealthy) as raised:
        wait(f"{url}/moved", timeout_seconds=1.0)
    assert "https://example.org/" in raised.value.message
    assert 'X-Forwarded-Proto = "https"' in raised.value.remedy


def test_disallowed_host(url: str) -> None:
    with pytest.raises(NotHealthy) as raised:
        wait(f"{url}/host", timeout_seconds=1.0)
    assert "ALLOWED_HOSTS" in raised.value.remedy


def test_body_missing(url: str) -> None:
    with pytest.raises(NotHealthy, match='without the text "all is lost"'):
        wait(url, body="all is lost", timeout_seconds=1.0)


@pytest.mark.parametrize("where", ["header:X-Release", "header:x-release", "body"])
def test_release(url: str, where: str) -> None:
    assert wait(url, release_where=where).startswith("200")
    for other in ("r-13", "r-1", "r-12-2"):  # also a name that begins like the one that answers
        with pytest.raises(NotHealthy, match=f"does not name the release {other}"):
            wait(url, release_where=where, release=other, timeout_seconds=1.0)


def test_release_header_missing(url: str) -> None:
    with pytest.raises(NotHealthy, match="X-None"):
        wait(url, release_where="header:X-None", timeout_seconds=1.0)


def test_refused() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: refused, and no one else gets the port
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        with pytest.raises(NotHealthy, match="refused"):
            wait(url, timeout_seconds=1.0)


def test_socket_missing(tmp_path: Path) -> None:
    with pytest.raises(NoAnswer, match="No such file"):
        ask("http+unix:///nowhere/x.sock:/", headers={}, timeout_seconds=1)


@pytest.mark.parametrize("path", ["/slow", "/drip"])
def test_slow(url: str, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(NotHealthy, match=r"no answer within 0\.[2-9]"):
        wait(url + path, timeout_seconds=0.5)
    assert time.monotonic() - began < 1.5


def test_not_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            line, _ = server.accept()
            line.sendall(b"SSH-2.0-x\r\n")
            line.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NoAnswer):
            ask(f"http://127.0.0.1:{server.getsockname()[1]}/", headers={}, timeout_seconds=2)
        thread.join()


def test_https_of_a_plain_server(url: str) -> None:
    with pytest.raises(NoAnswer):
        ask(url.replace("http:", "https:"), headers={}, timeout_seconds=2)


def test_big_body_is_cut(url: str) -> None:
    assert len(ask(f"{url}/big", headers={}, timeout_seconds=5).body) == 64 * 1024


def test_bad_header(url: str) -> None:
    with pytest.raises(NoAnswer):
        ask(url, headers={"X": "a\r\nb: c"}, timeout_seconds=1)


@pytest.mark.parametrize(
    "bad",
    ["", "example.org/", "ftp://example.org/", "http:///x", "http://h:99999/", "http://u:p@h/",
     "http://h/a b", "http+unix://run/x.sock:/", "file:///etc/passwd"],
)  # fmt: skip
def test_bad_addresses(bad: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        check_url(bad)


@pytest.mark.parametrize(
    "good", ["http://h", "https://h:8443/a?b=c", "http://[::1]:80/", "http+unix:///run/x.sock:/health"]
)
def test_good_addresses(good: str) -> None:
    check_url(good)
