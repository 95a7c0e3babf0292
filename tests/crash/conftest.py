"""Shared by the crash tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from power_ground import ground, shared, workers  # noqa: F401 - fixtures of the power and disk tests
from power_usual import usual  # noqa: F401
from tiny_site import TinySite, in_memory, tiny_site

from example_site import NOBODY

# of Django's languages, its contributed apps, its databases' backends, and what else it has in folders of theirs
USED = {"en", "staticfiles", "base", "dummy", "sqlite3"}


@pytest.fixture(scope="session")
def near_cache() -> Iterator[Path]:
    """The installer's cache on the file system of the tiny sites, so that it can give out links; its Django is thin."""
    folder = Path(tempfile.mkdtemp(prefix="bb-cache-", dir=in_memory()))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    try:
        with tiny_site(folder) as first:
            first.ok("deploy")
        (django,) = folder.glob("uv/archive-v*/*/django")
        make_thin(django)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_thin(django: Path) -> None:
    """Take away what the tiny site never imports: of Django's 3,700 files and 2,500 folders a tenth is left.

    Each is a system call of a run, or two, and a run is killed before every one of them. What is left is as it was.
    """
    unused = [django.glob(f"{part}/*/") for part in ("**/locale", "contrib", "db/backends", "forms")]
    for folder in (path for path in chain(*unused) if path.name not in USED):
        shutil.rmtree(folder, ignore_errors=True)  # one may lie in another
    for record in django.parent.glob("django-*.dist-info/RECORD"):  # the agent looks whether all that it names is there
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if (django.parent / line.partition(",")[0]).exists()))


@pytest.fixture
def tiny(near_cache: Path) -> Iterator[TinySite]:
    """A tiny site with nothing deployed yet."""
    with tiny_site(near_cache) as made:
        yield made


@pytest.fixture(scope="module")
def live_tiny(near_cache: Path) -> Iterator[TinySite]:
    """A tiny site with three good releases, the third live, kept for `bring_back`; shared by a module's tests."""
    with tiny_site(near_cache) as made:
        made.ok("deploy")
        made.add_column()
        made.ok("deploy")
        made.add_column()
        made.ok("deploy")
        made.keep()
        yield made


@pytest.fixture
def restored(live_tiny: TinySite) -> Iterator[TinySite]:
    """Three good releases; repository, root and service are afterwards what they were."""
    revision = live_tiny.git("rev-parse", "HEAD")
    yield live_tiny
    live_tiny.git("reset", "-q", "--hard", revision)
    live_tiny.columns = 2
    live_tiny.stop()
    live_tiny.bare = True
    live_tiny.write_config()
    live_tiny.bring_back()
