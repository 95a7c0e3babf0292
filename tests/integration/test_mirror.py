"""The mirror, with the real git: what it fetches, what it refuses, and what it repairs."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from bb_release import errors
from bb_release.tools import bare
from bb_release.tools import mirror as subject
from git_place import FILES, Place, break_mirror


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_is_fetched_is_resolved_and_exported_byte_for_byte(place: Place) -> None:
    place.git("tag", "-a", "v1", "-m", "v1")
    place.fetch()
    for name in ("main", "v1", place.first, place.first[:9]):
        assert subject.resolve(place.mirror, name) == place.first
    assert subject.remote_revision(place.url, "v1", FILES, timeout_seconds=60) == place.first
    assert subject.remote_revision(place.url, "absent", FILES, timeout_seconds=60) is None
    tree = place.export(place.first)
    assert (tree / "a.txt").read_text() == "one\n"
    assert [oct((tree / name).stat().st_mode & 0o777) for name in ("a.txt", "bin/run", "bin")] == [
        "0o644", "0o755", "0o755",
    ]  # fmt: skip


def test_what_a_killed_export_left_beside_the_tree_is_cleared_and_nothing_is_left_there(place: Place) -> None:
    place.fetch()
    beside = sorted(os.listdir(place.top))
    left = place.top / ".tree1.index"
    left.mkdir()
    for name in ("index", "index.lock"):
        (left / name).write_text("half")
    place.export(place.first)
    assert sorted([*beside, "tree1"]) == sorted(os.listdir(place.top))


def test_a_later_fetch_follows_new_commits_force_pushes_and_deleted_branches(place: Place) -> None:
    place.git("branch", "gone")
    place.fetch()
    second = place.commit("second")
    place.git("branch", "-D", "gone")
    place.git("branch", "gone/below")
    place.fetch()
    assert subject.resolve(place.mirror, "main") == second
    assert subject.commits_between(place.mirror, place.first, second) == [f"{second[:7]} second"]
    with pytest.raises(errors.RefNotFound):
        subject.resolve(place.mirror, "gone")
    place.git("reset", "-q", "--hard", place.first)
    other = place.commit("other")
    place.fetch()
    assert subject.resolve(place.mirror, "main") == other
    with pytest.raises(errors.RefNotFound):
        subject.commits_between(place.mirror, "0" * 40, other)


def test_a_branch_wins_over_a_tag_of_the_same_name(place: Place) -> None:
    place.git("tag", "same")
    second = place.commit("second")
    place.git("branch", "same")
    place.fetch()
    assert subject.resolve(place.mirror, "same") == second
    assert subject.remote_revision(place.url, "same", FILES, timeout_seconds=60) == second


def test_what_a_killed_git_left_does_not_block_and_branches_stay(place: Place) -> None:
    place.git("branch", "tmp_keep")
    place.fetch()
    place.commit("second")
    leftovers = [
        "refs/heads/main.lock",
        "packed-refs.lock",
        "HEAD.lock",
        "objects/pack/tmp_pack_x",
        "shallow.lock",
    ]
    for name in leftovers:
        (place.mirror / name).write_text("")
    place.fetch()
    assert not [name for name in leftovers if (place.mirror / name).exists()]
    assert subject.resolve(place.mirror, "tmp_keep") == place.first


BROKEN = ["garbage HEAD", "truncated pack", "deleted object", "empty ref", "not a repository"]


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_mirror_is_cloned_anew(place: Place, kind: str) -> None:
    place.fetch()
    break_mirror(place.mirror, kind)
    place.fetch()
    assert (place.export(subject.resolve(place.mirror, "main")) / "a.txt").exists()
    assert not [name for name in os.listdir(place.top) if name.startswith("mirror.git.")]


def lose_history(place: Place) -> Path:
    """A mirror that lost a file of an older commit only; returns the note of how it looked before."""
    gone = place.git("rev-parse", "HEAD:a.txt")
    place.commit("second", {"a.txt": "two\n"})
    place.fetch()
    break_mirror(place.mirror, "deleted object")  # as loose objects
    (place.mirror / "objects" / gone[:2] / gone[2:]).unlink()
    fresh = place.git("hash-object", "-w", "a.txt")
    target = place.mirror / "objects" / fresh[:2] / fresh[2:]
    target.parent.mkdir(exist_ok=True)
    target.write_bytes((place.work / ".git" / "objects" / fresh[:2] / fresh[2:]).read_bytes())
    return place.mirror / bare.SOUND


def test_what_an_older_commit_lost_is_seen_by_the_next_fetch(place: Place) -> None:
    lose_history(place)
    assert ["the mirror is broken; it is cloned anew"] == [line for line in place.fetch() if "mirror" in line]
    place.export(place.first)


def test_history_is_read_again_after_a_boot_and_only_then(place: Place) -> None:
    note = lose_history(place)
    bare.note_sound(place.mirror)  # a bad disk: nothing shows from outside
    third = place.commit("third")
    assert [] == [line for line in place.fetch() if "mirror" in line]
    assert third == subject.resolve(place.mirror, "main")
    boot, _, look = note.read_text().partition("\n")
    note.write_text(f"{boot[::-1]}\n{look}")
    assert ["the mirror is broken; it is cloned anew"] == [line for line in place.fetch() if "mirror" in line]
    place.export(place.first)


@pytest.mark.parametrize("kind", ["sound", *BROKEN])
def test_a_remote_that_is_gone_leaves_the_mirror_as_it_is(place: Place, kind: str) -> None:
    place.fetch()
    break_mirror(place.mirror, kind)
    before = sorted(path.name for path in place.mirror.rglob("*.pack"))
    place.work.rename(place.top / "moved")
    with pytest.raises(errors.MirrorNotUpdated) as caught:
        place.fetch()
    assert caught.value.remedy
    assert caught.value.details
    assert sorted(path.name for path in place.mirror.rglob("*.pack")) == before


@pytest.mark.parametrize("kind", ["truncated pack", "deleted object"])
def test_a_missing_object_is_a_clear_failure_of_the_export(place: Place, kind: str) -> None:
    place.fetch()
    break_mirror(place.mirror, kind)
    with pytest.raises(errors.TreeNotExported):
        place.export(place.first)


def test_a_link_within_the_tree_is_kept(place: Place) -> None:
    (place.work / "bin" / "inside").symlink_to("../a.txt")
    revision = place.commit("link")
    place.fetch()
    assert (place.export(revision) / "bin" / "inside").read_text() == "one\n"


def test_attributes_change_nothing_in_the_export(place: Place) -> None:
    place.commit("files", {"kept.txt": "x\n", "id.txt": "$Format:%H$ $Id$\n", "line.txt": "a\nb\n"})
    rules = ["kept.txt export-ignore", "id.txt export-subst ident", "line.txt text eol=crlf"]
    rules.append("a.txt working-tree-encoding=UTF-16")
    (place.work / ".gitattributes").write_text("\n".join(rules) + "\n")
    place.git("update-index", "--add", ".gitattributes")  # `add -A` would itself convert the other files
    place.git("commit", "-q", "-m", "rules")
    revision = place.git("rev-parse", "HEAD")
    place.fetch()
    tree = place.export(revision)
    assert (tree / "kept.txt").exists()
    assert (tree / "id.txt").read_bytes() == b"$Format:%H$ $Id$\n"
    assert (tree / "line.txt").read_bytes() == b"a\nb\n"


def test_of_a_tree_that_two_write_at_once_a_file_that_cannot_be_written_is_an_error(place: Place) -> None:
    many = {f"many/{number}": f"{number}\n" for number in range(300)}  # of fewer than 100 one writes all
    revision = place.commit("many", {**many, "large": "large\n" * 500_000})
    place.fetch()
    tree = place.export(revision)
    assert many == {name: (tree / name).read_text() for name in many}
    assert 3_000_000 == (tree / "large").stat().st_size

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # programs that are started have it too
    try:
        with pytest.raises(errors.TreeNotExported, match="could not be written") as caught:
            place.export(revision)
        assert "checkout worker" in caught.value.details
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
