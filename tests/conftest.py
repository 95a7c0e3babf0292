"""Shared by the tests that run the installed command."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bb_release.model.layout import Layout
from example_site import NOBODY, Site, running_site


@pytest.fixture(scope="session")
def cache() -> Iterator[Path]:
    """One installer cache for the whole session, so that a package is downloaded once."""
    folder = Path(tempfile.mkdtemp(prefix="bb-cache-"))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An app root with nothing but a place for releases; a test of what lies elsewhere has one of its own."""
    (tmp_path / "releases").mkdir()
    return Layout(tmp_path)


@pytest.fixture
def site(cache: Path) -> Iterator[Site]:
    """A site with nothing deployed yet."""
    with running_site(cache=cache) as made:
        yield made


@pytest.fixture(scope="module")
def live_site(cache: Path) -> Iterator[Site]:
    """A site whose first revision is live; shared by a module's tests, which leave it live."""
    with running_site(cache=cache) as made:
        made.ok("deploy")
        yield made
