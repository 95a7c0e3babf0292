"""Deploys whose requirements come from lock files, which may change from one release to the next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_site import TESTS, Site
from small_shop import small_shop


@pytest.fixture
def shop(cache: Path) -> Iterator[Site]:
    with small_shop(cache) as made:
        yield made


def take(site: Site, name: str, *gone: str) -> None:
    """A new revision with the files of tests/locks/NAME, and without some."""
    for one in gone:
        (site.repository / one).unlink()
    shutil.copytree(TESTS / "locks" / name, site.repository, dirs_exist_ok=True)
    site.commit(f"requirements of {name}")


def manifest(site: Site) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads((site.root / "current/release.json").read_text())
    return found


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_the_source_of_requirements_may_change_between_releases(shop: Site, installer: str) -> None:
    shop.write_config(installer=f'"{installer}"')
    shop.own()
    shop.edit("requirements.txt", "django>=5.2,<5.3\n")
    shop.ok("deploy")
    resolved = shop.root / "current/requirements/requirements.txt"
    assert (installer == "uv") == resolved.exists()  # pip alone knows what pip will choose
    if installer == "uv":
        assert "\ndjango==5.2" in resolved.read_text()

    take(shop, "uv", "requirements.txt")
    shop.write_config(groups='["docs"]', extras='["idn"]')
    shop.own()
    shop.ok("deploy")
    assert {"django", "iniconfig", "idna"} <= manifest(shop)["packages"].keys()
    assert (shop.root / "current/requirements/requirements.txt").read_text().startswith("# uv.lock for Python")

    take(shop, "pipenv", "uv.lock", "pyproject.toml")
    shop.write_config(extras="[]")
    shop.own()
    shop.ok("deploy")
    live = shop.current()
    assert "idna" in manifest(shop)["packages"]  # the category "docs" of the Pipfile
    assert "iniconfig" not in manifest(shop)["packages"]

    shop.write_config(groups='["dosc"]')
    shop.own()
    done = shop.deploy()
    assert 1 == done.returncode
    assert (
        "error: requirements-invalid\n  Pipfile.lock has no group dosc; it has: default, develop, docs" in done.stderr
    )
    assert "nothing live was changed" in done.stderr
    assert live == shop.current()


def test_the_error_names_a_requirements_file_relative_to_the_tree(shop: Site) -> None:
    shop.write_config(subfolder='"site"')
    shop.own()
    shop.edit("site/requirements.txt", "django==0.0.99\n")
    done = shop.deploy()
    assert 1 == done.returncode
    assert "error: requirements-not-installed\n  uv could not install site/requirements.txt\n" in done.stderr


def test_a_changed_default_python_is_something_to_do(shop: Site) -> None:
    """As after an upgrade of the host: the live release was built for an older Python than a build has now."""
    shop.edit("requirements.txt", "django>=5.2,<5.3\n")
    shop.ok("deploy")
    first = shop.current()
    assert "nothing to do" in shop.ok("deploy")
    assert first == shop.current()

    path = shop.root / "releases" / first / "release.json"
    facts = json.loads(path.read_text())
    version = facts["python"]
    path.write_text(json.dumps({**facts, "python": "3.7.9"}))
    assert "nothing to do" not in shop.ok("deploy", "--if-changed")
    assert first != shop.current()
    assert version == manifest(shop)["python"]
    assert "" == shop.ok("deploy", "--if-changed")
