"""What the crash tests injected and saw, kept in RESULTS.md: a row a technique, each replaced by its newest run."""

from __future__ import annotations

import fcntl
import os
import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

TABLE = Path(__file__).with_name("RESULTS.md")
COLUMNS = ("technique", "injected", "hit", "broken", "seed", "control", "seen")
HEAD = """# What the crash tests saw

Written by the tests themselves: `BB_CRASH_RESULTS=1 scripts/test tests/crash`, a sample; with `--all` every point.
A row is replaced when its technique runs again; the others stay. *Injected*: faults that were set. *Hit*: those that took effect. *Broken*:
states that the checker refused, before or after the recovery. *Control*: what was broken on purpose, and found.

"""


@dataclass(frozen=True)
class Row:
    """One technique's numbers, as RESULTS.md shows them."""

    technique: str
    injected: str
    hit: str
    broken: str
    seed: str = ""
    control: str = ""
    seen: str = ""


_rows: dict[str, Row] = {}


def record(technique: str, *, injected: int, hit: int, broken: int, seed: int | str = "", control: str = "") -> None:
    """Note the numbers of one technique. Called more than once for the same name in one run, they add up."""
    known = _rows.get(technique)
    if known:
        injected, hit, broken = injected + int(known.injected), hit + int(known.hit), broken + int(known.broken)
        seed = ", ".join(dict.fromkeys(filter(None, (known.seed, str(seed)))))
        control = "; ".join(dict.fromkeys(filter(None, (known.control, control))))
    seen = f"{datetime.now(UTC):%Y-%m-%d}, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    _rows[technique] = Row(technique, str(injected), str(hit), str(broken), str(seed), control, seen)


def is_wanted() -> bool:
    """Does this session write its numbers down?"""
    return os.environ.get("BB_CRASH_RESULTS") == "1"


def write(path: Path = TABLE) -> None:
    """Merge what was recorded into the table."""
    if not _rows:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two processes may run tests at once
        known = read(path)
        rows = {**known, **{name: merged(known.get(name), row) for name, row in _rows.items()}}
        lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---:|---:|---:|---|---|---|"]
        lines += ["| " + " | ".join(cells(rows[name])) + " |" for name in sorted(rows)]
        path.write_text(HEAD + "\n".join(lines) + "\n")
    finally:
        os.close(folder)


def merged(known: Row | None, row: Row) -> Row:
    """A row in the place of the known one; a control alone keeps its numbers, and numbers alone keep its control."""
    if known and row.injected == "0":
        return replace(known, control=row.control)
    return replace(row, control=row.control or known.control) if known else row


def cells(row: Row) -> list[str]:
    return [str(getattr(row, name)).replace("|", "/").replace("\n", " ") for name in COLUMNS]


def read(path: Path) -> dict[str, Row]:
    """The rows that the table has; none when there is no table yet."""
    found: dict[str, Row] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        words = [word.strip() for word in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and len(words) == len(COLUMNS) and words[0] != COLUMNS[0]:
            found[words[0]] = replace(Row(*words[:4]), seed=words[4], control=words[5], seen=words[6])
    return found
