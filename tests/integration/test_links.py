"""Trees that have files in common: what is linked, what is copied, and what is not the same any more."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bb_release.actions import static, static_links
from bb_release.model.app import App
from bb_release.model.manifest import Manifest, State
from bb_release.model.release import Release
from bb_release.model.step import Deployment
from bb_release.tools import links
from notes import Notes


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A collected tree, an hour old."""
    top = tmp_path / "source"
    (top / "shop" / "empty").mkdir(parents=True)
    for name, content in {
        "a.css": "a", "a.css.gz": "packed", "a.css.br": "packed", "shop/b.gz": "no copy of anything", "shop/b.js": "b",
        "shop/b.0123456789ab.js": "b", "shop/b.0123456789ab.js.gz": "packed",
        "shop/of.0123456789ab.js": "no plain one", "shop/of.0123456789ab.js.gz": "packed",
        "b.js": "b", "b.202611301200.js": "of a day", "b.202611301200.js.gz": "packed",
    }.items():  # fmt: skip
        (top / name).write_text(content)
        os.utime(top / name, ns=(10**18, 10**18 + 7))
    (top / "shop" / "b.js").chmod(0o664)
    (top / "shop").chmod(0o775)
    return top


def test_a_linked_tree_is_the_same_and_has_copies_of_what_may_be_written_in_place(source: Path, tmp_path: Path) -> None:
    linked = links.link_tree(source, tmp_path / "target")
    assert linked == links.look(source) == links.look(tmp_path / "target")
    names = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
    assert len(names) == linked.files
    same = {name: (source / name).samefile(tmp_path / "target" / name) for name in names}
    written = {"a.css.gz", "a.css.br", "b.202611301200.js.gz", "shop/of.0123456789ab.js.gz"}
    assert written == {name for name in names if not same[name]}
    now = links.look(tmp_path / "target")
    assert now
    assert (0, 8) == (linked.shared, now.shared)
    assert "packed" == (tmp_path / "target" / "a.css.gz").read_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda top: (top / "a.css").write_text("b"),
        lambda top: (top / "a.css").chmod(0o600),
        lambda top: (top / "shop").chmod(0o700),
        lambda top: (top / "a.css").unlink(),
        lambda top: (top / "more.css").write_text("more"),
        lambda top: (top / "shop" / "empty").rmdir(),
        lambda top: (top / "a.css").rename(top / "c.css"),
        lambda top: (top / "link").symlink_to("a.css"),
    ],
    ids=["written", "mode", "folder's mode", "removed", "added", "folder removed", "renamed", "a link"],
)
def test_the_digest_is_another_one_when_the_tree_was(source: Path, change: Callable[[Path], object]) -> None:
    before = links.look(source)
    assert before == links.look(source)
    change(source)
    assert before != links.look(source)


def test_a_known_tree_is_looked_at_in_its_top_folder_only(source: Path) -> None:
    known = links.look(source)
    assert known == links.look(source, known)
    (source / "shop" / "b.js").write_text("another")
    assert known == links.look(source, known)
    assert known != links.look(source)
    (source / "a.css").write_text("another")
    assert known != links.look(source, known)


@pytest.mark.parametrize("place", ["link", "shop/link"])
def test_a_tree_with_links_in_it_is_none_to_link_to(source: Path, tmp_path: Path, place: str) -> None:
    (source / place).symlink_to("a.css")
    assert None is links.look(source)
    with pytest.raises(links.NotPlainError, match=place):
        links.link_tree(source, tmp_path / "target")


def test_what_was_linked_before_is_shared_too_and_stops_no_sharing_of_the_rest(source: Path, tmp_path: Path) -> None:
    top = tmp_path / "top"
    for number in range(5):
        (source / f"{number}.js").write_text("same")
    shutil.copytree(source, top)
    for number in range(3):
        (top / f"{number}.js").unlink()
        os.link(source / f"{number}.js", top / f"{number}.js")
    links.share(top, source, tmp_path / "scratch")
    assert all((top / f"{number}.js").samefile(source / f"{number}.js") for number in range(5))
    assert not (tmp_path / "scratch").exists()


def test_a_collecting_that_is_begun_anew_changes_no_file_of_the_live_release(source: Path, tmp_path: Path) -> None:
    release = Release(tmp_path / "2026-01-01-00-00-00", Manifest(name="2026-01-01-00-00-00", state=State.BUILDING))
    top = release.folder / "static"
    top.mkdir(parents=True)
    linked = ("a.css", "shop/b.0123456789ab.js", "shop/b.0123456789ab.js.gz")
    for name in linked:
        os.link(source / name, top / name.rpartition("/")[2])
    (top / "half.0123456789ab.png").write_text("a")
    (top / "moved.css.gz").write_text("of before")
    (top / "link").symlink_to("a.css")
    os.link(top / "link", top / "link too", follow_symlinks=False)
    os.utime(top / "moved.css.gz", ns=(10**17, 10**17))
    was = links.look(source)

    (release.folder / ".collecting").touch()
    os.utime(release.folder / ".collecting", ns=(10**18, 10**18))
    deployment = Deployment(App("shop", "", tmp_path), release, None, Notes(), -1, {}, {})  # type: ignore[arg-type]

    static.mend_what_was_cut_short(deployment, top)

    assert {"a.css", "b.0123456789ab.js", "b.0123456789ab.js.gz", "link", "link too", "moved.css.gz"} == set(
        os.listdir(top)
    )
    for name in linked:
        own = top / name.rpartition("/")[2]
        assert (1, (source / name).read_bytes()) == (own.stat().st_nlink, own.read_bytes())
        assert (source / name).stat()[stat.ST_MTIME] == own.stat()[stat.ST_MTIME]
        own.write_text("written into")
    assert was == links.look(source)
    assert {".collecting", "static"} == set(os.listdir(release.folder))


