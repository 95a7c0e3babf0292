"""The pool of hashed static files: what gets in, what stays out, and when a file goes."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bb_release.actions import static_pool as subject
from bb_release.model.app import App
from bb_release.model.layout import Layout
from bb_release.model.manifest import Manifest, State
from bb_release.model.release import Release
from bb_release.model.step import Deployment
from notes import Notes

DAY = 86400.0


def release(layout: Layout, name: str, files: dict[str, str], paths: dict[str, str] | None = None) -> Release:
    """A release with these static files, and Django's list of them."""
    made = Release(layout.releases / name, Manifest(name=name, state=State.READY))
    made.static.mkdir(parents=True)
    for path, content in files.items():
        (made.static / path).parent.mkdir(parents=True, exist_ok=True)
        (made.static / path).write_text(content)
    if paths is not None:
        (made.static / "staticfiles.json").write_text(json.dumps({"paths": paths, "version": "1.1", "hash": ""}))
    return made.mark()


def pooled(layout: Layout) -> dict[str, str]:
    """What a web server finds there."""
    top = layout.static_pool
    return {str(path.relative_to(top)): path.read_text() for path in sorted(top.rglob("static/**/*")) if path.is_file()}


def deployment(layout: Layout, new: Release) -> Deployment:
    return Deployment(App("shop", "", layout.root), new, None, Notes(), -1, {}, {})  # type: ignore[arg-type]


def test_hashed_files_of_the_live_and_of_the_new_release_are_kept_and_nothing_else(layout: Layout) -> None:
    old = {"shop/site.css": "old", "shop/site.0123456789ab.css": "old", "logo.v2.svg": "logo", "logo.svg": "logo"}
    live = release(layout, "2026-01-01-00-00-00", old, {"shop/site.css": "shop/site.0123456789ab.css",
                                                       "logo.svg": "logo.v2.svg"})  # fmt: skip
    layout.current.symlink_to("releases/2026-01-01-00-00-00")
    new = release(layout, "2026-01-02-00-00-00", {"shop/site.css": "new", "shop/site.ba9876543210.css": "new"},
                  {"shop/site.css": "shop/site.ba9876543210.css", "gone.css": "gone.ba9876543210.css"})  # fmt: skip

    subject.keep_reachable(deployment(layout, new))
    subject.keep_reachable(deployment(layout, new))

    wanted = {"static/shop/site.0123456789ab.css": "old", "static/shop/site.ba9876543210.css": "new"}
    assert wanted == pooled(layout)
    assert live.static.joinpath("shop/site.0123456789ab.css").samefile(
        layout.static_pool / "static/shop/site.0123456789ab.css"
    )
    assert [0o755] * 3 == [
        path.stat().st_mode & 0o777
        for path in (layout.static_pool, layout.static_pool / "static", layout.static_pool / "static/shop")
    ]


@pytest.mark.parametrize(
    "content",
    ['{"paths": {"a.css": "../../secret.0123456789ab.css"}}', '{"paths": {"a.css": "/etc/secret.0123456789ab.css"}}',
     '{"paths": ["a.0123456789ab.css"]}', '{"paths": {"a.0123456789ab.css": "a.0123456789ab.css"}}', "[]", "no JSON", "[" * 200_000,
     '{"paths": {"a.css": "a\\u0000.0123456789ab.css", "b.css": "\\ud800.0123456789ab.css"}}'],
    ids=range(8),
)  # fmt: skip
def test_a_list_that_names_what_is_no_hashed_file_below_adds_nothing(layout: Layout, content: str) -> None:
    new = release(layout, "2026-01-02-00-00-00", {"a.0123456789ab.css": "a"})
    (new.folder.parent / "secret.0123456789ab.css").write_text("secret")
    (new.static / "staticfiles.json").write_text(content)
    assert not subject.hashed_names(subject.read_list(new.static))
    subject.add(layout, new.static)
    assert [] == [*layout.root.rglob("static-pool/*")]


def test_a_list_that_is_no_file_or_too_large_is_a_warning(layout: Layout) -> None:
    new = release(layout, "2026-01-02-00-00-00", {"a.0123456789ab.css": "a"}, {"a.css": "a.0123456789ab.css"})
    listed = new.static / "staticfiles.json"
    with listed.open("ab") as file:
        file.truncate(subject.MOST_BYTES + 1)
    for make in (lambda: None, lambda: (listed.unlink(), os.mkfifo(listed))):
        make()
        under_way = deployment(layout, new)
        subject.keep_reachable(under_way)
        assert isinstance(under_way.reporter, Notes)
        assert "no file, or more than 32 MB" in under_way.reporter.warnings[0]
        assert {} == pooled(layout)


def test_a_link_is_not_taken_into_the_pool(layout: Layout) -> None:
    new = release(layout, "2026-01-02-00-00-00", {}, {"a.css": "a.0123456789ab.css"})
    (new.folder / "secret").write_text("secret")
    (new.static / "a.0123456789ab.css").symlink_to("../secret")
    subject.add(layout, new.static)
    assert {} == pooled(layout)


def test_static_files_outside_of_the_release_are_left_to_themselves(layout: Layout, tmp_path: Path) -> None:
    new = release(layout, "2026-01-02-00-00-00", {"a.0123456789ab.css": "a"}, {"a.css": "a.0123456789ab.css"})
    new.static.rename(tmp_path / "outer")
    new.static.symlink_to(tmp_path / "outer")
    subject.keep_reachable(deployment(layout, new))
    assert {} == pooled(layout)


