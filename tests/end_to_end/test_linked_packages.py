"""Deploys that share their packages: installed once, linked into each release, and gone when nobody has them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from example_site import TESTS, Site, unprivileged
from serving import serving
from small_shop import small_shop

PINS = "asgiref==3.13.0\ndjango==5.2.19\nsqlparse=={}\n"


@pytest.fixture
def shop(cache: Path) -> Iterator[Site]:
    with small_shop(cache) as made:
        yield made


def manifest(shop: Site) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shop.root / "current/release.json").read_text())
    return found


def sets(shop: Site) -> list[str]:
    folder = shop.root / "sets"
    return sorted(os.listdir(folder)) if folder.exists() else []


def packages(shop: Site, name: str = "") -> Path:
    """The site-packages of a release, of the live one by default."""
    return next((shop.root / "releases" / (name or shop.current())).glob("venv/lib/python3*/site-packages"))


def log(shop: Site) -> str:
    return shop.ok("log", shop.current())


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_what_is_locked_is_installed_once_and_then_linked_without_any_index(
    shop: Site, installer: str, tmp_path: Path
) -> None:
    shutil.copytree(TESTS / "locks/uv", shop.repository, dirs_exist_ok=True)
    cache = shop.folder / "cache"
    cache.mkdir(exist_ok=True)
    shop.write_config(installer=f'"{installer}"', cache=f'"{cache}"')
    shop.own()
    shop.commit("locked")
    shop.ok("deploy")
    first, facts = shop.current(), manifest(shop)
    assert [facts["package_set"]] == sets(shop)
    assert f"kept as the package set {facts['package_set']}" in log(shop)

    shutil.rmtree(cache)
    shop.write_config(index_url='"https://index.invalid/simple"')
    shop.own(shop.folder)
    shop.edit("shop/urls.py", "urlpatterns = []  # changed\n")
    shop.ok("deploy")
    assert first != shop.current()
    assert facts["package_set"] == manifest(shop)["package_set"]
    assert facts["packages"] == manifest(shop)["packages"]
    module = "django/core/management/__init__.py"
    assert (packages(shop, first) / module).stat().st_ino == (packages(shop) / module).stat().st_ino
    script = shop.root / "current/venv/bin/django-admin"
    assert str(script.resolve().parent) in script.read_text().splitlines()[0]
    assert "linked from the package set" in log(shop)
    assert "5.2" in shop.ok("exec", "--", str(script), "--version")


def test_another_pin_makes_another_set_and_prune_removes_those_that_no_release_has(shop: Site) -> None:
    shop.edit("requirements.txt", PINS.format("0.5.3"))
    shop.ok("deploy")
    old = manifest(shop)["package_set"]
    shop.edit("requirements.txt", "# the same, otherwise written\n" + PINS.format("0.5.3").replace("django", "Django"))
    shop.ok("deploy")
    assert old == manifest(shop)["package_set"]

    shop.edit("requirements.txt", PINS.format("0.6.1"))
    shop.ok("deploy")
    new = manifest(shop)["package_set"]
    assert sorted([old, new]) == sets(shop)
    assert "0.6.1" == manifest(shop)["packages"]["sqlparse"]
    assert f"linked from the package set {old}: 2 packages that did not change" in log(shop)
    assert 1 == len({next((shop.root / "releases").glob(f"{name}/venv/lib/*/site-packages/django/__init__.py")).stat().st_ino
                     for name in os.listdir(shop.root / "releases")})  # fmt: skip
    shop.ok("prune", "--keep", "1")  # the one before stays, and its set too
    assert sorted([old, new]) == sets(shop)
    shop.edit("shop/urls.py", "urlpatterns = []  # changed\n")
    shop.ok("deploy")
    for path in shop.root.glob("releases/*/release.json"):  # within a day, what was live is kept for unseen processes
        facts = json.loads(path.read_text())
        for activation in facts["activations"]:
            activation["at"] = activation["at"].replace("20", "19", 1)
        path.write_text(json.dumps(facts))
    shop.ok("prune", "--keep", "1")
    assert [new] == sets(shop)


def test_a_lost_or_damaged_set_costs_time_and_no_release(shop: Site) -> None:
    shop.edit("requirements.txt", PINS.format("0.5.3"))
    shop.ok("deploy")
    name = manifest(shop)["package_set"]
    damaged = next((shop.root / "sets" / name / "venv/lib").glob("python3*/site-packages/sqlparse/sql.py"))
    damaged.unlink()
    shop.edit("shop/urls.py", "urlpatterns = []  # changed\n")
    said = shop.ok("deploy")
    assert f"the package set {name} cannot be used, and is made anew: its files are not what their packages" in said
    assert [name] == sets(shop)

    shutil.rmtree(shop.root / "sets")
    shop.ok("manage", "check")
    for leftover in (f".{name}.new", f".{name}.removing"):
        (shop.root / "sets" / leftover / "venv").mkdir(parents=True)
    shop.own(shop.root / "sets")
    shop.ok("recover")
    assert [] == sets(shop)
    shop.edit("shop/urls.py", "urlpatterns = []  # changed again\n")
    shop.ok("deploy")
    assert [name] == sets(shop)
    assert damaged.exists()


def test_the_packages_of_the_next_release_are_linked_in_advance_and_its_folders_are_moved(shop: Site) -> None:
    def ahead() -> list[Path]:
        return sorted(shop.root.glob("sets/*/spare/0/django"))

    shop.edit("requirements.txt", PINS.format("0.5.3"))
    shop.ok("deploy")
    [made] = ahead()
    moved = made.stat().st_ino
    shop.edit("shop/urls.py", "urlpatterns = []  # changed\n")
    shop.ok("deploy")
    assert moved == (packages(shop) / "django").stat().st_ino
    assert [moved] != [path.stat().st_ino for path in ahead()]
    assert "linked from the package set" in log(shop)

    old = manifest(shop)["package_set"]
    shop.edit("requirements.txt", PINS.format("0.6.1"))
    shop.ok("deploy")
    new = manifest(shop)["package_set"]
    assert [new] == [path.parents[2].name for path in ahead()]  # one is enough
    assert sorted([old, new]) == sets(shop)

    (shop.root / "sets" / new / "spare").rename(shop.root / "sets" / new / "spare.new")  # as a killed run leaves it
    shop.ok("recover")
    assert ["set.json", "venv"] == sorted(os.listdir(shop.root / "sets" / new))

    shop.settings["[run]"] = (
        '\n[[run]]\nat = "after-verify"\ncommand = ["/bin/sh", "-c", "rm -f '
        + f'{shop.root}/sets/{new}/venv/lib/python3*/site-packages/sqlparse/sql.py"]\n'
    )
    shop.write_config()
    shop.own()
    shop.edit("shop/urls.py", "urlpatterns = []  # changed again\n")
    shop.ok("deploy")
    assert "nothing is linked for the next release: files are missing" in log(shop)
    assert [] == ahead()


def test_a_damaged_file_of_a_set_is_not_handed_on_to_the_next_set(shop: Site) -> None:
    (shop.folder / "cache").mkdir(exist_ok=True)
    shop.write_config(cache=f'"{shop.folder}/cache"')
    shop.own(shop.folder)
    shop.edit("requirements.txt", PINS.format("0.5.3"))
    shop.ok("deploy")
    old = manifest(shop)["package_set"]
    module = packages(shop) / "django/shortcuts.py"
    content = module.read_bytes()
    module.chmod(0o644)
    with module.open("r+b") as file:  # it is the file of the set and of uv's cache too
        file.write(b"\0" * len(content))
    shop.edit("requirements.txt", PINS.format("0.6.1"))
    said = shop.ok("deploy")
    assert f"nothing can be linked from the package set {old}: its files are not what their packages recorded" in said
    assert content == (packages(shop) / "django/shortcuts.py").read_bytes()
    assert [manifest(shop)["package_set"]] == sets(shop)


def test_packages_for_which_there_is_no_room_are_refused_before_they_are_installed(shop: Site) -> None:
    """A release's own size leaves out its packages: a set that is made anew may not be what fills the disk."""
    shop.edit("requirements.txt", PINS.format("0.5.3"))
    shop.ok("deploy")
    live, name = shop.current(), manifest(shop)["package_set"]
    noted = shop.root / "sets" / name / "set.json"
    facts = json.loads(noted.read_text())
    taken = sum(path.lstat().st_size for path in (noted.parent / "venv").rglob("*"))
    assert 0 <= facts["bytes"] - taken < 100_000
    noted.write_text(json.dumps({**facts, "bytes": 10**15}))

    shop.edit("requirements.txt", PINS.format("0.6.1"))
    done = shop.deploy()
    assert (1, "error: preflight-failed") == (done.returncode, done.stderr.splitlines()[0])
    assert "too little space for the packages" in done.stderr
    assert live == shop.current()
    assert [name] == sets(shop)
    shop.edit("requirements.txt", PINS.format("0.5.3"))
    shop.ok("deploy")  # what is linked takes none


