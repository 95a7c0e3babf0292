"""Shared by the crash tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import results
from tiny_site import TinySite, tiny_site


def pytest_sessionfinish() -> None:
    """The numbers of this session go into RESULTS.md, when BB_CRASH_RESULTS=1 says so."""
    if results.is_wanted():
        results.write()


@pytest.fixture
def tiny(cache: Path) -> Iterator[TinySite]:
    """A tiny site with nothing deployed yet."""
    with tiny_site(cache) as made:
        yield made


@pytest.fixture(scope="module")
def live_tiny(cache: Path) -> Iterator[TinySite]:
    """A tiny site with three good releases, the third live, kept for `bring_back`; shared by a module's tests."""
    with tiny_site(cache) as made:
        made.ok("deploy")
        made.add_column()
        made.ok("deploy")
        made.add_column()
        made.ok("deploy")
        made.keep()
        yield made
