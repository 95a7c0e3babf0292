"""What the crash tests injected and saw, kept in crash/RESULTS.md: a row a technique, each replaced by its newest run."""

from __future__ import annotations

import fcntl
import os
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path

TABLE = Path(__file__).parent / "crash" / "RESULTS.md"
ALL = os.environ.get("BB_ALL") == "1"
HEAD = """# What the crash tests saw

Written by the tests themselves: `BB_CRASH_RESULTS=1 scripts/test tests/crash tests/systemd/test_rebooted.py`, a sample; with
`--all` every point, but of repairs that are killed too, and of failing calls that are alike, some of each kind. A row is
replaced when its technique runs again, one of `--all` not by a sample in which nothing broke; the others stay. *Of*: the
points that there are. *Injected*: faults that were set. *Hit*: those that took effect. *Broken*: states that the checker
refused, before or after the recovery, and whatever else was not as it must be. *Control*: what was broken on purpose, and found.

"""


@dataclass(frozen=True)
class Row:
    """One technique's numbers, as RESULTS.md shows them; a control that ran alone has none."""

    technique: str
    run: str = ""  # "sample" or "--all"
    of: str = ""
    injected: str = ""
    hit: str = ""
    broken: str = ""
    by_step: str = ""
    seed: str = ""
    control: str = ""
    seen: str = ""


COLUMNS = tuple(column.name for column in fields(Row))
NUMBERS = ("of", "injected", "hit", "broken")


@dataclass
class Count:
    """The numbers of one technique, as a test makes them; parts of it, each by a test of its own, add up."""

    of: int = 0  # how many points there are, all parts together; 0 where that has no number
    injected: int = 0
    hit: int = 0
    broken: int = 0
    by_step: Counter[str] = field(default_factory=Counter)
    seed: str = ""
    control: str = ""

    def one(self, *, hit: bool = True) -> None:
        """One fault was set, and took effect or not."""
        self.injected += 1
        self.hit += hit

    def add(self, other: Count) -> None:
        self.of = max(self.of, other.of)
        self.injected, self.hit, self.broken = (
            self.injected + other.injected, self.hit + other.hit, self.broken + other.broken,
        )  # fmt: skip
        self.by_step += other.by_step
        self.seed = ", ".join(dict.fromkeys(filter(None, (self.seed, other.seed))))
        self.control = "; ".join(dict.fromkeys(filter(None, (self.control, other.control))))


_counts: dict[str, Count] = {}


@contextmanager
def counted(technique: str, *, of: int = 0, seed: int | str = "") -> Iterator[Count]:
    """Count the faults of a test and what they broke; a test that fails in here has found at least one broken state."""
    count = Count(of=of, seed=str(seed))
    try:
        yield count
    except Exception:
        count.broken = max(1, count.broken)
        _counts.setdefault(technique, Count()).add(count)
        raise
    _counts.setdefault(technique, Count()).add(count)


@contextmanager
def one_of(technique: str, *, of: int) -> Iterator[None]:
    """One fault, the whole test: a decorator of it, below its parameters."""
    with counted(technique, of=of) as count:
        count.one()
        yield


@contextmanager
def controlled(technique: str, found: str = "") -> Iterator[Count]:
    """What is broken on purpose in here must be found: `found`, or what the test sets, says what; else the row says so."""
    count = Count(control=found)
    try:
        yield count
    except Exception:
        count.control = f"NOT FOUND: {count.control}"
        _counts.setdefault(technique, Count()).add(count)
        raise
    _counts.setdefault(technique, Count()).add(count)


def is_wanted() -> bool:
    """Does this session write its numbers down?"""
    return os.environ.get("BB_CRASH_RESULTS") == "1"


def row_of(technique: str, count: Count) -> Row:
    """As the table has it: with what it was made on."""
    if not (count.injected or count.broken):
        return Row(technique, control=count.control)
    return Row(
        technique, "--all" if ALL or 0 < count.of <= count.injected else "sample", str(count.of or ""),
        str(count.injected), str(count.hit), str(count.broken),
        ", ".join(f"{step or '(before)'} {number}" for step, number in sorted(count.by_step.items())),
        count.seed, count.control,
        f"{datetime.now(UTC):%Y-%m-%d}, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}",
    )  # fmt: skip


def write(path: Path = TABLE) -> None:
    """Merge what was counted into the table."""
    if not _counts:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two processes may run tests at once
        rows = read(path)
        for name, count in _counts.items():
            rows[name] = merged(rows.get(name), row_of(name, count))
        lines = ["| " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " |"]
        lines += ["|" + "|".join("---:" if name in NUMBERS else "---" for name in COLUMNS) + "|"]
        lines += ["| " + " | ".join(cells(rows[name])) + " |" for name in sorted(rows)]
        path.write_text(HEAD + "\n".join(lines) + "\n")
    finally:
        os.close(folder)


def merged(known: Row | None, row: Row) -> Row:
    """A row in the place of the known one. A control alone keeps its numbers, and numbers alone keep its control."""
    if known is None:
        return row
    control = row.control or known.control
    if not row.injected or (known.run == "--all" and row.run == "sample" and row.broken == "0"):
        return replace(known, control=control)
    return replace(row, control=control)


def cells(row: Row) -> list[str]:
    return [str(getattr(row, name)).replace("|", "/").replace("\n", " ") for name in COLUMNS]


def read(path: Path) -> dict[str, Row]:
    """The rows that the table has; none when there is no table yet."""
    found: dict[str, Row] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        words = [word.strip() for word in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if line.startswith("| ") and len(words) == len(COLUMNS) and words[0] != COLUMNS[0]:
            found[words[0]] = Row(*words)
    return found
