"""A real index behind a password: uv and pip, netrc and build_env_file, and the secret is nowhere to be seen."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from bb_release.tools import uv
from example_site import Site
from private_index import PASSWORD, SECRETS, USER, Index, write_wheel
from serving import serving
from small_shop import everything_kept, small_shop
from watching import watched_processes

BOTH = pytest.mark.parametrize("installer", ["uv", "pip"])


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    server = Index(write_wheel(tmp_path))
    with serving(server):
        yield server


@pytest.fixture
def shop(cache: Path) -> Iterator[Site]:
    with small_shop(cache) as made:
        yield made


def configure(site: Site, index: Index, *, installer: str, way: str, password: str = PASSWORD) -> None:
    site.settings["installer"] = f'"{installer}"'
    site.settings["build_env_file"] = f'"{site.folder}/build.env"'
    if way == "netrc":
        site.settings["index_url"] = f'"http://{index.address}"'
        netrc = site.private("netrc", f"machine 127.0.0.1\nlogin {USER}\npassword {password}\n")
        text = f"NETRC={netrc}\n"
    elif way == "build_env_file":
        text = f"PIP_INDEX_URL=http://{USER}:{quote(password, safe='')}@{index.address}\n"
    else:
        text = f"UV_INDEX_HOUSE_USERNAME={USER}\nUV_INDEX_HOUSE_PASSWORD={password}\n"
    site.private("build.env", text)
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
