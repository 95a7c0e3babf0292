"""Shared by the crash tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from power_ground import ground, shared, workers  # noqa: F401 - fixtures of the power and disk tests
from power_usual import usual  # noqa: F401
from tiny_site import TinySite, in_memory, tiny_site

from example_site import NOBODY


@pytest.fixture(scope="session")
def near_cache() -> Iterator[Path]:
    """The installer's cache on the file system of the tiny sites, so that it can give out links."""
    folder = Path(tempfile.mkdtemp(prefix="bb-cache-", dir=in_memory()))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


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
