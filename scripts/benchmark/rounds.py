"""The rounds: every contestant does the same, one after the other, beginning with another one each time."""

from __future__ import annotations

import json
import os
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

from benchmark.contestants import Contestant
from benchmark.floor import Floor
from benchmark.measure import Figures, added_by, swapped_at
from benchmark.project import Project

SCENARIOS = {
    "cold": "first deploy, empty caches",
    "code": "one line of code changed",
    "requirements": "one pin changed",
    "static": "one style sheet changed",
    "nothing": "nothing changed",
    "back": "back to the release before",
    "rollback": "back from a bad release",
}
WAYS_BACK = ("back", "rollback")
# until the link was swapped; for the way back the whole command, since Capistrano packs and removes after it
COUNTED = {scenario: "seconds" if scenario in WAYS_BACK else "link_seconds" for scenario in SCENARIOS}
Say = Callable[[str], None]


class NotDeployed(Exception):
    """A contestant ended well, and did not do what it is measured for."""


@dataclass
class Record:
    """What was measured: contestant, scenario, and one entry for each time."""

    figures: dict[str, dict[str, list[Figures]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    steps: dict[str, list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )  # of bb-release's code-only deploys
    disk: dict[str, tuple[int, int]] = field(default_factory=dict)
    proofs: dict[str, dict[str, object]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        return {
            name: {scenario: summarised(found) for scenario, found in scenarios.items()}
            for name, scenarios in self.figures.items()
        }


def summarised(found: list[Figures]) -> dict[str, Any]:
    """Median and minimum of each figure."""
    columns = {f.name: [getattr(each, f.name) for each in found] for f in fields(Figures)}
    return {"n": len(found), **{name: middle(values) for name, values in columns.items()}}


def middle(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4)}


def play(contestants: list[Contestant], floor: Floor, project: Project, count: int, say: Say) -> Record:
    """All rounds. Raises CommandFailed, NotDeployed, and CalledProcessError for a step of the floor."""
    record = Record()

    def measure(contestant: Contestant, scenario: str, *, moves: bool = True) -> Figures:
        before = contestant.live() if scenario != "cold" else None
        os.sync()  # what the one before left to be written is not paid for by this one
        figures = contestant.run(scenario)
        record.figures[contestant.name][scenario].append(figures)
        say(f"  {SCENARIOS[scenario]:<28}{contestant.name:<18}{getattr(figures, COUNTED[scenario]):9.2f} s")
        if moves and contestant.live() == before:
            raise NotDeployed(f"{contestant.name}, {scenario}: the link is where it was")
        return figures

    for contestant in contestants:
        contestant.prepare()
        measure(contestant, "cold")
        prove(contestant, project, record)
    floor.prepare()
    for number in range(count):
        turn = number % len(contestants)
        order = contestants[turn:] + contestants[:turn]
        say(f"round {number + 1} of {count}")
        project.change_code()
        for contestant in order:
            note_steps(contestant, measure(contestant, "code"), record)
            if number == count - 1:
                record.disk |= disk_of(contestant)
            prove(contestant, project, record)
        floor.release()
        project.change_requirements()
        for contestant in order:
            measure(contestant, "requirements")
            prove(contestant, project, record)
        floor.renew()
        for contestant in order:
            if contestant.adds_nothing or number == 0:  # the others make a whole release again: once is enough
                measure(contestant, "nothing", moves=not contestant.adds_nothing)
        project.change_static()
        for contestant in order:
            measure(contestant, "static")
            prove(contestant, project, record)
        for scenario in WAYS_BACK:
            for contestant in order:
                measure(contestant, scenario)
        if number < count - 1:  # the next round begins with the newest revision live
            for contestant in order:
                contestant.run("code")
    return record


def prove(contestant: Contestant, project: Project, record: Record) -> None:
    """The live release is the newest revision, its site imports from its own packages, its static files are there."""
    number, static = contestant.number(), contestant.static_files()
    if number != project.number or static < project.size.static_files:
        raise NotDeployed(
            f"{contestant.name}: revision {number} with {static} static files is live, wanted {project.number}"
        )
    record.proofs[contestant.name] = {"revision": number, "static_files": static}


def note_steps(contestant: Contestant, figures: Figures, record: Record) -> None:
    """Where the time went, as bb-release's log of that run tells it: the program's start, what is before, each step."""
    logs = sorted((contestant.root / "logs").glob("*-deploy.log"))
    if not logs:
        return
    lines = [json.loads(line) for line in logs[-1].read_text().splitlines()]
    began_at = swapped_at(contestant.link) - figures.link_seconds
    first = next(line for line in lines if line["event"] == "step_started")
    record.steps["start of the program, lock"].append(moment(lines[0]) - began_at)
    record.steps["recover, preflight, fetch"].append(moment(first) - moment(lines[0]))
    for line in lines:
        if line["event"] == "step_finished":
            record.steps[line["step"]].append(line["seconds"])


def moment(line: dict[str, str]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def disk_of(contestant: Contestant) -> dict[str, tuple[int, int]]:
    """Bytes and inodes of the live release that are nowhere else in the root, caches included.

    What it has for the next release goes there with the next deploy, and is counted apart.
    """
    live = contestant.live()
    others = [path for path in contestant.root.iterdir() if path.name != "releases" and not path.is_symlink()]
    others += [path for path in (contestant.root / "releases").iterdir() if path != live]
    moves_on = [*live.glob(".static-ahead-*")]
    size, count = added_by([live], others)
    if not moves_on:
        return {contestant.name: (size, count)}
    next_size, next_count = added_by(moves_on, [*others, *set(live.iterdir()).difference(moves_on)])
    return {
        contestant.name: (size - next_size, count - next_count),
        f"{contestant.name}, beside the live one: for the next": (next_size, next_count),
    }


def as_json(record: Record) -> dict[str, Any]:
    return {
        "results": record.summary(),
        "every": {
            name: {scenario: [asdict(each) for each in found] for scenario, found in scenarios.items()}
            for name, scenarios in record.figures.items()
        },
        "steps": {name: middle(values) for name, values in record.steps.items()},
        "disk": {name: {"mb": round(size / 1e6, 1), "inodes": count} for name, (size, count) in record.disk.items()},
        "proofs": record.proofs,
    }