def test_what_the_tree_holds_is_installed_on_top_of_the_set_in_each_release(shop: Site) -> None:
    (shop.repository / "lib").mkdir()
    (shop.repository / "lib/pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "shop-lib"\nversion = "1.0"\n[tool.setuptools]\npy-modules = ["shop_lib"]\n'
    )
    (shop.repository / "lib/shop_lib.py").write_text("VALUE = 1\n")
    shop.edit("requirements.txt", f"{PINS.format('0.5.3')}./lib\n")
    shop.ok("deploy")
    first, name = shop.current(), manifest(shop)["package_set"]
    shop.edit("lib/shop_lib.py", "VALUE = 2\n")
    shop.ok("deploy")
    assert ([name], name) == (sets(shop), manifest(shop)["package_set"])
    assert "1.0" == manifest(shop)["packages"]["shop-lib"]
    assert "VALUE = 1\n" == (packages(shop, first) / "shop_lib.py").read_text()
    assert "VALUE = 2\n" == (packages(shop) / "shop_lib.py").read_text()
    assert shop.current() in next(packages(shop).glob("shop_lib-*/direct_url.json")).read_text()
    assert not list((shop.root / "sets").rglob("*shop_lib*"))


def wheel(folder: Path, name: str) -> None:
    """A wheel with one module of its name."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "VALUE = 1\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def library(folder: Path, name: str) -> None:
    """A package that is built from source, with one module of its name."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n[tool.setuptools]\npy-modules = ["{name}"]\n'
    )
    (folder / f"{name}.py").write_text("VALUE = 1\n")


