"""Files that are whole or not there, and the space kept for a full disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bb_release.errors import StateUnreadable, StorageFailed
from bb_release.model import durable


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


class Disk:
    """Stands in for a disk that refuses the first writes."""

    def __init__(self, *refusals: int) -> None:
        self.refusals = list(refusals)
        self.writes = 0

    def __call__(self) -> None:
        self.writes += 1
        if self.refusals:
            number = self.refusals.pop(0)
            raise OSError(number, os.strerror(number), "/srv/site/state/file")


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mask", [0o077, 0o000])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_the_mode_it_was_given_whatever_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    os.umask(mask)
    durable.put(tmp_path / "file", b"content", mode=mode)
    assert mode == (tmp_path / "file").stat().st_mode & 0o777


def test_put_replaces_the_content_and_leaves_no_staging_file(tmp_path: Path) -> None:
    for content in (b"long content", b"short", b""):
        durable.put(tmp_path / "file", content)
        assert content == (tmp_path / "file").read_bytes()
        assert ["file"] == os.listdir(tmp_path)


def test_a_staging_file_that_a_crash_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / f".file{durable.STAGING}").write_text("torn")
    durable.put(tmp_path / "file", b"whole")
    assert ["file"] == os.listdir(tmp_path)


def test_a_link_in_place_of_the_file_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "file").symlink_to("victim")
    durable.put(tmp_path / "file", b"new")
    assert "untouched" == (tmp_path / "victim").read_text()
    assert not (tmp_path / "file").is_symlink()


def test_a_put_that_is_refused_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="directory"):
        durable.put(tmp_path / "file", b"new")
    assert (tmp_path / "file").is_dir()


def test_json_comes_back_as_it_was_put(tmp_path: Path) -> None:
    value = {"b": [1, None], "a": "é"}
    durable.put_json(tmp_path / "file", value)
    assert value == durable.read_json(tmp_path / "file")
    assert durable.read_json(tmp_path / "missing") is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_json_that_cannot_be_read_is_never_guessed_at(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(StateUnreadable) as caught:
        durable.read_json(tmp_path / "file")
    assert str(tmp_path / "file") in caught.value.remedy


def test_the_reserve_is_filled_once_mended_and_given_up(tmp_path: Path) -> None:
    reserve = tmp_path / "reserve"
    assert not durable.give_up_reserve(reserve)
    durable.fill_reserve(reserve, files=3, size=10)
    (reserve / "1").write_bytes(b"short")
    (reserve / "2").unlink()
    durable.fill_reserve(reserve, files=3, size=10)
    assert {"0": 10, "1": 10, "2": 10} == {p.name: p.stat().st_size for p in reserve.iterdir()}
    assert durable.give_up_reserve(reserve)
    assert [] == list(reserve.iterdir())
    assert not durable.give_up_reserve(reserve)


@pytest.mark.parametrize("number", durable.FULL)
def test_a_full_disk_gets_the_reserve_and_the_write_is_done_once_more(tmp_path: Path, number: int) -> None:
    durable.fill_reserve(tmp_path / "reserve", files=2, size=10)
    disk = Disk(number)
    durable.with_reserve(tmp_path / "reserve", disk)
    assert 2 == disk.writes
    assert [] == os.listdir(tmp_path / "reserve")


def test_a_disk_still_full_without_the_reserve_is_a_storage_failure(tmp_path: Path) -> None:
    durable.fill_reserve(tmp_path / "reserve", files=2, size=10)
    disk = Disk(errno.ENOSPC, errno.ENOSPC)
    with pytest.raises(StorageFailed, match=r"could not write /srv/site/state/file: No space left") as caught:
        durable.with_reserve(tmp_path / "reserve", disk)
    assert 2 == disk.writes
    assert "free some space" in caught.value.remedy


def test_a_full_disk_without_a_reserve_is_not_tried_again(tmp_path: Path) -> None:
    disk = Disk(errno.ENOSPC)
    with pytest.raises(StorageFailed):
        durable.with_reserve(tmp_path / "reserve", disk)
    assert 1 == disk.writes


def test_another_refusal_keeps_the_reserve(tmp_path: Path) -> None:
    durable.fill_reserve(tmp_path / "reserve", files=2, size=10)
    disk = Disk(errno.EIO)
    with pytest.raises(StorageFailed) as caught:
        durable.with_reserve(tmp_path / "reserve", disk)
    assert 1 == disk.writes
    assert 2 == len(os.listdir(tmp_path / "reserve"))
    assert "bb-release recover" in caught.value.remedy


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["/srv/a b/sets"], "its mode: namei -l '/srv/a b/sets'; let"),
        (["../releases/x", None, "/srv/slots/blue"], "its mode: namei -l /srv/slots/blue; let"),
        (["/srv/from", None, "/srv/to"], "its mode: namei -l /srv/to; let"),
        (["sets"], "its mode; let"),
        ([], "its mode; let"),
        ([3], "its mode; let"),
    ],
)
def test_what_may_not_be_written_is_told_with_whose_it_is(number: int, names: list[object], told: str) -> None:
    failed = durable.storage_failed(OSError(number, os.strerror(number), *names))
    assert told in failed.remedy
    assert failed.remedy.endswith(durable.RECOVER)


@pytest.mark.parametrize("number", durable.ODD)
def test_a_link_or_a_folder_in_the_place_of_ours_is_no_matter_of_the_disk(number: int) -> None:
    failed = durable.storage_failed(OSError(number, os.strerror(number), "/srv/a b/lock"))
    assert "ls -ld '/srv/a b/lock'" in failed.remedy
    assert failed.remedy.endswith(durable.RECOVER)


def test_only_the_refusal_of_a_place_is_none_of_our_bugs() -> None:
    assert durable.is_refusal(OSError(errno.EACCES, "x", "/srv"))
    assert durable.is_refusal(OSError(errno.EIO, "x", "/srv"))
    assert not durable.is_refusal(OSError(errno.EACCES, "x"))
    assert not durable.is_refusal(OSError(errno.ENOENT, "x", "/srv"))


def test_a_folder_where_a_file_is_read_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        durable.read_plain(tmp_path)
    assert (errno.EISDIR, str(tmp_path)) == (caught.value.errno, caught.value.filename)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("cp: /srv: No space left on device", durable.MAKE_ROOM),
        ("OSError: [Errno 30] Read-only file system: '/srv'", durable.MEND),
        ("OperationalError: attempt to write a readonly database", "see whether the user who deploys may write"),
        ("Permission denied (publickey).", ""),
    ],
)
def test_what_a_program_says_of_the_disk_has_its_remedy(said: str, told: str) -> None:
    remedy = durable.remedy_for(f"first\n{said}\nlast")
    assert remedy.startswith(told)
    assert bool(told) == bool(remedy)


def test_what_a_killed_put_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".pins.json.new", ".1.new", "pins.json", "a.new", ".hidden"):
        (tmp_path / name).touch()
    durable.remove_staged(tmp_path)
    assert {"pins.json", "a.new", ".hidden"} == {path.name for path in tmp_path.iterdir()}
    durable.remove_staged(tmp_path / "no such folder")
