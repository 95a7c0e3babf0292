"""`current`: what it may be, and that its swap is one act."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from bb_release.errors import StateUnreadable
from bb_release.model import activation
from bb_release.model.layout import Layout
from made_releases import FIRST, SECOND, a_release


def test_a_new_host_has_no_current(layout: Layout) -> None:
    assert "" == activation.current_name(layout)
    assert activation.current(layout) is None


def test_current_is_the_release_that_was_staged_and_swapped_in(layout: Layout) -> None:
    for name in (FIRST, SECOND):
        release = a_release(layout, name)
        activation.stage_current(layout, release)
        assert name != activation.current_name(layout)
        activation.swap_current(layout)
        assert release == activation.current(layout)
        assert f"releases/{name}" == os.readlink(layout.current)
        assert not os.path.lexists(layout.staged_current)


def test_staging_replaces_what_a_crash_left_staged(layout: Layout) -> None:
    layout.staged_current.symlink_to("releases/nonsense")
    activation.stage_current(layout, a_release(layout, FIRST))
    assert f"releases/{FIRST}" == os.readlink(layout.staged_current)


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["folder", "file"])
def test_a_current_that_is_no_link_is_never_guessed_at(layout: Layout, make: object) -> None:
    make(layout.current)
    with pytest.raises(StateUnreadable, match="not a symbolic link"):
        activation.current_name(layout)


@pytest.mark.parametrize(
    "target",
    [
        "elsewhere",
        "releases",
        f"releases/{FIRST}/",
        f"releases/{FIRST}/app",
        f"releases/../releases/{FIRST}",
        f"./releases/{FIRST}",
        "releases/2026",
        f"releases/{SECOND}",
        "/srv/other",
    ],
)
def test_a_current_that_leads_elsewhere_or_nowhere_is_never_guessed_at(layout: Layout, target: str) -> None:
    a_release(layout, FIRST)
    layout.current.symlink_to(target)
    with pytest.raises(StateUnreadable, match="not a release of this app"):
        activation.current(layout)


def test_a_current_with_an_unreadable_manifest_has_a_name_but_is_no_release(layout: Layout) -> None:
    (layout.releases / FIRST).mkdir()
    layout.current.symlink_to(f"releases/{FIRST}")
    assert FIRST == activation.current_name(layout)
    with pytest.raises(StateUnreadable, match="manifest"):
        activation.current(layout)


def test_a_reader_always_finds_one_release_or_the_other_during_swaps(layout: Layout) -> None:
    pair = a_release(layout, FIRST), a_release(layout, SECOND)
    activation.stage_current(layout, pair[0])
    activation.swap_current(layout)
    seen: set[str] = set()
    failures: list[OSError] = []
    swapped = threading.Event()

    def look() -> None:
        looks = 0
        while looks < 2000 or not swapped.is_set():
            looks += 1
            try:
                seen.add(os.readlink(layout.current))
            except OSError as error:
                failures.append(error)

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(500):
        activation.stage_current(layout, pair[number % 2])
        activation.swap_current(layout)
    swapped.set()
    reader.join()
    assert [] == failures
    assert {f"releases/{FIRST}", f"releases/{SECOND}"} == seen
