"""The units of the app: asked before anything is done, restarted, and proven to run from the release."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bb_release.actions import audit_beside, instances, moved, proof, workers
from bb_release.actions.instances import manager_for
from bb_release.actions.run import wait_well
from bb_release.actions.written import Findings, Written
from bb_release.errors import NotHealthy, PreflightFailed, ReleaseError
from bb_release.model.app import App, Health, Unit
from bb_release.model.release import Release
from bb_release.model.step import Deployment
from bb_release.tools import host, systemctl
from bb_release.tools.units import UnitManager, UnitState

LINES_OF_EACH = 20  # of each unit's own last lines, when the site is not well and any may say why: a crash loop's round
REMEMBERED = ("name", "kind", "socket", "user", "status")


def remembered_units(app: App) -> list[dict[str, Any]]:
    """What a manifest keeps of the units that run its release: enough to ask later whether one still runs."""
    return [{key: getattr(unit, key) for key in REMEMBERED} for unit in instances.every(app) if unit.runs_release]


def require_units(app: App, warn: Callable[[str], None]) -> None:
    """Each unit is known and may be restarted or reloaded; it need not run. Raises PreflightFailed for all at once."""
    refusals: list[ReleaseError] = []
    for unit in instances.every(app):
        if begins_with_a_release(app, unit):
            continue
        try:
            warning = manager_for(unit).check_can("restart" if unit.runs_release else "reload")
        except ReleaseError as error:
            refusals.append(error)
        else:
            if warning:
                warn(warning)
    for unit in instances.templates(app):
        refusals += [*no_place(unit), *unfit(app, unit)]
    if refusals:
        raise PreflightFailed(
            "; ".join(error.message for error in refusals),
            remedy="\n".join(dict.fromkeys(error.remedy for error in refusals)),
            details="\n".join(dict.fromkeys(error.details for error in refusals if error.details)),
        ) from refusals[0]


def begins_with_a_release(app: App, unit: Unit) -> bool:
    """Do the unit's own commands lie in the live release, and is there none yet? Then nothing can be asked of them."""
    command = unit.restart or unit.reload
    return bool(command) and Path(command[0]).is_relative_to(app.layout.current) and not app.layout.current.exists()


def no_place(unit: Unit) -> Iterator[PreflightFailed]:
    """Why the link to the serving instance cannot be made; nothing when it can, or where there is to be none."""
    link = Path(unit.socket)
    if not unit.socket or (os.access(link.parent, os.W_OK | os.X_OK) and (link.is_symlink() or not link.exists())):
        return
    yield PreflightFailed(
        f"{link} cannot be made a link to the socket of the instance of {unit.name} that serves",
        remedy=f"let {link.parent} be a folder that this user may write to, and {link.name} no file of another kind",
    )


def require_fit(app: App) -> None:
    """Raises PreflightFailed where an instance must not be started beside the other one."""
    for unit in instances.templates(app):
        for refusal in unfit(app, unit):
            raise refusal


def unfit(
    app: App, unit: Unit, wrong_in: Callable[[Written], Findings] = audit_beside.beside
) -> Iterator[PreflightFailed]:
    """Why an instance must not run beside the other one, as systemd has read it; nothing where it does not say."""
    for each in instances.both(unit):
        try:
            facts = systemctl.properties(each.name, ["ExecStart", "Environment", "WorkingDirectory"], user=unit.user)
        except ReleaseError:  # told by `check_can`
            return
        findings = [*wrong_in(Written(app, each, facts))]
        yield from (PreflightFailed(fact.text, remedy=fact.do) for fact in findings)
        if findings:  # the other instance is the same file
            return


def require_none_left(app: App, live: Release | None) -> None:
    """No unit that ran the live release, and is configured no more, still runs: its code would never change again.

    Raises PreflightFailed. Asked after `require_units`. A manifest from before this check remembers no units.
    """
    configured = remembered_units(app)
    for written in live.manifest.units if live else ():
        if not all(key in written for key in REMEMBERED):  # another agent's: which unit that was is not known
            continue
        facts = {key: written[key] for key in REMEMBERED}  # JSON made a list of the tuple
        facts["status"] = tuple(facts["status"])
        if facts in configured:
            continue
        old = manager_for(Unit(**facts))
        # the same processes under another name, such as web and web.service, are not left over
        if processes_of(old) - {pid for unit in instances.every(app) for pid in processes_of(manager_for(unit))}:
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
    for unit in instances.serving(deployment.app):
        if (only and unit.name != only) or unit.handover == instances.BLUE_GREEN:
            continue  # an instance beside the other has been started before anything led to it
        manager = manager_for(unit)
        deployment.reporter.line(f"{'restart' if unit.runs_release else 'reload'} {unit.name}")
        if unit.runs_release:
            before = remember(deployment, unit, manager)
            tasks = workers.tasks_before(deployment, unit, manager) if unit.celery and before.running else []
            deployment.ordered[unit.name] = host.boot_clock()
            manager.restart()
            if before.running:
                workers.tell_what_was_left(deployment, unit, manager, tasks)
        else:
            manager.reload()


