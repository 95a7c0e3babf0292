"""What was measured, for people: a table on the terminal, the README's table, docs/speed.md and its plot."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmark import plot
from benchmark.floor import COLLECTED, LINKED
from benchmark.rounds import COUNTED, SCENARIOS
from benchmark.sizes import SIZES

Facts = dict[str, Any]
AGENT = "bb-release"
BEGIN, END = "<!-- speed -->\n", "<!-- /speed -->"
LEGEND = (
    "s: to the swapped link, for the way back to the end. x: times bb-release's. below: of the programs it started."
)
PLACE = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
FLOOR_OF = {"code": ("collected", "linked"), "nothing": ("asked",)}
FLOOR_NAMES = {
    "collected": "floor: raw steps, all static files collected",
    "linked": "floor: raw steps, unchanged static files linked",
    "asked": "floor: git ls-remote and a Python start",
}


def seconds(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def ratio(value: float) -> str:
    return f"{value:.2f} x" if value < 10 else f"{value:.0f} x"


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows below each other: the first column to the left, numbers to the right."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())
    return "\n".join(lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def scenario_rows(facts: Facts, scenario: str) -> list[list[str]]:
    """One line for each contestant, and for the floor where there is one."""
    counted = COUNTED[scenario]
    rows = [["", "s", "min", "n", "x", "link s", "whole s", "CPU s own", "below", "peak MB own", "below"]]
    own = facts["results"][AGENT][scenario][counted]["median"]
    for name, scenarios in facts["results"].items():
        found = scenarios.get(scenario)
        if found is None:
            continue
        middle = {key: value["median"] for key, value in found.items() if key != "n"}
        rows.append(
            [
                name, seconds(middle[counted]), seconds(found[counted]["min"]), str(found["n"]),
                ratio(middle[counted] / own), seconds(middle["link_seconds"]), seconds(middle["seconds"]),
                seconds(middle["own_cpu"]), seconds(middle["below_cpu"]), f"{middle['own_peak_mb']:.0f}",
                f"{middle['below_peak_mb']:.0f}",
            ]
        )  # fmt: skip
    for key in FLOOR_OF.get(scenario, ()):
        found = facts["floor_sums"][key]
        rows.append(
            [FLOOR_NAMES[key], seconds(found["median"]), seconds(found["min"]), str(facts["rounds"]),
             ratio(found["median"] / own), *[""] * 6]
        )  # fmt: skip
    return rows


def described(facts: Facts) -> str:
    """What was deployed, and where."""
    size = facts["size"]
    return (
        f"{size['files']:,} files of which {size['static_files']:,} static, {size['packages']} packages with"
        f" {size['installed_files']:,} files, {size['migrations']:,} migrations, {size['commits']:,} commits;"
        f" interleaved rounds: {facts['rounds']},"
        f" on {facts['cores']} cores, load {facts['load'][0]} before and {facts['load'][1]} after;"
        f" {facts['measured_on']}, Python {facts['python']}, {facts['git']}"
    )


def floor_rows(facts: Facts) -> list[list[str]]:
    rows = [["raw step", "s", "min"]]
    for name, found in facts["floor"].items():
        mark = {COLLECTED: " (all)", LINKED: " (instead)"}.get(name, "")
        rows.append([name + mark, f"{found['median']:.3f}", f"{found['min']:.3f}"])
    return rows


def step_rows(facts: Facts) -> list[list[str]]:
    rows = [["step of bb-release", "s", "min"]]
    return rows + [[name, f"{found['median']:.3f}", f"{found['min']:.3f}"] for name, found in facts["steps"].items()]


def disk_rows(facts: Facts) -> list[list[str]]:
    rows = [["one more code-only release", "MB", "files and folders"]]
    return rows + [[name, f"{found['mb']:.0f}", f"{found['inodes']:,}"] for name, found in facts["disk"].items()]


def many_rows(facts: Facts) -> list[list[str]]:
    """Empty without --releases."""
    many = facts.get("many")
    if not many:
        return []
    rows = [["bb-release", "2 releases, s", f"{many['there']:,} releases, s", "x"]]
    for name, found in many["many"].items():
        few, now = many["few"][name]["seconds"]["median"], found["seconds"]["median"]
        rows.append([name, seconds(few), seconds(now), ratio(now / few)])
    rows.append(["deploy, one line of code changed", "", seconds(many["code"]["link_seconds"]["median"]), ""])
    rows.append([f"prune of {many['releases']:,}", "", seconds(many["prune"]["seconds"]["median"]), ""])
    return rows


def sections(facts: Facts) -> Iterable[tuple[str, list[list[str]]]]:
    """Every table, with what it shows."""
    for scenario, words in SCENARIOS.items():
        yield words, scenario_rows(facts, scenario)
    yield "disk, hard links counted once", disk_rows(facts)
    yield "the floor", floor_rows(facts)
    yield "where a code-only deploy goes", step_rows(facts)
    if facts.get("many"):
        yield "many releases kept", many_rows(facts)


def terminal(facts: Facts) -> str:
    parts = [f"{facts['size']['name']}: {described(facts)}"]
    parts += [f"{words}\n{columns(rows)}" for words, rows in sections(facts)]
    parts += [f"left out: {', '.join(facts['left_out'])}"] if facts["left_out"] else []
    return "\n\n".join(
        [
            *parts,
            LEGEND,
        ]
    )


def readme_table(facts: Facts) -> str:
    """One line for each scenario, one column for each contestant."""
    names = list(facts["results"])
    rows = [["seconds", *names, "raw steps"]]
    for scenario, words in SCENARIOS.items():
        cells = [
            seconds(facts["results"][name][scenario][COUNTED[scenario]]["median"])
            if scenario in facts["results"][name] else "" for name in names
        ]  # fmt: skip
        floors = [seconds(facts["floor_sums"][key]["median"]) for key in FLOOR_OF.get(scenario, ())]
        rows.append([words, *cells, " or ".join(floors)])
    megabytes = [f"{facts['disk'][name]['mb']:.0f} MB" for name in names]
    return markdown([*rows, ["disk for one more release, only code changed", *megabytes, ""]])


def write(project: Path, facts: Facts) -> None:
    """Renew docs/speed.json with this size's numbers, and from it the page, the plot and the README's table."""
    docs = project / "docs"
    docs.mkdir(exist_ok=True)
    kept = docs / "speed.json"
    known: dict[str, Facts] = json.loads(kept.read_text()) if kept.is_file() else {}
    known[facts["size"]["name"]] = {key: value for key, value in facts.items() if key != "every"}
    known = {name: known[name] for name in SIZES if name in known}
    kept.write_text(json.dumps(known, indent=1) + "\n")
    (docs / "speed.svg").write_text(plot.drawn(known))
    (docs / "speed.md").write_text(page(known))
    readme = project / "README.md"
    shown = known.get("standard") or facts
    told = f"{BEGIN}{readme_table(shown)}\n{described(shown)}.\n{END}"
    readme.write_text(PLACE.sub(lambda _: told, readme.read_text()))


def has_place(project: Path) -> bool:
    """Does the README have exactly one place for the table?"""
    return len(PLACE.findall((project / "README.md").read_text())) == 1


def page(known: dict[str, Facts]) -> str:
    """docs/speed.md: how it is measured, then every table of every size."""
    parts = [Path(__file__).with_name("page.md").read_text()]
    for name, facts in known.items():
        versions = "; ".join(f"{who}: {what}" for who, what in facts["versions"].items() if who != AGENT)
        parts.append(f"## {name.capitalize()}\n\n{described(facts)}. {versions}.\n")
        for words, rows in sections(facts):
            parts.append(f"### {name.capitalize()}: {words}\n\n{markdown(rows)}")
    return "\n".join(parts)
