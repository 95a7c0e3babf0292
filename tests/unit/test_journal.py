"""The history: one line an event, and a torn one harms no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bb_release.errors import PreflightFailed
from bb_release.model import journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def events(path: Path, count: int = 100) -> list[str]:
    return [line["event"] for line in journal.read(path, count)]


def test_there_is_no_history_before_the_first_line(path: Path) -> None:
    assert [] == journal.read(path, 10)


def test_lines_come_back_oldest_first_and_only_the_last_of_them(path: Path) -> None:
    for number in range(5):
        journal.write(path, "site", f"event-{number}", number=number)
    assert ["event-3", "event-4"] == events(path, 2)
    assert {"event": "event-4", "number": 4} == {k: v for k, v in journal.read(path, 1)[0].items() if k != "at"}


def test_each_event_is_one_line_that_only_the_owner_reads(path: Path) -> None:
    journal.write(path, "site", "failed", details="one\ntwo", where=Path("/srv"))
    assert 1 == len(path.read_text().splitlines())
    assert 0o600 == path.stat().st_mode & 0o777
    assert ("one\ntwo", "/srv") == (journal.read(path, 1)[0]["details"], journal.read(path, 1)[0]["where"])


@pytest.mark.parametrize("torn", [b'{"at": "2026-03-01T12:0', b"\xff\xfe", b'"a word"', b'{"event": "\xc3'])
def test_a_torn_last_line_is_left_out(path: Path, torn: bytes) -> None:
    journal.write(path, "site", "whole")
    with path.open("ab") as file:
        file.write(torn)
    assert ["whole"] == events(path)


def test_a_line_after_a_torn_one_is_not_lost(path: Path) -> None:
    journal.write(path, "site", "whole")
    with path.open("ab") as file:
        file.write(b'{"at": "2026-03-01T12:0')
    journal.write(path, "site", "after")
    journal.write(path, "site", "later")
    assert ["whole", "after", "later"] == events(path)


def test_a_link_in_place_of_the_journal_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        journal.write(path, "site", "event")


def test_a_pipe_or_a_second_name_of_a_file_is_no_journal(path: Path, tmp_path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(PreflightFailed, match="not a file of our own"):
        journal.write(path, "site", "event")
    with pytest.raises(OSError, match="no plain file"):
        journal.read(path, 1)
    path.unlink()
    (tmp_path / "victim").write_text("kept")
    path.hardlink_to(tmp_path / "victim")
    with pytest.raises(PreflightFailed, match="not a file of our own"):
        journal.write(path, "site", "event")
    assert "kept" == (tmp_path / "victim").read_text()
