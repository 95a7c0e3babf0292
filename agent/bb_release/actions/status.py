"""What is live, what there is, what happened. Reads, changes nothing, takes no lock."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bb_release.actions import instances
from bb_release.actions.instances import manager_for
from bb_release.actions.run import environments, health_now
from bb_release.errors import NoSuchRelease, ReleaseError
from bb_release.model import activation, hold, journal, lock
from bb_release.model import release as releases
from bb_release.model.app import App
from bb_release.model.release import Manifest, Release, State


def status(app: App) -> dict[str, Any]:
    """One screen of truth. `well` is true when the live release is verified and answers."""
    layout = app.layout
    live = activation.current(layout)
    held = hold.read(layout)
    running = lock.holder(layout) if layout.lock.exists() and lock.is_held(layout) else None
    facts: dict[str, Any] = {"app": app.name, "root": str(app.root), "hold": held, "run": running}
    if live is None:
        return {**facts, "release": None, "state": None, "health": None, "units": [], "well": False}
    proof = live.manifest.proof
    units = [{"name": unit.name, **unit_facts(app, unit.name), "proof": proof.get(unit.name, "")}
             for unit in instances.serving(app)]  # fmt: skip
    health = health_now(app)
    well = live.state is State.VERIFIED and all(u["running"] for u in units)
    well = well and (app.health is None or health == "healthy")
    return {
        **facts, "release": live.name, "revision": live.manifest.revision, "ref": live.manifest.ref,
        "state": str(live.state) if live.state is not State.ACTIVATING else "activating, unverified",
        "since": live.manifest.activations[-1]["at"] if live.manifest.activations else None,
        "health": health, "units": units, "well": well,
    }  # fmt: skip


def unit_facts(app: App, name: str) -> dict[str, Any]:
    unit = next(u for u in instances.serving(app) if u.name == name)
    try:
        state = manager_for(unit).state()
    except ReleaseError as error:
        return {"running": False, "pid": 0, "summary": error.message, "outdated": False}
    outdated = bool(state.started and unit.runs_release and state.started < environment_changed_at(app))
    return {"running": state.running, "pid": state.main_pid, "summary": state.summary, "outdated": outdated}


def environment_changed_at(app: App) -> float:
    """When the site's environment file was last written, in seconds since the epoch; 0 without one."""
    try:
        return app.env_file.stat().st_mtime if app.env_file else 0.0
    except OSError:
        return 0.0


def started_before_environment(app: App) -> list[str]:
    """Units that still run with what the environment file said before: a new value is no new release."""
    return [unit.name for unit in instances.serving(app) if unit_facts(app, unit.name)["outdated"]]


def listed(app: App) -> list[dict[str, Any]]:
    """Every release, newest first."""
    live = activation.current_name(app.layout)
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
    return sorted(rows, key=lambda row: str(row["name"]), reverse=True)


def shown(app: App, word: str) -> dict[str, Any]:
    """The manifest of one release."""
    live = activation.current(app.layout)
    release = releases.find(app.layout, word, live) if word else live
    if release is None:
        raise NoSuchRelease("nothing is live yet", remedy="bb-release deploy")
    facts: dict[str, Any] = json.loads((release.folder / releases.MANIFEST).read_bytes())
    return facts


def effective(app: App) -> dict[str, Any]:
    """The configuration in force, and the names (never the values) of what the site and the build get to see."""
    nothing = Release(app.layout.releases, Manifest(name="", state=State.BUILDING))
    site, build, _ = environments(app, nothing)
    return {**asdict(app), "site_environment_names": sorted(site), "build_environment_names": sorted(build)}


def history(app: App, count: int) -> list[dict[str, Any]]:
    return journal.read(app.layout.journal, count)


def log_file(app: App, word: str) -> Path:
    """The log of a run: of a release's deploy, of the run at that time, or the newest. Raises NoSuchRelease."""
    logs = sorted(app.layout.logs.glob("*.log"))
    if word:
        live = activation.current(app.layout)
        begun = [path for path in logs if path.name.startswith(word)]
        if not begun:
            release = releases.find(app.layout, word, live)
            begun = [path for path in logs if path.name[:19] <= release.name and "deploy" in path.name]
        logs = begun
    if not logs:
        raise NoSuchRelease("there is no log of that", remedy=f"see {app.layout.logs}")
    return logs[-1]


def log_lines(app: App, word: str, *, follow: bool = False) -> Iterator[str]:
    """The JSON lines of a run's log; with `follow`, also those to come, until that run has ended or was killed."""
    path = log_file(app, word)
    action = path.stem[20:]  # after the moment and a dash
    ends = (f"{action}_finished", f"{action}_failed")
    with path.open(encoding="utf-8") as file:
        part = ""
        while True:
            over = not lock.is_held(app.layout)  # asked before the read: what was written until then is in it
            for text in file:
                part += text
                if part.endswith("\n"):
                    yield part.rstrip("\n")
                    over = over or any(f'"event": "{end}"' in part for end in ends)
                    part = ""
            if over or not follow:
                return
            time.sleep(0.2)