def test_a_file_that_is_a_folder_now_stops_no_sharing(source: Path, tmp_path: Path) -> None:
    top = tmp_path / "top"
    shutil.copytree(source, top)
    (top / "a.css").unlink()
    (top / "a.css").mkdir()
    (top / "a.css" / "x.css").write_text("x")
    links.share(top, source, tmp_path / "scratch")
    assert (top / "shop/b.js").samefile(source / "shop/b.js")


def test_only_what_is_the_same_in_mode_and_bytes_is_shared(source: Path, tmp_path: Path) -> None:
    top = tmp_path / "target"
    shutil.copytree(source, top)
    (top / "a.css").write_text("A")
    (top / "shop" / "b.gz").chmod(0o600)
    (top / "new.css").write_text("new")
    before = {path: path.read_text() for path in top.rglob("*") if path.is_file()}

    links.share(top, source, tmp_path / "scratch")

    shared = {str(path.relative_to(top)) for path in before if path.stat().st_nlink > 1}
    assert {
        "b.js",
        "b.202611301200.js",
        "shop/of.0123456789ab.js",
        "shop/b.js",
        "shop/b.0123456789ab.js",
        "shop/b.0123456789ab.js.gz",
    } == shared
    now = links.look(top)
    assert now
    assert len(shared) == now.shared
    assert before == {path: path.read_text() for path in top.rglob("*") if path.is_file()}
    assert not (tmp_path / "scratch").exists()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system, where nothing can be linked to."""
    if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("skipped: there is no second file system to write to")
    folder = Path(tempfile.mkdtemp(prefix="bb-links-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def seen(top: Path) -> str:
    """As a manifest has it."""
    found = links.look(top)
    assert found
    return found.whole


def collected(root: Path) -> static_links.Before:
    """As the live release has collected it."""
    live = Release(root.parent / "2025-01-01-00-00-00", Manifest(name="2025-01-01-00-00-00", state=State.VERIFIED))
    return static_links.Before(live, root, seen(root), static_links.Inputs("key", "way"))


def test_where_nothing_can_be_linked_nothing_is_left_and_the_log_says_so(
    source: Path, elsewhere: Path, tmp_path: Path
) -> None:
    there = elsewhere / "source"
    shutil.copytree(source, there)
    release = Release(tmp_path / "2026-01-01-00-00-00", Manifest(name="2026-01-01-00-00-00", state=State.BUILDING))
    release.folder.mkdir()
    deployment = Deployment(App("shop", "", tmp_path), release, None, Notes(), -1, {}, {})  # type: ignore[arg-type]
    before = collected(there)

    assert not static_links.link_unchanged(deployment, release.folder / "static", before)
    static_links.share_unchanged(deployment, there, before)

    assert [] == list(release.folder.iterdir())
    assert isinstance(deployment.reporter, Notes)
    assert "cannot be linked" in deployment.reporter.lines[0]


def test_a_static_root_with_dot_files_alone_is_empty_and_they_stay_what_they_are(source: Path, tmp_path: Path) -> None:
    release = Release(tmp_path / "2026-01-01-00-00-00", Manifest(name="2026-01-01-00-00-00", state=State.BUILDING))
    root = release.folder / "static"
    root.mkdir(parents=True)
    (root / ".gitkeep").write_text("of the new release")
    (source / ".gitkeep").write_text("of the old one")
    assert [".gitkeep"] == list(static_links.read_before(root) or {})
    deployment = Deployment(App("shop", "", tmp_path), release, None, Notes(), -1, {}, {})  # type: ignore[arg-type]
    before = collected(source)

    assert static_links.link_unchanged(deployment, root, before)

    assert "of the new release" == (root / ".gitkeep").read_text()
    assert "b" == (root / "shop" / "b.js").read_text()
    assert ["static"] == [path.name for path in release.folder.iterdir()]
    assert static_links.read_before(root) is None


def test_what_was_linked_of_a_tree_that_is_not_what_was_collected_is_thrown_away(source: Path, tmp_path: Path) -> None:
    release = Release(tmp_path / "2026-01-01-00-00-00", Manifest(name="2026-01-01-00-00-00", state=State.BUILDING))
    release.folder.mkdir()
    deployment = Deployment(App("shop", "", tmp_path), release, None, Notes(), -1, {}, {})  # type: ignore[arg-type]
    before = collected(source)
    (source / "shop" / "b.js").write_text("written into")

    assert None is static_links.link_unchanged(deployment, release.folder / "static", before)
    assert [] == list(release.folder.iterdir())
    assert isinstance(deployment.reporter, Notes)
    assert [
        "the static files of 2025-01-01-00-00-00 are not what was collected: collect anew"
    ] == deployment.reporter.lines


def test_what_is_noted_of_linked_files_is_what_a_look_at_them_says(source: Path, tmp_path: Path) -> None:
    release = Release(tmp_path / "2026-01-01-00-00-00", Manifest(name="2026-01-01-00-00-00", state=State.BUILDING))
    root = release.folder / "static"
    root.mkdir(parents=True)
    (source / ".gitkeep").write_text("of both")
    (root / ".gitkeep").write_text("of both")
    before = collected(source)
    deployment = Deployment(App("shop", "", tmp_path), release, None, Notes(), -1, {}, {})  # type: ignore[arg-type]
    linked = static_links.link_unchanged(deployment, root, before)
    assert linked

    static_links.note_collected(deployment, root, before.inputs, before, linked)

    assert seen(root) == deployment.release.manifest.facts["static_tree"] != linked.whole
