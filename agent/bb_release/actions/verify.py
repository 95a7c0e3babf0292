"""The units of the app: asked before anything is done, restarted, and proven to run from the release."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bb_release.errors import NotHealthy, PreflightFailed, ReleaseError
from bb_release.model.app import App, Unit
from bb_release.model.release import Release
from bb_release.model.step import Deployment
from bb_release.tools import health, host, process
from bb_release.tools.units import UnitManager, UnitState, manager_of


def manager_for(unit: Unit) -> UnitManager:
    """Who runs this unit."""
    commands = {
        "start": unit.start,
        "restart": unit.restart,
        "reload": unit.reload,
        "status": unit.status,
    }
    return manager_of(
        kind=unit.kind, name=unit.name, socket=unit.socket, commands=commands,
        user=unit.user, stop_seconds=unit.stop_seconds, env=process.environment(),
    )  # fmt: skip


REMEMBERED = ("name", "kind", "socket", "user", "status")


def remembered_units(app: App) -> list[dict[str, Any]]:
    """What a manifest keeps of the units that run its release: enough to ask later whether one still runs."""
    return [{key: getattr(unit, key) for key in REMEMBERED} for unit in app.units if unit.runs_release]


def require_units(app: App) -> None:
    """Each unit is known and may be restarted or reloaded; it need not run. Raises PreflightFailed for all at once."""
    refusals: list[ReleaseError] = []
    for unit in app.units:
        try:
            manager_for(unit).check_can("restart" if unit.runs_release else "reload")
        except ReleaseError as error:
            refusals.append(error)
    if refusals:
        raise PreflightFailed(
            "; ".join(error.message for error in refusals),
            remedy="\n".join(dict.fromkeys(error.remedy for error in refusals)),
            details="\n".join(dict.fromkeys(error.details for error in refusals if error.details)),
        ) from refusals[0]


def require_none_left(app: App, live: Release | None) -> None:
    """No unit that ran the live release, and is configured no more, still runs: its code would never change again.

    Raises PreflightFailed. Asked after `require_units`. A manifest from before this check remembers no units.
    """
    configured = remembered_units(app)
    for written in live.manifest.units if live else ():
        facts = {key: written[key] for key in REMEMBERED}  # JSON made a list of the tuple
        facts["status"] = tuple(facts["status"])
        if facts in configured:
            continue
        old = manager_for(Unit(**facts))
        # the same processes under another name, such as web and web.service, are not left over
        if processes_of(old) - {pid for unit in app.units for pid in processes_of(manager_for(unit))}:
            raise PreflightFailed(
                f"{facts['name']} still runs, but is no unit of {app.name} any more: its code would never change again",
                remedy=f"stop it: {old.stop_command()}; or put it back into units",
            )


def processes_of(manager: UnitManager) -> set[int]:
    """The processes of a unit; none where its manager is gone, or knows it no more."""
    try:
        return set(manager.processes())
    except ReleaseError:
        return set()


def restart_units(deployment: Deployment, only: str = "") -> None:
    """Restart in the declared order. A reload never gave a whole new release, so only foreign units get one."""
    for unit in deployment.app.units:
        if only and unit.name != only:
            continue
        manager = manager_for(unit)
        deployment.reporter.line(f"{'restart' if unit.runs_release else 'reload'} {unit.name}")
        if unit.runs_release:
            before = manager.state()
            if before.running and before.main_pid:
                deployment.left[unit.name] = (before.main_pid, before.started)
            manager.restart()
        else:
            manager.reload()


def verify(deployment: Deployment) -> None:
    """Prove it: each unit runs and stays up, each of its processes is of this release, the site answers."""
    app, release = deployment.app, deployment.release
    began = time.monotonic()
    managers = [(unit, manager_for(unit)) for unit in app.units if unit.runs_release]
    first = [require_running(unit, manager) for unit, manager in managers]
    if app.health:
        wanted = app.health
        seen = health.wait_healthy(
            wanted.url, expect=wanted.expect, headers=dict(wanted.headers), body=wanted.body,
            release_where=wanted.release, release=release.name,
            timeout_seconds=wanted.timeout_seconds, interval_seconds=wanted.interval_seconds,
        )  # fmt: skip
        deployment.reporter.line(f"health: {seen}")
    settle = max((unit.settle_seconds for unit, _ in managers), default=0.0)
    time.sleep(max(0.0, settle - (time.monotonic() - began)))
    for (unit, manager), before in zip(managers, first, strict=True):
        require_stable(unit, manager, before)
        require_new(unit, manager, before, deployment.left.get(unit.name))
        require_release(unit, manager, release, app.layout.releases)


def not_running(unit: Unit, manager: UnitManager, message: str) -> NotHealthy:
    return NotHealthy(
        message,
        details="\n".join(manager.log_lines()),
        remedy=f"read the unit's own lines above; {unit.name} ends when it is started from the new release",
    )


def require_running(unit: Unit, manager: UnitManager) -> UnitState:
    state = manager.state()
    if not state.running:
        raise not_running(unit, manager, f"{unit.name} does not run: {state.summary}")
    return state


def require_stable(unit: Unit, manager: UnitManager, before: UnitState) -> None:
    now = require_running(unit, manager)
    same = (before.main_pid, before.restarts, before.invocation) == (
        now.main_pid,
        now.restarts,
        now.invocation,
    )
    if not same:
        raise not_running(unit, manager, f"{unit.name} did not stay up: it was started again by its manager")


def require_new(unit: Unit, manager: UnitManager, now: UnitState, left: tuple[int, float | None] | None) -> None:
    """A restart that restarted nothing is no restart: the old code would serve on."""
    if left is not None and left == (now.main_pid, now.started):
        raise NotHealthy(
            f"{unit.name} was told to restart, and its main process is still the one from before ({now.main_pid})",
            details="\n".join(manager.log_lines()),
            remedy=f"see that restarting {unit.name} ends the old process and starts a new one",
        )


def require_release(unit: Unit, manager: UnitManager, release: Release, folder: Path) -> None:
    for pid in manager.processes():
        used, _ = host.release_of(pid, folder)
        foreign = used - {release.name}
        if foreign and host.alive(pid):
            raise NotHealthy(
                f"process {pid} of {unit.name} runs from release {min(foreign)}, not from {release.name}",
                remedy=f"start {unit.name} through {folder.parent}/current/venv/bin/…, without --chdir or python -m",
            )
