"""What is live, what there is, what happened. Reads, changes nothing, takes no lock."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from bb_release.actions import instances, masking, moved, proof, seen, site_environment
from bb_release.actions.run import command_to, environments, health_now, last_live, not_live
from bb_release.errors import NoSuchRelease, ReleaseError, StateUnreadable
from bb_release.model import activation, hold, journal, lock
from bb_release.model import release as releases
from bb_release.model.app import App, Unit
from bb_release.model.manifest import MANIFEST, Manifest, State
from bb_release.model.release import Release
from bb_release.tools import host

BEGINS_SECONDS = 2.0  # within which a run that has the lock has a log, too


def status(app: App, *, in_a_run: bool = False) -> dict[str, Any]:
    """One screen of truth. `well` is true when the live release is verified, answers, and is proven of each unit.

    `in_a_run`: asked by the one that holds the lock. Raises NotTheOwner, StateUnreadable.
    """
    seen.require_sight(app)
    live = seen.live_release(app)
    facts: dict[str, Any] = {
        "app": app.name, "root": str(app.root), "hold": hold.read(app.layout), "run": seen.under_way(app),
    }  # fmt: skip
    if live is None:
        last = last_live(app)
        return {
            **facts, "release": None, "last": last.describe() if last else None, "state": None, "health": None,
            "units": [], "beside": [], "database": [], "well": False, "to_do": list(_to_do(app, None, [], "")),
        }  # fmt: skip
    units = [{"name": unit.name, **unit_facts(app, unit, live)} for unit in seen.units(app)]
    health, beside = health_now(app, live), seen.beside(app, in_a_run=in_a_run)
    well = live.state is State.VERIFIED and all(
        u["running"] and not (u["other_releases"] or u["unproven"]) for u in units
    )
    well = well and (app.health is None or health == "healthy") and not beside  # it takes tasks, with older code
    return {
        **facts, "release": live.name, "revision": live.manifest.revision, "ref": live.manifest.ref,
        "state": str(live.state) if live.state is not State.ACTIVATING else "activating, unverified",
        "since": live.manifest.activations[-1].get("at") if live.manifest.activations else None,
        "health": health, "units": units, "beside": beside, "database": ahead(app, live), "well": well,
        "to_do": list(_to_do(app, live, units, health, beside)),
    }  # fmt: skip


def ahead(app: App, live: Release) -> list[dict[str, Any]]:
    """Migrations that later releases applied which are not live, by their manifests: the database is not asked."""
    everything, _ = releases.readable(app.layout)
    return [
        {"release": release.name, "migrations": list(release.manifest.migrations)}
        for release in everything
        if release.manifest.migrations and release.manifest.sequence > live.manifest.sequence
    ]


def _to_do(
    app: App, live: Release | None, units: list[dict[str, Any]], health: str, beside: Sequence[dict[str, Any]] = ()
) -> Iterator[dict[str, str]]:
    """What a person does about it, each once, in the order in which it is done."""
    for release in seen.unfinished(app):
        yield {"do": "bb-release recover", "why": f"{release.describe()} was left {release.state} by a run that ended"}
    if live is None:
        last = last_live(app)
        if last:
            yield {"do": command_to(last), "why": f"{app.layout.current} is not there, and it was live last"}
        else:
            yield {"do": "bb-release deploy", "why": "nothing was live yet"}
        return
    wrong = moved.seen(app)
    if wrong:  # what concerns one unit comes after that
        why, do = wrong
        yield {"do": do, "why": why}
        return
    if live.state is State.BAD:
        yield {"do": seen.way_on(app, live), "why": "the live release is marked bad"}
    elif live.state in (State.READY, State.FAILED):  # a person has moved `current`
        way = moved.lead_on(live) or seen.way_on(app, live)
        yield {"do": way, "why": f"the live release is {live.state}, and nobody has proven it"}
    for unit in units:
        if not unit["running"]:
            yield {"do": unit["remedy"], "why": f"{unit['name']} does not run"}
        elif unit["other_releases"]:
            yield {"do": unit["remedy"], "why": f"{unit['name']} runs from {', '.join(unit['other_releases'])}"}
        elif unit["unproven"]:
            yield {"do": unit["remedy"], "why": f"not proven: {unit['unproven']}"}
    for unit in beside:
        yield {"do": "bb-release recover", "why": f"{unit['name']} still runs, and nothing leads to it"}
    if app.health and health != "healthy" and not any(u["other_releases"] or not u["running"] for u in units):
        yield {
            "do": "bb-release restart",
            "why": "the health page is not that of the live release; see the units' logs",
        }


def unit_facts(app: App, unit: Unit, live: Release | None = None) -> dict[str, Any]:
    """One unit, as far as its manager answers; with the live release, whether it runs from it, and what proves that."""
    mask = masking.mask_of(app)
    try:
        found = seen.unit(app, unit, live.name if live else "")
    except ReleaseError as error:
        return {"running": False, "pid": 0, "summary": mask(error.message), "outdated": False, "other_releases": [],
                "proof": "", "unproven": "", "remedy": error.remedy}  # fmt: skip
    state = found.state
    changed = environment_changed_at(app) - host.dated_early()
    outdated = bool(state.started and unit.runs_release and state.started < changed)
    return {"running": state.running, "pid": state.main_pid, "summary": mask(state.summary), "outdated": outdated,
            "other_releases": list(found.foreign), "proof": _proof(live, unit.name, found),
            "unproven": mask(found.unproven),
            "remedy": f"bb-release restart {instances.configured_name(app, unit)}"}  # fmt: skip


def _proof(live: Release | None, name: str, found: seen.SeenUnit) -> str:
    """What proves it now; what was proven besides (a worker's answer) counts while that run of it lasts."""
    if live is None or not proof.was_proven(live, name, found.state):
        return found.proof
    then = live.manifest.proof.get(name, "")
    return then if found.proof and then.startswith(found.proof) else found.proof


def environment_changed_at(app: App) -> float:
    """When a file of the site's environment was last written, in seconds since the epoch; 0 without one."""
    try:
        return max((path.stat().st_mtime for path in site_environment.files(app)), default=0.0)
    except (OSError, ReleaseError):
        return 0.0


def started_before_environment(app: App) -> list[str]:
    """Units that still run with what the environment file said before: a new value is no new release."""
    return [unit.name for unit in seen.units(app) if unit_facts(app, unit)["outdated"]]


def listed(app: App) -> tuple[list[dict[str, Any]], StateUnreadable | None]:
    """Every release, newest first; and why none is marked live where the link cannot be read. Raises NotTheOwner."""
    seen.require_sight(app)
    unknown = None
    try:
        live = seen.live_name(app)
    except StateUnreadable as error:
        live, unknown = "", error
    everything, broken = releases.readable(app.layout)
    pinned = set(hold.pins(app.layout))
    rows = [
        {
            "name": r.name, "live": r.name == live, "state": str(r.state), "revision": r.manifest.revision,
            "ref": r.manifest.ref, "migrations": list(r.manifest.migrations), "pinned": r.name in pinned,
            "seconds": round(sum(r.manifest.steps.values()), 1), "reason": r.manifest.reason,
        }
        for r in everything
    ]  # fmt: skip
    rows += [
        {
            "name": name, "live": name == live, "state": "unreadable", "revision": "", "ref": "",
            "migrations": [], "pinned": name in pinned, "seconds": 0, "reason": error.message,
        }
        for name, error in broken.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: str(row["name"]), reverse=True), unknown


def shown(app: App, word: str) -> dict[str, Any]:
    """The manifest of one release, without a secret that an older version of ours left in it."""
    live = seen.live_release(app)
    release = releases.find(app.layout, word, live) if word else live
    if release is None:
        raise not_live(app)
    try:
        manifest = json.loads((release.folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise NoSuchRelease(f"release {release.name} has just been pruned", remedy="bb-release list") from None
    facts: dict[str, Any] = masking.mask_of(app).all_of(manifest)
    return facts


def effective(app: App) -> dict[str, Any]:
    """The configuration in force, and the names (never the values) of what the site and the build get to see."""
    nothing = Release(app.layout.releases, Manifest(name="", state=State.BUILDING))
    site, build, _ = environments(app, nothing)
    facts = asdict(app)
    if app.health:
        hidden = masking.header_secrets(app)
        headers = app.health.headers
        facts["health"]["headers"] = [(name, "****" if value in hidden else value) for name, value in headers]
    return {**facts, "site_environment_names": sorted(site), "build_environment_names": sorted(build)}


def history(app: App, count: int) -> tuple[list[dict[str, Any]], int]:
    """The last lines of the journal, oldest first, and how many it has. Raises NotTheOwner."""
    seen.require_sight(app)
    everything = journal.read(app.layout.journal, 0)
    return everything[-count:], len(everything)


def log_file(app: App, word: str) -> Path:
    """The log of a run: of a release's last deploy, of the run at that time, or the newest.

    Raises NoSuchRelease, NotTheOwner.
    """
    seen.require_sight(app)
    logs = sorted(app.layout.logs.glob("*.log"), reverse=True)
    found = [path for path in logs if path.name.startswith(word)]
    is_name = word in releases.names(app.layout)
    if word and (is_name or not found):
        name = word if is_name else releases.find(app.layout, word, activation.current(app.layout)).name
        said = f'"release {name} from '  # times do not tell: one may be resumed later, and names run ahead of the clock
        deploys = (path for path in logs if path.stem.endswith("-deploy"))
        found = list(islice((path for path in deploys if said in path.read_text("utf-8", "replace")), 1)) or found
    if not found:
        raise NoSuchRelease("there is no log of that", remedy=f"see {app.layout.logs}")
    return found[0]


def _is_end(path: Path, line: str) -> bool:
    action = path.stem[20:]  # after the moment and a dash
    return any(f'"event": "{action}_{end}"' in line for end in ("finished", "failed"))


def _has_ended(path: Path) -> bool:
    return any(_is_end(path, line) for line in path.read_text("utf-8", "replace").splitlines())


def log_lines(app: App, word: str, *, follow: bool = False) -> Iterator[str]:
    """The JSON lines of a run's log; with `follow`, also those to come, until that run has ended or was killed."""
    deadline = time.monotonic() + BEGINS_SECONDS
    while follow and not word and lock.is_held(app.layout) and time.monotonic() < deadline:
        if any(app.layout.logs.glob("*.log")) and not _has_ended(log_file(app, word)):
            break
        time.sleep(0.05)  # the run that has the lock has no log yet
    path = log_file(app, word)
    with path.open(encoding="utf-8") as file:
        part = ""
        while True:
            over = not lock.is_held(app.layout)  # asked before the read: what was written until then is in it
            for text in file:
                part += text
                if part.endswith("\n"):
                    yield part.rstrip("\n")
                    over = over or _is_end(path, part)
                    part = ""
            if over or not follow:
                return
            time.sleep(0.2)
