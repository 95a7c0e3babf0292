"""A real index behind a password: uv and pip, netrc and build_env_file, and the secret is nowhere to be seen."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from bb_release.tools import uv
from example_site import Site
from small_shop import everything_kept, small_shop
from watching import watched_processes

BOTH = pytest.mark.parametrize("installer", ["uv", "pip"])
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


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    server = Index(write_wheel(tmp_path))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def shop(cache: Path) -> Iterator[Site]:
    with small_shop(cache) as made:
        yield made


def write_private(site: Site, name: str, text: str) -> Path:
    path = site.folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


def configure(site: Site, index: Index, *, installer: str, way: str, password: str = PASSWORD) -> None:
    site.settings["installer"] = f'"{installer}"'
    site.settings["build_env_file"] = f'"{site.folder}/build.env"'
    if way == "netrc":
        site.settings["index_url"] = f'"http://{index.address}"'
        netrc = write_private(site, "netrc", f"machine 127.0.0.1\nlogin {USER}\npassword {password}\n")
        text = f"NETRC={netrc}\n"
    elif way == "build_env_file":
        text = f"PIP_INDEX_URL=http://{USER}:{quote(password, safe='')}@{index.address}\n"
    else:
        text = f"UV_INDEX_HOUSE_USERNAME={USER}\nUV_INDEX_HOUSE_PASSWORD={password}\n"
    write_private(site, "build.env", text)
    site.write_config()
    site.own()


@BOTH
@pytest.mark.parametrize("way", ["netrc", "build_env_file"])
def test_a_private_index_is_reached_and_its_password_is_nowhere(
    shop: Site, index: Index, installer: str, way: str
) -> None:
    shop.edit("requirements.txt", "django>=5.2,<5.3\nhouse-thing==1.0\n")
    configure(shop, index, installer=installer, way=way)
    with watched_processes() as commands:
        done = shop.deploy()

    assert 0 == done.returncode, done.stdout + done.stderr
    assert (shop.root / "current/venv").is_dir()
    assert '"house-thing": "1.0"' in (shop.root / "current/release.json").read_text()
    assert index.name in index.served
    assert any(f"{installer} install" in line or f"{installer} pip install" in line for line in commands)
    kept = "\n".join([done.stdout, done.stderr, everything_kept(shop), *commands])
    assert [] == [secret for secret in SECRETS if secret in kept]


@BOTH
@pytest.mark.parametrize("way", ["netrc", "build_env_file"])
def test_a_wrong_password_is_a_clear_error_without_the_password(
    shop: Site, index: Index, installer: str, way: str
) -> None:
    shop.edit("requirements.txt", "django>=5.2,<5.3\nhouse-thing==1.0\n")
    wrong = "not-the/password@all"
    configure(shop, index, installer=installer, way=way, password=wrong)
    with watched_processes() as commands:
        done = shop.deploy()

    assert 1 == done.returncode
    assert "error: requirements-not-installed" in done.stderr
    assert "an index refused the user or password" in done.stderr
    assert "correct them in netrc or build_env_file" in done.stderr
    assert [] == index.served
    kept = "\n".join([done.stdout, done.stderr, everything_kept(shop), *commands])
    assert [] == [secret for secret in (wrong, quote(wrong, safe="")) if secret in kept]


@BOTH
def test_an_index_that_a_lock_names_is_asked_with_the_credentials_of_its_name(
    shop: Site, index: Index, installer: str
) -> None:
    (shop.repository / "pyproject.toml").write_text(
        '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.10"\n'
        'dependencies = ["django>=5.2,<5.3", "house-thing"]\n'
        f'[[tool.uv.index]]\nname = "house"\nurl = "http://{index.address}"\nexplicit = true\n'
        '[tool.uv.sources]\nhouse-thing = { index = "house" }\n'
    )
    env = {"UV_INDEX_HOUSE_USERNAME": USER, "UV_INDEX_HOUSE_PASSWORD": PASSWORD, "UV_CACHE_DIR": str(shop.folder / "u")}
    subprocess.run([uv.program(), "lock", "-q"], cwd=shop.repository, env={**os.environ, **env}, check=True)
    shop.commit("a lock with an index of the house")
    configure(shop, index, installer=installer, way="names")
    with watched_processes() as commands:
        done = shop.deploy()

    assert 0 == done.returncode, done.stdout + done.stderr
    pins = (shop.root / "current/requirements/requirements.txt").read_text()
    assert f"house-thing==1.0 \\\n    --hash=sha256:{hashlib.sha256(index.wheel).hexdigest()}\n" in pins
    assert '"house-thing": "1.0"' in (shop.root / "current/release.json").read_text()
    kept = "\n".join([done.stdout, done.stderr, everything_kept(shop), *commands])
    assert [] == [secret for secret in SECRETS if secret in kept]
