"""The rounds: every contestant does the same, one after the other, beginning with another one each time."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields

from benchmark.contestants import Contestant
from benchmark.floor import Floor
from benchmark.measure import Figures, added_by
from benchmark.project import Project

SCENARIOS = {
    "cold": "first deploy, empty caches",
    "code": "one line of code changed",
    "requirements": "one pin changed",
    "nothing": "nothing changed",
    "back": "back to the release before",
}
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

    def summary(self) -> dict[str, object]:
        return {
            name: {scenario: summarised(found) for scenario, found in scenarios.items()}
            for name, scenarios in self.figures.items()
        }


def summarised(found: list[Figures]) -> dict[str, object]:
    """Median and minimum of each figure."""
    columns = {f.name: [getattr(each, f.name) for each in found] for f in fields(Figures)}
    return {"n": len(found), **{name: middle(values) for name, values in columns.items()}}


def middle(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4)}


def play(contestants: list[Contestant], floor: Floor, project: Project, count: int, say: Say) -> Record:
    """All rounds. Raises CommandFailed, NotDeployed, and CalledProcessError for a step of the floor."""
    record = Record()

    def measure(contestant: Contestant, scenario: str, *, moves: bool = True) -> None:
        before = contestant.live() if scenario != "cold" else None
        figures = contestant.run(scenario)
        record.figures[contestant.name][scenario].append(figures)
        say(f"  {SCENARIOS[scenario]:<28}{contestant.name:<18}{figures.link_seconds:9.2f} s")
        if moves and contestant.live() == before:
            raise NotDeployed(f"{contestant.name}, {scenario}: the link is where it was")

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
            measure(contestant, "code")
            note_steps(contestant, record)
            if number == count - 1:
                record.disk[contestant.name] = disk_of(contestant)
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
        for contestant in order:
            measure(contestant, "back")
    return record


def prove(contestant: Contestant, project: Project, record: Record) -> None:
    """The live release is the newest revision, its site imports from its own packages, its static files are there."""
    number, static = contestant.number(), contestant.static_files()
    if number != project.number or static < project.size.static_files:
        raise NotDeployed(
            f"{contestant.name}: revision {number} with {static} static files is live, wanted {project.number}"
        )
    record.proofs[contestant.name] = {"revision": number, "static_files": static}


def note_steps(contestant: Contestant, record: Record) -> None:
    """What bb-release says of its own steps, in the manifest."""
    manifest = contestant.live() / "release.json"
    if manifest.is_file():
        for step, seconds in json.loads(manifest.read_text())["steps"].items():
            record.steps[step].append(seconds)


def disk_of(contestant: Contestant) -> tuple[int, int]:
    """Bytes and inodes of the live release that are nowhere else in the root, caches included."""
    live = contestant.live()
    others = [path for path in contestant.root.iterdir() if path.name != "releases" and not path.is_symlink()]
    others += [path for path in (contestant.root / "releases").iterdir() if path != live]
    return added_by(live, others)


def as_json(record: Record) -> dict[str, object]:
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