def test_an_editable_package_one_from_git_and_one_from_an_address_are_files_of_each_release(
    shop: Site, tmp_path: Path
) -> None:
    library(shop.repository / "lib", "tree_lib")
    library(shop.folder / "git_lib", "git_lib")
    git = ["git", "-C", str(shop.folder / "git_lib"), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    wheel(tmp_path, "url_lib")
    shop.own(shop.folder)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = HTTPServer(("127.0.0.1", 0), handler)
    with serving(server):
        address = f"http://127.0.0.1:{server.server_port}"
        shop.edit(
            "requirements.txt",
            f"{PINS.format('0.5.3')}-e ./lib\ngit-lib @ git+file://{shop.folder}/git_lib@{commit}\n"
            f"url-lib @ {address}/url_lib-1.0-py3-none-any.whl\n",
        )
        shop.ok("deploy")
        first, before = shop.current(), manifest(shop)
        shop.edit("lib/tree_lib.py", "VALUE = 2\n")
        shop.ok("deploy")
    assert {"django", "git-lib", "url-lib", "tree-lib"} <= before["packages"].keys()
    assert before["packages"] == manifest(shop)["packages"]
    assert before["package_set"] == manifest(shop)["package_set"] != ""
    for release, value in ((first, 1), (shop.current(), 2)):
        code = (
            "import git_lib, url_lib, tree_lib; print(git_lib.VALUE, url_lib.VALUE, tree_lib.VALUE, tree_lib.__file__)"
        )
        python = shop.root / "releases" / release / "venv/bin/python"
        done = subprocess.run(
            [python, "-B", "-c", code], cwd="/", capture_output=True, text=True, check=True, **unprivileged()
        )
        assert f"1 1 {value} {shop.root}/releases/{release}/app/lib/tree_lib.py\n" == done.stdout

    for name, refused in (("git_lib.py", False), ("url_lib.py", True)):  # uv notes the hash of what an address has
        cached = list((shop.cache / "uv").glob(f"archive-v*/*/{name}"))
        assert cached
        others = [packages(shop, first) / name, *cached]
        untouched = [path.read_text() for path in others]
        append = subprocess.run(["/bin/sh", "-c", f"echo '# more' >> {packages(shop)}/{name}"], **unprivileged())
        assert refused == (append.returncode != 0), name
        assert untouched == [path.read_text() for path in others], name
    assert list(packages(shop).glob("__pycache__/git_lib.*.pyc"))


def test_an_environment_that_a_command_has_put_something_into_is_installed_into_as_it_is(shop: Site) -> None:
    shop.settings["[run]"] = (
        '\n[[run]]\nat = "before-requirements"\ncommand = ["/bin/sh", "-c",'
        ' "d=$(echo ../venv/lib/python3*/site-packages)/mine-1.0.dist-info; mkdir $d && touch $d/RECORD"]\n'
    )
    shop.write_config()
    shop.own()
    shop.edit("requirements.txt", PINS.format("0.5.3"))
    shop.ok("deploy")
    assert {"mine", "django"} <= manifest(shop)["packages"].keys()
    assert ("", []) == (manifest(shop)["package_set"], sets(shop))
