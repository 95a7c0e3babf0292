"""Releases that were only written down: a folder and a manifest."""

from __future__ import annotations

from bb_release.model.layout import Layout
from bb_release.model.manifest import Manifest, State
from bb_release.model.release import Release

FIRST, SECOND = "2026-03-01-12-00-00", "2026-03-01-12-00-01"


def a_release(layout: Layout, name: str) -> Release:
    """One that was live and well."""
    (layout.releases / name).mkdir()
    return Release(layout.releases / name, Manifest(name=name, state=State.VERIFIED)).mark()
