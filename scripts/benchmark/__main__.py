"""What scripts/bench runs."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "tests"))

from benchmark import contestants, index, many, packages, report, rounds  # noqa: E402
from benchmark.floor import ASKED, COLLECTED, LINKED, NEEDED, floor  # noqa: E402
from benchmark.measure import CommandFailed  # noqa: E402
from benchmark.project import Project  # noqa: E402
from benchmark.sizes import SIZES, Size  # noqa: E402
from benchmark.text import Text  # noqa: E402
from example_site import NOBODY, agent, unprivileged  # noqa: E402

OWN = [field.name for field in fields(Size) if field.name != "name"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures bb-release beside the article's script, Fabric and Capistrano on a generated Django site."
        " Needs a package index for the real packages and Fabric; as root it installs Debian's capistrano.",
        epilog="What visitors see of a switch: scripts/bench handover --help",
    )
    parser.add_argument("--size", choices=SIZES, default="standard")
    for name in OWN:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help="instead of the size's own")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="interleaved rounds (default: 3)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed makes the same site")
    parser.add_argument("--releases", type=int, default=0, metavar="N", help="list, status, prune with N releases too")
    parser.add_argument("--alone", action="store_true", help="bb-release and the raw steps only, for those who tune it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every number")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work there, an empty folder, and leave it")
    parser.add_argument("--write", action="store_true", help="renew docs/speed.* and the README's table")
    given = parser.parse_args()
    if given.rounds < 1 or given.releases < 0:
        parser.error("--rounds is at least 1, --releases at least 0")
    if given.keep and given.keep.is_dir() and any(given.keep.iterdir()):
        parser.error(f"{given.keep} is not empty")
    if given.json and not given.json.absolute().parent.is_dir():
        parser.error(f"{given.json} lies in no folder")
    if given.write and given.alone:
        parser.error("--write shows everyone: leave out --alone")
    own = {name: value for name in OWN if (value := getattr(given, name)) is not None}
    if given.write and own:
        parser.error("--write shows the sizes that have a name")
    given.size = replace(SIZES[given.size], **own, **({"name": "own"} if own else {}))
    if problem := given.size.problem():
        parser.error(problem)
    if given.write and not report.has_place(PROJECT):
        parser.error("README.md has no place, or more than one, for the table of speed")
    return given


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended, and the folder removed
    folder = given.keep or Path(tempfile.mkdtemp(prefix="bb-bench-"))
    folder = folder.absolute()
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    try:
        tell(measure(folder, given), given)
    except (CommandFailed, rounds.NotDeployed, subprocess.CalledProcessError) as error:
        sys.exit(f"scripts/bench: {error}")
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)


def tell(facts: dict[str, Any], given: argparse.Namespace) -> None:
    """The table, and where it is wanted the numbers and the project's own page."""
    say("\n" + report.terminal(facts))
    if given.json:
        given.json.write_text(json.dumps(facts, indent=1) + "\n")
    if given.write:
        report.write(PROJECT, facts)


def generate(index_folder: Path, project: Project, seed: int, versions: int) -> int:
    """Write the index and the site; returns how many files its packages have."""
    text = Text(seed)
    installed = packages.make_index(index_folder, project.size, text, versions=versions)
    project.make(text)
    return installed


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Generate, play the rounds, and return every number."""
    size: Size = given.size
    uv = Path(shutil.copy2(PROJECT / ".venv" / "bin" / "uv", folder / "uv"))  # where the unprivileged user can run it
    say(f"a site of {size.files} files and {size.packages} packages, made from seed {given.seed}")
    began = time.monotonic()
    project = Project(folder / "repository", size, unprivileged())
    with multiprocessing.get_context("fork").Pool(1) as pool:  # what it needs of memory is not in later numbers
        installed = pool.apply(generate, (folder / "index", project, given.seed, given.rounds + 1))
    shutil.copytree(Path(__file__).parent / "recipes", folder / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", folder], check=True)
    project.begin()
    with index.serving(folder / "index") as url:
        ground = contestants.Ground(folder, project.repository, url, folder / "recipes", unprivileged())
        program = agent()
        peers, left_out = ([], ["all others (--alone)"]) if given.alone else contestants.peers(ground, uv)
        taking_part = [contestants.bb_release(ground, program), *peers]
        say(f"ready after {time.monotonic() - began:.0f} s; left out: {', '.join(left_out) or 'nobody'}")
        ways = floor(ground, uv)
        load = os.getloadavg()[0]
        record = rounds.play(taking_part, ways, project, given.rounds, say)
        facts: dict[str, Any] = {
            "size": {**vars(size), "installed_files": installed}, "seed": given.seed, "rounds": given.rounds,
            "measured_on": datetime.now(UTC).strftime("%Y-%m-%d"), "cores": os.cpu_count(),
            "load": [round(load, 1), round(os.getloadavg()[0], 1)],
            "python": platform.python_version(), "git": contestants.said(["git", "--version"], ground),
            "versions": {each.name: each.version for each in taking_part}, "left_out": left_out,
            **rounds.as_json(record),
            "floor": {name: rounds.middle(values) for name, values in ways.steps()},
            "floor_sums": {
                "collected": rounds.middle(ways.sums(*NEEDED, COLLECTED)),
                "linked": rounds.middle(ways.sums(*NEEDED, LINKED)),
                "asked": rounds.middle(ways.sums(*ASKED)),
            },
        }  # fmt: skip
        if given.releases:
            contestant = contestants.bb_release(ground, program, "many")
            facts["many"] = many.measure_many(contestant, project, given.releases, say)
    return facts


if __name__ == "__main__":
    main()