def many(layout: Layout, name: str, count: int) -> Release:
    """A release with so many static files."""
    names = {f"shop/{number}.css": f"shop/{number}.{number:012x}.css" for number in range(count)}
    return release(layout, name, dict.fromkeys(names.values(), "a"), names)


def asked_of_the_system(act: Callable[[], object]) -> Counter[str]:
    """Which calls of Python's module for the operating system an act makes, and how many of each."""
    found: Counter[str] = Counter()

    def note(_: object, event: str, function: object) -> None:
        if event == "c_call" and getattr(function, "__module__", "") == "posix":
            found[getattr(function, "__name__", "")] += 1

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return found


def test_what_a_switch_asks_does_not_grow_with_the_number_of_files_that_are_known(layout: Layout) -> None:
    few, more = (Layout(layout.root / name) for name in ("few", "more"))
    asked = {}
    for place, count in ((few, 3), (more, 300)):
        live, new = (many(place, f"2026-01-0{day}-00-00-00", count) for day in (1, 2))
        (place.root / "current").symlink_to(f"releases/{live.name}")
        first = asked_of_the_system(partial(subject.keep_reachable, deployment(place, new)))
        assert count == first["link"] == len(pooled(place))
        asked[count] = asked_of_the_system(partial(subject.keep_reachable, deployment(place, new)))
    assert asked[3] == asked[300]
    assert 0 < asked[3].total()
    assert 0 == asked[3]["link"]

    newer = many(more, "2026-01-03-00-00-00", 301)
    one_new = asked_of_the_system(partial(subject.keep_reachable, deployment(more, newer)))
    assert 1 == one_new["link"]
    assert 300 > one_new.total()  # and not for each of the 300 that the live release has too
    assert 301 == len(pooled(more))


def test_a_pool_that_was_taken_away_is_filled_again(layout: Layout) -> None:
    new = many(layout, "2026-01-01-00-00-00", 2)
    subject.add(layout, new.static)
    shutil.rmtree(layout.static_pool)
    subject.add(layout, new.static)
    assert 2 == len(pooled(layout))


def test_a_list_that_names_what_is_not_there_is_looked_at_again(layout: Layout) -> None:
    new = many(layout, "2026-01-01-00-00-00", 2)
    (new.static / "shop/1.000000000001.css").rename(new.folder / "aside")
    subject.add(layout, new.static)
    (new.folder / "aside").rename(new.static / "shop/1.000000000001.css")
    subject.add(layout, new.static)
    assert 2 == len(pooled(layout))


@pytest.mark.parametrize("name", ["a\0b.0123456789ab.css", "a\ud800.0123456789ab.css"])
def test_a_name_that_no_file_can_have_stops_nothing(layout: Layout, name: str) -> None:
    new = release(layout, "2026-01-02-00-00-00", {"a.ba9876543210.css": "a"}, {
        "b.css": name, "a.css": "a.ba9876543210.css"})  # fmt: skip
    subject.keep_reachable(deployment(layout, new))
    assert {"static/a.ba9876543210.css": "a"} == pooled(layout)


def test_a_pool_that_cannot_be_written_is_a_warning(layout: Layout) -> None:
    new = release(layout, "2026-01-02-00-00-00", {"a.0123456789ab.css": "a"}, {"a.css": "a.0123456789ab.css"})
    layout.static_pool.write_text("no folder")
    under_way = deployment(layout, new)
    subject.keep_reachable(under_way)
    assert isinstance(under_way.reporter, Notes)
    assert ["pages from before the switch may miss static files"] == [
        text.partition(":")[0] for text in under_way.reporter.warnings
    ]


def test_a_file_goes_a_week_after_the_last_release_that_has_it(layout: Layout) -> None:
    new = release(layout, "2026-01-02-00-00-00", {"shop/a.0123456789ab.css": "a"}, {"a.css": "shop/a.0123456789ab.css"})
    subject.add(layout, new.static)
    kept = layout.static_pool / "static/shop/a.0123456789ab.css"
    later = time.time() + 30 * DAY
    assert 0 == subject.prune_pool(layout, later)  # a release has it
    os.utime(new.static / "shop/a.0123456789ab.css", (0, 0))  # however old it is

    (new.static / "shop/a.0123456789ab.css").unlink()

    assert 0 == subject.prune_pool(layout)
    assert 0 == subject.prune_pool(layout, time.time() + 6 * DAY)
    assert kept.exists()
    assert 1 == subject.prune_pool(layout, time.time() + 8 * DAY)
    subject.add(layout, release(layout, "2026-01-03-00-00-00", {"shop/a.0123456789ab.css": "a"}, {
        "a.css": "shop/a.0123456789ab.css"}).static)  # fmt: skip
    assert kept.exists()  # what was once there was not taken to be still there
    shutil.rmtree(layout.releases)
    assert 1 == subject.prune_pool(layout, time.time() + 8 * DAY)
    assert [layout.static_pool] == [layout.static_pool, *layout.static_pool.rglob("*")]
    assert 0 == subject.prune_pool(Layout(layout.root / "nothing-there"), later)
