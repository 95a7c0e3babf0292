"""What a person is told to type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bb_release.actions.deploy import way_to_live
from bb_release.actions.wish import Wish
from bb_release.model.manifest import Manifest, State
from bb_release.model.release import Release

PENDING = {"pending": ["shop.0002_more"]}


@pytest.mark.parametrize(
    ("facts", "wish", "wanted"),
    [
        ({}, Wish(ref="v2.1", build_only=True), "switch 2026-01-01-00-00-00"),
        (PENDING, Wish(build_only=True), "deploy --resume 2026-01-01-00-00-00"),
        (PENDING, Wish(ref="v2.1", build_only=True), "deploy v2.1 --resume 2026-01-01-00-00-00"),
        (PENDING, Wish(archive=Path("/tmp/a b.tar"), build_only=True), "deploy --archive '/tmp/a b.tar'"),
    ],
)
def test_what_was_only_built_is_made_live_by_a_command_that_means_the_same_revision(
    facts: dict[str, Any], wish: Wish, wanted: str
) -> None:
    release = Release(Path("2026-01-01-00-00-00"), Manifest("2026-01-01-00-00-00", State.READY, facts=facts))
    assert f"bb-release {wanted}" == way_to_live(release, wish)
