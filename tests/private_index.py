"""A package index behind a password, with one package that no public index has."""

from __future__ import annotations

import base64
import hashlib
import http.server
import zipfile
from pathlib import Path
from urllib.parse import quote

USER, PASSWORD = "deploy-reader", "pass/word:that+nobody@sees"
SECRETS = (PASSWORD, quote(PASSWORD, safe=""), base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())


def write_wheel(folder: Path) -> Path:
    """A wheel of the package `house-thing`, which no public index has."""
    info = "house_thing-1.0.dist-info"
    inside = {
        "house_thing.py": "VALUE = 42\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: house-thing\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for name, text in inside.items()
    )
    path = folder / "house_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**inside, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(name, text)
    return path


class Index(http.server.ThreadingHTTPServer):
    """PEP 503 pages for one wheel; for other names the visitor is sent to PyPI."""

    daemon_threads = True

    def __init__(self, wheel: Path) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.wheel = wheel.read_bytes()
        self.name = wheel.name
        self.served: list[str] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}/simple/"


class Page(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name = self.path.strip("/").rpartition("/")[2]
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self.answer(401, b"", ("WWW-Authenticate", 'Basic realm="house"'))
        elif name == self.server.name:
            self.server.served.append(name)
            self.answer(200, self.server.wheel, ("Content-Type", "application/octet-stream"))
        elif name == "house-thing":
            digest = hashlib.sha256(self.server.wheel).hexdigest()
            page = f'<!DOCTYPE html><a href="/files/{self.server.name}#sha256={digest}">{self.server.name}</a>'
            self.answer(200, page.encode(), ("Content-Type", "text/html"))
        else:
            self.answer(302, b"", ("Location", f"https://pypi.org/simple/{name}/"))

    def answer(self, status: int, body: bytes, header: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header(*header)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""
