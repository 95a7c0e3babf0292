"""Shared by the crash tests."""

from __future__ import annotations

import results


def pytest_sessionfinish() -> None:
    """The numbers of this session go into RESULTS.md, when BB_CRASH_RESULTS=1 says so."""
    if results.is_wanted():
        results.write()
