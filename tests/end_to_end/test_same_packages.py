"""Requirements that leave something open: what they came down to stays until they change, or somebody asks for newer."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from example_site import Site
from serving import serving
from small_shop import small_shop


@pytest.fixture
def shop(cache: Path) -> Iterator[Site]:
    with small_shop(cache) as made:
        yield made


class Index(HTTPServer):
    """A package index with one package; keeps what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder / "simple/bb-open-lib", list[str]()
        self.folder.mkdir(parents=True)
        index = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                super().do_GET()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), lambda *given: Handler(*given, directory=str(folder)))

    @property
    def line(self) -> str:
        return f"--extra-index-url http://127.0.0.1:{self.server_port}/simple\n"

    def publish(self, version: str) -> None:
        info = f"bb_open_lib-{version}.dist-info"
        files = {
            "bb_open_lib.py": "",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: bb-open-lib\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
        with zipfile.ZipFile(self.folder / f"bb_open_lib-{version}-py3-none-any.whl", "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    server = Index(tmp_path)
    with serving(server):
        yield server


def version(shop: Site) -> str:
    return str(json.loads((shop.root / "current/release.json").read_text())["packages"]["bb-open-lib"])


def test_changed_code_brings_no_other_package_and_asks_no_index_until_somebody_wants_newer_ones(
    shop: Site, index: Index
) -> None:  # fmt: skip
    wanted = f"{index.line}django==5.2.19\nbb-open-lib>=1\n"
    index.publish("1.0")
    shop.edit("requirements.txt", wanted)
    shop.ok("deploy")
    first = shop.current()
    assert "1.0" == version(shop)

    index.publish("1.1")
    index.asked.clear()
    shop.edit("shop/urls.py", "urlpatterns = []  # changed\n")
    shop.ok("deploy")
    assert ("1.0", []) == (version(shop), index.asked)
    assert f"the packages of release {first}: the requirements are the same" in shop.ok("log", shop.current())
    kept = [(shop.root / "releases" / one / "requirements/requirements.txt") for one in (first, shop.current())]
    assert kept[0].read_text() == kept[1].read_text()

    shop.ok("deploy", "--force")
    assert "1.1" == version(shop)

    index.publish("1.2")
    shop.edit("shop/urls.py", "urlpatterns = []  # changed again\n")
    (shop.root / "current/requirements/requirements.txt").write_text("django==5.2.19\n")  # not what was resolved
    shop.ok("deploy")
    assert "1.2" == version(shop)

    index.publish("1.3")
    shop.edit("requirements.txt", f"{wanted}# another text\n")
    shop.ok("deploy")
    assert "1.3" == version(shop)
