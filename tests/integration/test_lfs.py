"""Git LFS with the real git-lfs and its file transfer: objects in place of pointers, or a clear error."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from bb_release import errors
from bb_release.tools import lfs, process
from git_place import Place
from programs import required

PICTURE = b"a picture\n" * 1000


@pytest.fixture
def place(tmp_path: Path) -> Place:
    required("git-lfs", "git-lfs", "REQUIRE_LFS")
    made = Place(tmp_path / "site")
    made.first = add_picture(made)
    return made


def add_picture(place: Place, content: bytes = PICTURE, name: str = "media/a picture.png") -> str:
    """Commit a file through git-lfs's own filter, as `git lfs track` sets it up."""
    (place.work / ".gitattributes").write_text("*.png filter=lfs diff=lfs merge=lfs -text\n")
    (place.work / name).parent.mkdir(exist_ok=True)
    (place.work / name).write_bytes(content)
    place.git("config", "filter.lfs.clean", "git-lfs clean -- %f")
    place.git("config", "filter.lfs.smudge", "git-lfs smudge -- %f")
    place.git("config", "filter.lfs.required", "true")
    place.git("add", "-A")
    place.git("commit", "-q", "-m", "a picture")
    assert place.git("cat-file", "blob", f"HEAD:{name}").startswith("version https://git-lfs")
    return place.git("rev-parse", "HEAD")


def stored(store: Path, content: bytes = PICTURE) -> Path:
    oid = hashlib.sha256(content).hexdigest()
    return store / "lfs" / "objects" / oid[:2] / oid[2:4] / oid


def test_every_pointer_is_replaced_by_its_object(place: Place) -> None:
    (place.work / "run.png").write_bytes(b"#!/bin/sh\n")
    (place.work / "run.png").chmod(0o755)
    revision = add_picture(place)
    place.fetch()
    tree = place.export(revision, lfs=True)
    assert PICTURE == (tree / "media/a picture.png").read_bytes()
    assert [0o644, 0o755] == [(tree / name).stat().st_mode & 0o777 for name in ("media/a picture.png", "run.png")]
    assert PICTURE == stored(place.mirror).read_bytes()
    assert not (place.top / ".tree1.index").exists()


def test_a_git_that_does_not_answer_in_time_is_a_clear_failure(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.fetch()
    monkeypatch.setattr(lfs, "LOCAL_SECONDS", 0.0)
    with pytest.raises(errors.TreeNotExported, match=r"\.lfsconfig: it did not end within 0 s"):
        place.export(place.first, lfs=True)


def test_an_object_that_is_in_the_cache_is_not_fetched_again(place: Place) -> None:
    place.fetch()
    place.export(place.first, lfs=True)
    place.work.rename(place.top / "moved")
    assert PICTURE == (place.export(place.first, lfs=True) / "media/a picture.png").read_bytes()


@pytest.mark.parametrize("damage", [b"", b"x" * len(PICTURE)], ids=["empty", "other"])
def test_a_damaged_object_in_the_cache_is_fetched_anew(place: Place, damage: bytes) -> None:
    place.fetch()
    place.export(place.first, lfs=True)
    stored(place.mirror).unlink()  # it may be one file with the remote's, by a hard link
    stored(place.mirror).write_bytes(damage)
    assert PICTURE == (place.export(place.first, lfs=True) / "media/a picture.png").read_bytes()


@pytest.mark.parametrize("damage", [None, b"x" * len(PICTURE)], ids=["missing", "other"])
def test_an_object_that_the_remote_does_not_have_as_named_is_an_error(place: Place, damage: bytes | None) -> None:
    place.fetch()
    there = stored(place.work / ".git")
    there.unlink()
    if damage is not None:
        there.write_bytes(damage)
    with pytest.raises(errors.TreeNotExported, match="LFS|git-lfs") as caught:
        place.export(place.first, lfs=True)
    assert "git lfs push --all origin" in caught.value.remedy


def test_a_pointer_is_an_error_that_names_the_key_while_lfs_is_off(place: Place) -> None:
    place.fetch()
    with pytest.raises(errors.TreeNotExported, match=r"media/a picture\.png is a pointer of Git LFS") as caught:
        place.export(place.first)
    assert "lfs = true" in caught.value.remedy


def test_attributes_of_git_lfs_without_a_pointer_are_no_error(tmp_path: Path) -> None:
    place = Place(tmp_path / "plain")
    revision = place.commit("attributes", {".gitattributes": "*.png filter=lfs\n"})
    place.fetch()
    assert (place.export(revision) / ".gitattributes").exists()


def test_a_missing_git_lfs_is_an_error_that_says_how_to_install_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.fetch()
    (place.top / "bin").mkdir()
    (place.top / "bin" / "git").symlink_to("/usr/bin/git")
    monkeypatch.setattr(process, "PATH", str(place.top / "bin"))
    with pytest.raises(errors.TreeNotExported, match="git-lfs is not installed") as caught:
        place.export(place.first, lfs=True)
    assert "apt-get install git-lfs" in caught.value.remedy


def test_a_lfsconfig_may_name_another_place_that_is_checked_like_the_repository(place: Place) -> None:
    other = Place(place.top.parent / "other")
    add_picture(other)
    stored(place.work / ".git").unlink()
    (place.work / ".lfsconfig").write_text(f"[lfs]\n\turl = {other.url}\n\tfetchexclude = *\n")
    named = place.commit("another place")
    (place.work / ".lfsconfig").write_text("[lfs]\n\turl = http://127.0.0.1:1/\n\tfetchexclude = *\n")
    refused = place.commit("a refused place")
    place.git("branch", "master")  # HEAD of the mirror: git-lfs by itself reads .lfsconfig from there
    place.fetch()
    with pytest.raises(errors.ConfigurationInvalid, match="scheme"):
        place.export(refused, lfs=True)
    assert PICTURE == (place.export(named, lfs=True) / "media/a picture.png").read_bytes()


def test_an_extension_of_git_lfs_is_an_error_and_no_text_that_only_looks_like_a_pointer_is(place: Place) -> None:
    pointer = place.git("cat-file", "blob", f"{place.first}:media/a picture.png") + "\n"
    fine = place.commit("text", {"text": f"{pointer}and more\n", "empty": ""})
    lines = pointer.splitlines(keepends=True)
    extended = place.commit("extension", {"b.dat": f"{lines[0]}ext-0-x sha256:{'0' * 64}\n{''.join(lines[1:])}"})
    place.fetch()
    assert (place.export(fine, lfs=True) / "text").read_text().endswith("and more\n")
    with pytest.raises(errors.TreeNotExported, match="extension"):
        place.export(extended, lfs=True)


def test_git_lfs_in_a_submodule_comes_from_the_submodule_s_repository(place: Place, tmp_path: Path) -> None:
    site = Place(tmp_path / "outer")
    (site.work / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = sub\n\turl = {place.url}\n')
    site.git("add", "-A")
    site.git("update-index", "--add", "--cacheinfo", f"160000,{place.first},sub")
    site.git("commit", "-q", "-m", "sub")
    site.fetch()
    tree = site.export(site.git("rev-parse", "HEAD"), lfs=True, submodules=site.top / "submodules")
    assert PICTURE == (tree / "sub/media/a picture.png").read_bytes()
    assert not os.path.exists(site.mirror / "lfs" / "objects")
