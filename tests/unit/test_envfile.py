"""Holds envfile to systemd's reading of an EnvironmentFile, and to its silence about values."""

from __future__ import annotations

from pathlib import Path

import pytest

from bb_release import envfile
from bb_release.errors import ConfigurationInvalid

CANARY = "c4n4ry-v4lu3"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# a\n; b\n\n  \nA=1\n", {"A": "1"}),
        ("A=1", {"A": "1"}),
        ("  A = 1  \n", {"A": "1"}),
        ("A=\nB=2\n", {"A": "", "B": "2"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A=one two # three\n", {"A": "one two # three"}),
        ("A='one  two '\n", {"A": "one  two "}),
        ("A='a\\nb'\n", {"A": "a\\nb"}),
        ('A="a \\" \\\\ \\$ \\` \\n"\n', {"A": 'a " \\ $ ` \\n'}),
        ('A="one\ntwo"\n', {"A": "one\ntwo"}),
        ('A="one\\\ntwo"\n', {"A": "onetwo"}),
        ("A=one\\\ntwo\nB=3\n", {"A": "onetwo", "B": "3"}),
        ("A=a\\ b\\\\c\n", {"A": "a b\\c"}),
        ("A=a\\ \n", {"A": "a "}),
        ("A=\"x\" 'y'z\n", {"A": "xyz"}),
        ('A=x"y"\n', {"A": 'x"y"'}),
        ("A=$HOME=%n\n", {"A": "$HOME=%n"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=é\n", {"A": "é"}),
    ],
)
def test_a_text_is_read_as_systemd_reads_it(text: str, expected: dict[str, str]) -> None:
    assert expected == envfile.parse(text, source="x.env")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"A=1\nexport B={CANARY}\n", "line 2: `export` is the shell's"),
        (f"{CANARY}\n", "line 1: should be NAME=value"),
        (f"A=1\n{CANARY}", "line 2: should be NAME=value"),
        (f"{CANARY}==\n", "line 1: the name should be"),
        (f"1A={CANARY}\n", "line 1: the name should be"),
        (f"={CANARY}\n", "line 1: should be NAME=value"),
        (f'A=1\nB="{CANARY}\n\n', "line 2: the quote that opens here"),
        (f"A='{CANARY}\n", "line 1: the quote that opens here"),
        (f"A={CANARY}\\", "line 1: a backslash at the end"),
        (f"A={CANARY}\x00\n", "line 1: A holds a control character"),
        (f"# {CANARY}\\\nA=1\n", "line 1: a comment should not end in a backslash"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_without_the_value(text: str, line: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        envfile.parse(text, source="x.env")
    assert caught.value.details.startswith(line)
    assert CANARY not in f"{caught.value.message} {caught.value.remedy} {caught.value.details}"


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        envfile.parse('export A=1\nnothing\nB=2\nC="', source="x.env")
    assert ["line 1", "line 2", "line 4"] == [one.split(":")[0] for one in caught.value.details.splitlines()]
    assert "x.env has 3 mistakes." == caught.value.message


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_file_of_its_owner_or_group_is_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "x.env"
    path.write_text("A=1\n")
    path.chmod(mode)
    assert {"A": "1"} == envfile.read(path)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601, 0o660])
def test_a_file_that_is_open_to_others_is_refused_with_chmod_as_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "x.env"
    path.write_text(f"A={CANARY}\n")
    path.chmod(mode)
    with pytest.raises(ConfigurationInvalid) as caught:
        envfile.read(path)
    assert "chmod 600" in caught.value.remedy
    assert CANARY not in caught.value.message + caught.value.remedy + caught.value.details


def test_a_file_that_need_not_be_private_may_be_read_but_not_written_by_others(tmp_path: Path) -> None:
    path = tmp_path / "x.env"
    path.write_text("A=1\n")
    path.chmod(0o644)
    assert {"A": "1"} == envfile.read(path, private=False)
    path.chmod(0o646)
    with pytest.raises(ConfigurationInvalid) as caught:
        envfile.read(path, private=False)
    assert "chmod o-w" in caught.value.remedy


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="does not exist"):
        envfile.read(tmp_path / "none.env")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="is not a file|cannot be read"):
        envfile.read(tmp_path)


def test_bytes_that_are_not_utf_8_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "x.env"
    path.write_bytes(b"A=1\nB=\xff\n")
    path.chmod(0o600)
    with pytest.raises(ConfigurationInvalid) as caught:
        envfile.read(path)
    assert "line 2: is not UTF-8" == caught.value.details
