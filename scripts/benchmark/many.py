"""How commands fare with many releases kept: manifests copied from a real one, then a real deploy on top."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmark.contestants import BbRelease
from benchmark.measure import Figures, run
from benchmark.project import Project
from benchmark.rounds import Say, summarised

TIME = "%Y-%m-%d-%H-%M-%S"
REPEATS = 3
READ = {
    "list": ["list"],
    "status": ["status"],
    "prune --dry-run": ["prune", "--dry-run"],
    "deploy --if-changed": ["deploy", "--if-changed"],
    "switch previous": ["switch", "previous"],
}


def measure_many(contestant: BbRelease, project: Project, count: int, say: Say) -> dict[str, Any]:
    """Measure with two releases, and again with `count`; then prune them. Raises CommandFailed."""
    contestant.prepare()
    contestant.write_config(count + 100)  # nothing is pruned before it is to be
    contestant.run("cold")
    project.change_code()
    contestant.run("code")
    few = read_all(contestant, "with 2 releases", say)
    multiply(contestant.root, count)
    contestant.own()
    deployed = []
    for _ in range(REPEATS):
        project.change_code()
        os.sync()  # as before each deploy of the rounds: what `multiply` wrote is not this one's to write out
        deployed.append(contestant.run("code"))
    there = len(os.listdir(contestant.root / "releases"))
    many = read_all(contestant, f"with {count} releases", say)
    pruned = command(contestant, "prune", "--keep", "5")
    say(f"  prune of {count} releases: {pruned.seconds:.2f} s")
    left = len(os.listdir(contestant.root / "releases"))
    return {
        "releases": count, "there": there, "few": few, "many": many, "code": summarised(deployed),
        "prune": summarised([pruned]), "left_after_prune": left,
    }  # fmt: skip


def read_all(contestant: BbRelease, when: str, say: Say) -> dict[str, Any]:
    found = {}
    for name, words in READ.items():
        figures = [command(contestant, *words) for _ in range(REPEATS)]
        if name == "switch previous":
            command(contestant, "unhold")
        found[name] = summarised(figures)
        say(f"  {when}: {name:<22}{min(f.seconds for f in figures):7.2f} s")
    return found


def command(contestant: BbRelease, *words: str) -> Figures:
    return run(
        [*contestant.commands["cold"][:3], *words], env=contestant.environment(), cwd=Path("/"), log=contestant.log,
        unprivileged=contestant.ground.unprivileged,
    )  # fmt: skip


def multiply(root: Path, count: int) -> None:
    """Put `count` older releases below the real ones: what the disk says of each is a manifest and folders."""
    releases = root / "releases"
    real = sorted(releases.iterdir())
    manifests = [json.loads((folder / "release.json").read_text()) for folder in real]
    first = datetime.strptime(real[0].name, TIME).replace(tzinfo=UTC)
    for number in range(count):
        name = (first - timedelta(hours=count - number)).strftime(TIME)
        folder = releases / name
        for part in ("app", "venv", "static"):
            (folder / part).mkdir(parents=True)
        activations = [{"sequence": number + 1, "at": f"{first:%Y-%m-%d}T00:00:00+00:00", "previous": ""}]
        facts = {
            **manifests[0], "name": name, "sequence": number + 1, "activations": activations,
            "revision": f"{number:040x}",
        }  # fmt: skip
        (folder / "release.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    for folder, facts in zip(real, manifests, strict=True):  # the real ones are younger: their numbers are higher
        facts["sequence"] += count
        facts["activations"] = [{**a, "sequence": a["sequence"] + count} for a in facts["activations"]]
        (folder / "release.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
