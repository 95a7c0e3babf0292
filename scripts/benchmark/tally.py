"""What visitors saw of a handover: from visits to figures, tables, docs/handover.md and the README's table."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.report import markdown
from benchmark.visitors import OK, Visit

Facts = dict[str, Any]
WAYS = {
    "steady": "nothing, the steady state",
    "build": "nothing; a release is built, its packages anew",
    "restart": '`"restart"`',
    "hup": "a reload (HUP), not by bb-release",
    "socket": '`"socket"`',
    "blue-green": '`"blue-green"`',
}
NO_SWITCH = ("steady", "build")
BEGIN, END = "<!-- handover -->\n", "<!-- /handover -->"
PLACE = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)


class NotMeasured(Exception):
    """Before the switch the site was not well, or another release's; or nobody was answered since."""


def percentile(values: Sequence[float], part: float) -> float:
    """The least of sorted values that `part` of all (0 to 1) do not exceed: the nearest rank."""
    return values[max(math.ceil(part * len(values)), 1) - 1]


def tally(
    visits: Sequence[Visit], began: float, ended: float, live: str, release: str, *, until: float = math.inf
) -> Facts:
    """One switch from a release to another. `began`, `ended`: of its command, monotonic. Raises NotMeasured.

    Counted is who was due since the switch began, to `until`; times are of those who were answered with 200.
    """
    early = Counter(visit[3:] for visit in visits if visit.due < began)
    counted = [visit for visit in visits if began <= visit.due <= until]
    times = sorted(visit.seconds * 1000 for visit in counted if visit.what == OK)
    if {(OK, live, live)} != set(early) or not times:
        raise NotMeasured(f"before the switch from {live}: {dict(early)}; answered with 200 since: {len(times)}")
    after = [visit for visit in counted if visit.due > ended and visit.what == OK]
    return {
        "seconds": ended - began, "requests": len(counted),
        "failures": dict(Counter(visit.what for visit in counted if visit.what != OK)),
        "p50": percentile(times, 0.5), "p99": percentile(times, 0.99), "max": times[-1],
        "late": max(visit.late for visit in counted) * 1000,
        "after": len(after),
        "old_code": sum(visit.code != release for visit in after),
        "old_packages": sum(visit.packages != release for visit in after),
    }  # fmt: skip


def failed(run: Facts) -> int:
    return sum(run["failures"].values())


def middle(runs: Sequence[Facts], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def ms(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def rows(facts: Facts) -> list[list[str]]:
    """One line for each way."""
    lines = [
        ["switched by", "requests", "failures", "p50 ms", "p99 ms", "max ms", "took s", "then old code", "old packages"]
    ]
    for way, runs in facts["runs"].items():
        after = sum(run["after"] for run in runs)
        shares = [
            f"{100 * sum(run[key] for run in runs) / after:.0f} %" if after and way not in NO_SWITCH else ""
            for key in ("old_code", "old_packages")
        ]
        lines.append(
            [
                WAYS[way], f"{sum(run['requests'] for run in runs):,}", f"{sum(map(failed, runs)):,}",
                *(ms(middle(runs, key)) for key in ("p50", "p99", "max")),
                "" if way == "steady" else f"{middle(runs, 'seconds'):.1f}", *shares,
            ]
        )  # fmt: skip
    return lines


def aims(facts: Facts) -> list[str]:
    """What was wanted, and whether it was so."""
    runs = facts["runs"]
    lines = []
    for way in ("socket", "blue-green"):
        bad = sum(failed(run) > 0 for run in runs[way])
        lines.append(f"no failure in any switch by {WAYS[way]}: " + (f"not so in {bad}" if bad else "so it was"))
    for way, what in (("blue-green", WAYS["blue-green"]), ("build", "a site beside which a release is built")):
        times = middle(runs[way], "p99") / middle(runs["steady"], "p99")
        lines.append(f"p99 of {what} at most twice the steady state's: it was {times:.1f} times")
    return lines


def described(facts: Facts) -> str:
    late = statistics.median(run["late"] for runs in facts["runs"].values() for run in runs)
    return (
        f"{facts['rate']} requests a second; interleaved rounds: {facts['deploys']}; {facts['cores']} cores, load"
        f" {facts['load'][0]} before and {facts['load'][1]} after, visitors up to {ms(late)} ms late by their own"
        f" fault (median); {facts['measured_on']}, {', '.join(facts['versions'])}"
    )


def block(facts: Facts) -> str:
    """What stands between the README's markers."""
    return f"{markdown(rows(facts))}\n{described(facts)}. [How it was measured](docs/handover.md).\n"


def page(facts: Facts) -> str:
    """docs/handover.md: how it is measured, the table, and what was wanted of it."""
    wanted = "".join(f"- {line}\n" for line in aims(facts))
    parts = [Path(__file__).with_name("handover.md").read_text(), markdown(rows(facts)), f"{described(facts)}.\n"]
    return "\n".join([*parts, f"Wanted:\n\n{wanted}"])


def has_place(project: Path) -> bool:
    """Does the README have exactly one place for the table?"""
    return len(PLACE.findall((project / "README.md").read_text())) == 1


def write(project: Path, facts: Facts) -> None:
    """Renew docs/handover.json, and from it the page and the README's table."""
    (project / "docs" / "handover.json").write_text(json.dumps(facts, indent=1) + "\n")
    (project / "docs" / "handover.md").write_text(page(facts))
    readme = project / "README.md"
    readme.write_text(PLACE.sub(lambda _: f"{BEGIN}{block(facts)}{END}", readme.read_text()))