def remember(deployment: Deployment, unit: Unit, manager: UnitManager) -> UnitState:
    """Keep what runs before the order to start: `proof.require_new` finds it where it still runs after it."""
    before = manager.state()
    if before.running and before.main_pid:
        deployment.left[unit.name] = (before.main_pid, before.started, before.invocation)
    return before


def verify(deployment: Deployment) -> None:
    """Prove it: each unit runs and stays up, each of its processes is of this release, the site answers.

    And visitors are led to what `current` leads to: a person may have moved it.
    """
    app = deployment.app
    prove_units(deployment, [unit for unit in instances.serving(app) if unit.runs_release], app.health)
    moved.require_not(app)


def prove_units(deployment: Deployment, units: Sequence[Unit], wanted: Health | None) -> None:
    """Prove of some units what `verify` proves of all, with the site asked at an address. Raises NotHealthy."""
    began = time.monotonic()
    managers = [(unit, manager_for(unit)) for unit in units]
    first = [require_running(unit, manager) for unit, manager in managers]
    ask_health(deployment, units, wanted)
    settle = max((unit.settle_seconds for unit in units), default=0.0)
    time.sleep(max(0.0, settle - (time.monotonic() - began)))
    for (unit, manager), before in zip(managers, first, strict=True):
        require_stable(unit, manager, before)
        proof.require_new(unit, manager, before, deployment.left.get(unit.name))
        told = deployment.ordered.get(unit.name)
        still = partial(require_stable, unit, manager, before)
        if not unit.celery:
            workers.await_pool(deployment, unit, manager, still)
        by = prove_run(deployment.app, unit, manager, deployment.release, before, told)
        if unit.celery:
            by = f"{by} and {workers.require_answer(deployment, unit, manager, still)}"
        deployment.proof[unit.name], deployment.proven[unit.name] = by, before.run
        deployment.reporter.line(f"{unit.name}: proven by {by}")
    # once more: it may have answered before it broke, and a worker may take long to find out that it cannot go on
    ask_health(deployment, units, wanted)
    for (unit, manager), before in zip(managers, first, strict=True):
        require_stable(unit, manager, before)


def prove_run(
    app: App, unit: Unit, manager: UnitManager, release: Release, run: UnitState, ordered_at: float | None
) -> str:
    """As `proof.prove`; but one that has just ended shows nothing that could prove it, and its own lines say why."""
    try:
        return proof.prove(app, unit, manager, release, run.main_pid, ordered_at)
    except NotHealthy:
        require_stable(unit, manager, run)
        raise


def ask_health(deployment: Deployment, units: Sequence[Unit], wanted: Health | None) -> None:
    """Ask until the site is well. Raises NotHealthy, with the last lines of the units."""
    if wanted is None:
        return
    try:
        seen = wait_well(wanted, deployment.release.name).line
    except NotHealthy as error:
        said = {unit.name: manager_for(unit).log_lines(LINES_OF_EACH) for unit in units}
        lines = [line for name, own in said.items() if own for line in (f"{name}:", *own)]
        error.details = "\n".join([error.details, *lines]).strip("\n")
        raise
    deployment.reporter.line(f"health: {seen}")


def not_running(unit: Unit, manager: UnitManager, message: str) -> NotHealthy:
    lines = manager.log_lines()
    if lines:
        where = "read the unit's own lines above"
    elif unit.kind == "systemd":
        read = "journalctl --user" if unit.user else "sudo journalctl"
        where = f"no line of its own can be read here: {read} -u {unit.name}"
    else:
        where = "look into its log, of which no line can be read here"
    return NotHealthy(
        message,
        details="\n".join(lines),
        remedy=f"{where}; {unit.name} ends when it is started from the new release",
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
