"""What a machine cannot do is said aloud, and is a failure where it is required."""

from __future__ import annotations

import os

import pytest


def require(what: str, there: bool, why: str) -> None:
    """Skip this test with the reason; with REQUIRE_<what>=1 fail instead."""
    if there:
        return
    if os.environ.get(f"REQUIRE_{what}") == "1":
        pytest.fail(f"REQUIRE_{what}=1, but: {why}")
    pytest.skip(f"skipped: {why}")
