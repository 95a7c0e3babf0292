"""The README says what the program does: its commands, its codes, and the shape of what the demo prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bb_release import errors
from bb_release.cli import command_line

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
SECURITY = (PROJECT / "SECURITY.md").read_text(encoding="utf-8")
EXIT_CODES = (0, 1, 2, 3, 4, 10, 11, 12, 20, 21, 130)
ERRORS = sorted([*errors.ReleaseError.__subclasses__(), errors.Interrupted], key=lambda kind: kind.code)

# What differs from run to run, in the order in which it is replaced.
VARYING = (
    (r"since:\s+\S.*", "since: TIME"),
    (r"\bby \S.*? since ", "by USER since "),
    (r"\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d", "NAME"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "TIME"),
    (r"(?<![\w.:/])/(?:[\w.-]+/)*bb-\w+", "PATH"),
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{7,40}\b|\b[0-9a-f]{40}\b|(?<=\()[0-9a-f]{7}(?=[),])", "HASH"),
    (r"\s+\d+\.\d+ s$", " S"),
    (r"(127\.0\.0\.1|localhost):\d+", r"\1:PORT"),
    (r"\bprocess \d+", "process PID"),
)


def shape(text: str) -> str:
    """The text without what differs from run to run: names, hashes, seconds, paths, ports, processes, times."""
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def demo_block() -> str:
    """What the README shows of scripts/demo."""
    found = re.search(r"<!-- demo -->\n```text\n(.*?)\n```\n<!-- /demo -->", README, re.DOTALL)
    assert found, "the README has no demo block"
    return found[1]


def table(heading: str) -> list[str]:
    """The first cells of the README's table below a heading, without its head."""
    section = README.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [row.split("|")[1].strip() for row in rows[2:]]


def test_the_first_two_commands_are_the_demo_and_the_tests() -> None:
    commands = re.findall(r"^```sh\n(.*?)\n```$", README, re.DOTALL | re.MULTILINE)
    assert ["scripts/demo", "scripts/test"] == commands[:2]


@pytest.mark.parametrize("name", sorted(command_line.commands))
def test_every_command_is_in_the_table_of_commands(name: str) -> None:
    named = [word for cell in table("## Commands") for word in re.findall(r"`([a-z]+)", cell)]
    assert name in named


def test_the_table_of_commands_names_each_once_and_no_other() -> None:
    named = [word for cell in table("## Commands") for word in re.findall(r"`([a-z]+)", cell)]
    assert sorted(command_line.commands) == sorted(named)


def test_the_table_of_exit_codes_has_each_of_them_once() -> None:
    assert [str(code) for code in EXIT_CODES] == table("### Exit codes")


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.code)
def test_every_kind_of_error_has_a_listed_exit_code(kind: type[errors.Explained]) -> None:
    assert kind.exit_code in EXIT_CODES


def test_the_table_of_error_codes_has_every_kind_once_and_no_other() -> None:
    assert [kind.code for kind in ERRORS] == sorted(cell.strip("`") for cell in table("### Error codes"))


def test_every_promise_of_security_names_tests_that_there_are() -> None:
    rows = SECURITY.split("## What is promised")[1].split("\n## ")[0].splitlines()
    promises = [row for row in rows if row.startswith("|")][2:]
    assert [] == [row for row in promises if "`tests/" not in row]
    named = re.findall(r"`(tests/[^`]+)`", SECURITY)
    assert [] == [name for name in named if not (PROJECT / name).exists()]


def test_every_test_of_security_stands_behind_a_promise() -> None:
    there = [path.relative_to(PROJECT).as_posix() for path in (PROJECT / "tests/security").glob("test_*.py")]
    assert [] == [name for name in there if name not in SECURITY]


def test_the_shape_of_the_demo_has_nothing_left_that_differs_from_run_to_run() -> None:
    left = re.findall(r"\d{4}-\d\d-\d\d|\b[0-9a-f]{7,}\b|/tmp/|\d\d:\d\d|process \d", shape(demo_block()))
    assert [] == left


def test_the_shape_of_two_runs_is_the_same_and_of_another_output_is_not() -> None:
    one = "release 2026-11-23-12-45-23 from main (9be01d2)\n  migrate    0.9 s\n  unit: web: RUNNING, process 12"
    two = "release 2027-01-02-01-05-03 from main (abcdefa)\n  migrate   10.1 s\n  unit: web: RUNNING, process 4321"
    assert shape(one) == shape(two)
    assert shape(one) != shape(two.replace("migrate", "verify"))
