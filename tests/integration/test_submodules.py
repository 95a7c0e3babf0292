"""Submodules with the real git: fetched into mirrors of their own, written at their place, or a clear error."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bb_release import errors
from bb_release.tools import mirror
from bb_release.tools import submodules as subject
from git_place import Place, break_mirror


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "site")


@pytest.fixture
def library(tmp_path: Path) -> Place:
    made = Place(tmp_path / "library")
    made.first = made.commit("library", {"lib.txt": "library\n", "run": "#!/bin/sh\n"})
    return made


def pin(place: Place, path: str, url: str, commit: str) -> str:
    """Commit a submodule: the entry in .gitmodules and the pinned hash."""
    modules = place.work / ".gitmodules"
    before = modules.read_text() if modules.exists() else ""
    modules.write_text(f'{before}[submodule "the {path}"]\n\tpath = {path}\n\turl = {url}\n')
    place.git("add", "-A")
    place.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    place.git("commit", "-q", "-m", f"pin {path}")
    revision = place.git("rev-parse", "HEAD")
    (place.work / path).mkdir(parents=True, exist_ok=True)  # else the next `git add -A` takes it away
    return revision


def mirrors(place: Place) -> Path:
    return place.top / "submodules"


def test_the_pinned_commit_is_written_at_its_place_and_not_the_newest(place: Place, library: Place) -> None:
    revision = pin(place, "vendor/lib", library.url, library.first)
    library.commit("later", {"lib.txt": "later\n"})
    place.fetch()
    tree = place.export(revision, submodules=mirrors(place))
    assert "library\n" == (tree / "vendor/lib/lib.txt").read_text()
    assert 0o755 == (tree / "vendor/lib/run").stat().st_mode & 0o777
    assert "one\n" == (tree / "a.txt").read_text()
    assert not list(tree.rglob(".git"))
    assert 1 == len(os.listdir(mirrors(place)))


def test_a_mirror_that_git_cannot_look_through_in_time_is_fetched_and_used(
    place: Place, library: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = pin(place, "vendor/lib", library.url, library.first)
    place.fetch()
    place.export(revision, submodules=mirrors(place))
    monkeypatch.setattr(mirror, "LOCAL_SECONDS", 0.0)
    tree = place.export(revision, submodules=mirrors(place))
    assert "library\n" == (tree / "vendor/lib/lib.txt").read_text()


def test_a_submodule_of_a_submodule_is_written_by_urls_relative_to_its_own(place: Place, library: Place) -> None:
    inner = Place(library.top / "inner")
    outer = pin(library, "in ner", "../inner/work", inner.first)
    revision = pin(place, "lib", "../../library/work", outer)
    place.fetch()
    tree = place.export(revision, submodules=mirrors(place))
    assert "one\n" == (tree / "lib/in ner/a.txt").read_text()
    assert "library\n" == (tree / "lib/lib.txt").read_text()
    assert 2 == len(os.listdir(mirrors(place)))


def test_each_revision_has_the_urls_of_its_own_gitmodules(place: Place, library: Place) -> None:
    other = Place(place.top.parent / "other")
    before = pin(place, "lib", library.url, library.first)
    (place.work / ".gitmodules").unlink()
    after = pin(place, "lib", other.url, other.first)
    place.fetch()
    assert (place.export(before, submodules=mirrors(place)) / "lib/lib.txt").exists()
    assert not (place.export(after, submodules=mirrors(place)) / "lib/lib.txt").exists()


def test_a_submodule_that_is_there_already_is_not_fetched_again(place: Place, library: Place) -> None:
    revision = pin(place, "lib", library.url, library.first)
    place.fetch()
    place.export(revision, submodules=mirrors(place))
    library.work.rename(library.top / "moved")
    assert (place.export(revision, submodules=mirrors(place)) / "lib/lib.txt").exists()


@pytest.mark.parametrize("kind", ["truncated pack", "deleted object"])
def test_a_damaged_mirror_of_a_submodule_is_mended(place: Place, library: Place, kind: str) -> None:
    revision = pin(place, "lib", library.url, library.first)
    place.fetch()
    place.export(revision, submodules=mirrors(place))
    (bare,) = mirrors(place).iterdir()
    break_mirror(bare, kind)
    assert (place.export(revision, submodules=mirrors(place)) / "lib/lib.txt").exists()


def test_a_pinned_commit_that_no_branch_leads_to_is_asked_for_by_its_hash(place: Place, library: Place) -> None:
    library.git("reset", "-q", "--hard", "HEAD^")
    library.git("config", "uploadpack.allowAnySHA1InWant", "true")
    revision = pin(place, "lib", library.url, library.first)
    place.fetch()
    assert (place.export(revision, submodules=mirrors(place)) / "lib/lib.txt").exists()


def test_a_pinned_commit_that_the_remote_does_not_have_is_a_clear_error(place: Place, library: Place) -> None:
    revision = pin(place, "lib", library.url, "1" * 40)
    place.fetch()
    with pytest.raises(errors.TreeNotExported, match=f"submodule lib is pinned to {'1' * 40}, which .* does not have"):
        place.export(revision, submodules=mirrors(place))


def test_submodules_that_are_off_are_an_error_that_names_the_key(place: Place, library: Place) -> None:
    revision = pin(place, "lib", library.url, library.first)
    place.fetch()
    with pytest.raises(errors.TreeNotExported, match="submodules") as caught:
        place.export(revision)
    assert "submodules = true" in caught.value.remedy
    assert "lib" == caught.value.details


def test_a_submodule_without_an_entry_in_gitmodules_is_an_error(place: Place, library: Place) -> None:
    place.git("update-index", "--add", "--cacheinfo", f"160000,{library.first},lib")
    place.git("commit", "-q", "-m", "no .gitmodules")
    bare = place.git("rev-parse", "HEAD")
    revision = pin(place, "other", library.url, library.first)
    place.git("update-index", "--add", "--cacheinfo", f"160000,{library.first},lib")
    place.git("commit", "-q", "--amend", "-m", "one of two")
    revision = place.git("rev-parse", "HEAD")
    place.fetch()
    for wanted in (bare, revision):
        with pytest.raises(errors.TreeNotExported, match=r"\.gitmodules"):
            place.export(wanted, submodules=mirrors(place))


@pytest.mark.parametrize(
    "url", ["ext::sh -c touch% CANARY", "--upload-pack=CANARY", "http://host/x", "../../../../../../../../x"]
)
def test_a_url_that_no_repository_may_have_is_refused(place: Place, library: Place, url: str) -> None:
    revision = pin(place, "lib", url.replace("CANARY", place.script()), library.first)
    if url.startswith("-"):  # git itself refuses one that looks like an option: transfer.fsckObjects
        with pytest.raises(errors.MirrorNotUpdated):
            place.fetch()
    else:
        place.fetch()
        with pytest.raises(errors.TreeNotExported):
            place.export(revision, submodules=mirrors(place))
    assert not place.canary.exists()


def test_a_local_url_is_refused_where_the_repository_s_may_not_be_local(place: Place, library: Place) -> None:
    revision = pin(place, "lib", library.url, library.first)
    place.fetch()
    with pytest.raises(errors.TreeNotExported, match="submodule lib: .* not allowed"):
        place.export(revision, submodules=mirrors(place), access=subject.Access())


def test_a_link_of_a_submodule_that_leads_out_of_the_tree_is_refused(place: Place, library: Place) -> None:
    (library.work / "up").symlink_to("../a.txt")  # out of the submodule, into the tree
    fine = library.commit("up")
    (library.work / "out").symlink_to("../../a.txt")
    evil = library.commit("out")
    for pinned in (fine, evil):
        revision = pin(place, "lib", library.url, pinned)
    place.fetch()
    first = place.git("rev-parse", "HEAD^")
    assert "one\n" == (place.export(first, submodules=mirrors(place)) / "lib/up").read_text()
    with pytest.raises(errors.TreeNotExported, match="lib/out"):
        place.export(revision, submodules=mirrors(place))


def test_submodules_end_at_a_depth_and_a_number(place: Place, library: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Place(library.top / "inner")
    outer = pin(library, "inner", inner.url, inner.first)
    revision = pin(place, "lib", library.url, outer)
    place.fetch()
    for name, limit in (("MOST_DEEP", 1), ("MOST", 1)):
        with monkeypatch.context() as changed:
            changed.setattr(subject, name, limit)
            with pytest.raises(errors.TreeNotExported, match="nest deeper"):
                place.export(revision, submodules=mirrors(place))
            shutil.rmtree(place.top / f"tree{place.exports}")
    assert (place.export(revision, submodules=mirrors(place)) / "lib/inner/a.txt").exists()


@pytest.mark.parametrize(
    ("base", "url", "wanted"),
    [
        ("https://host/team/shop.git", "../lib.git", "https://host/team/lib.git"),
        ("https://host/team/shop.git/", "./sub", "https://host/team/shop.git/sub"),
        ("ssh://git@host:2222/shop.git", "../../x/lib", None),
        ("git@host:team/shop.git", "../lib.git", "git@host:team/lib.git"),
        ("git@host:shop.git", "../lib.git", "git@host:lib.git"),
        ("git@host:/srv/shop.git", "../lib.git", "git@host:/srv/lib.git"),
        ("file:///srv/shop", "../a/../b", "file:///srv/b"),
        ("/srv/shop", "../lib", "/srv/lib"),
        ("/srv/shop", "../../../etc", None),
        ("https://host/shop", "https://other/lib", "https://other/lib"),
    ],
)
def test_a_relative_url_is_resolved_against_its_repository_s(base: str, url: str, wanted: str | None) -> None:
    if wanted is None:
        with pytest.raises(errors.TreeNotExported, match="climbs"):
            subject.absolute_url(base, url)
    else:
        assert wanted == subject.absolute_url(base, url)
