"""What is seen of a site at this moment, for `status` and `check`: the link, the units, the health page, the lock.

Looks and changes nothing. What a run needs of it, it asks itself (`verify`): a run may not believe an earlier look.
"""

from __future__ import annotations

import errno
import os
import shlex
import time
from dataclasses import dataclass
from typing import Any

from bb_release.actions import instances, proof
from bb_release.actions.instances import manager_for
from bb_release.actions.owner import as_owner
from bb_release.actions.run import command_to, last_live
from bb_release.errors import NotTheOwner, ReleaseError, StateUnreadable, UnitsNotRestarted
from bb_release.model import activation, durable, lock
from bb_release.model import release as releases
from bb_release.model.app import App, Unit
from bb_release.model.manifest import State
from bb_release.model.release import Release
from bb_release.tools import filesystem, host
from bb_release.tools.units import UnitState

UNFINISHED = (State.BUILDING, State.ACTIVATING, State.RETURNING)
LOOK_SECONDS = 0.05


def require_sight(app: App) -> None:
    """Only the owner of the app root, and root, see locks, holds, logs and the journal.

    Raises NotTheOwner, and StorageFailed for an owner to whom one of them is closed.
    """
    try:
        closed = [
            folder for folder in (app.layout.state, app.layout.logs)
            if durable.is_folder(folder) and not os.access(folder, os.R_OK | os.X_OK)
        ]  # fmt: skip
    except PermissionError:
        closed = [app.root]
    if closed:
        if app.root.stat().st_uid == os.geteuid():
            raise durable.storage_failed(PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(closed[0])))
        owner, me = filesystem.name_of(app.root.stat().st_uid), filesystem.name_of(os.geteuid())
        raise NotTheOwner(f"{app.root} belongs to {owner}, and {me} may not look into it", remedy=as_owner(owner))


def live_name(app: App) -> str:
    """The live release's name, "" for none. Raises StateUnreadable with a remedy that can be typed as it stands."""
    try:
        return activation.current_name(app.layout)
    except StateUnreadable as error:
        last, link = last_live(app), app.layout.current
        quoted = shlex.quote(str(link))
        if last and link.is_symlink():
            error.remedy = f"ln -sfn releases/{last.name} {quoted} && bb-release restart   # it was live last"
        elif last:
            error.remedy = f"mv {quoted} {quoted}.away && {command_to(last)}   # it was live last"
        raise


def live_release(app: App) -> Release | None:
    """The live release, or none. Raises StateUnreadable."""
    name = live_name(app)
    return activation.current(app.layout) if name else None


def way_on(app: App, live: Release) -> str:
    """What to do about a live release that is not good: back where there is a way, else forward."""
    everything, _ = releases.readable(app.layout)
    back = releases.last_good_before(everything, live)
    return "bb-release rollback" if back else "correct it and push, then: bb-release deploy"


def unfinished(app: App) -> list[Release]:
    """The releases that a run, which has ended, left in the middle of something; none while one is under way."""
    if lock.is_held(app.layout):
        return []
    return [release for release in releases.readable(app.layout)[0] if release.state in UNFINISHED]


def under_way(app: App) -> dict[str, Any] | None:
    """Who has the lock; `killed` when that run is dead, and only a program that it started still writes."""
    if not lock.is_held(app.layout):
        return None
    facts = lock.holder(app.layout)
    lives = _lives(facts)
    if not lives:  # a run begins or ends right now, or was killed: that is seen once more
        time.sleep(LOOK_SECONDS)
        if not lock.is_held(app.layout):
            return None
        facts = lock.holder(app.layout)
        lives = _lives(facts)
    return {**facts, "killed": "pid" in facts and not lives}


def _lives(facts: dict[str, Any]) -> bool:
    pid = facts.get("pid")
    return isinstance(pid, int) and host.alive(pid)


@dataclass(frozen=True)
class SeenUnit:
    """A unit's state, the other releases that its processes run from, and whether some could not be read.

    `proof` is what proves now that it runs from the live release, `unproven` why nothing does; both are "" for a unit
    that does not run, or runs no release.
    """

    state: UnitState
    foreign: tuple[str, ...] = ()
    unseen: bool = False
    proof: str = ""
    unproven: str = ""


def units(app: App) -> tuple[Unit, ...]:
    """The units that serve; both instances where systemd does not say which of the two does. Raises StateUnreadable."""
    try:
        return instances.serving(app)
    except UnitsNotRestarted:
        return tuple(instances.every(app))


def unit(app: App, which: Unit, live: str) -> SeenUnit:
    """Look at one unit. Raises ReleaseError when its manager does not answer, or does not know it."""
    manager = manager_for(which)
    state = manager.state()
    if not (state.running and which.runs_release and live):
        return SeenUnit(state)
    used = [host.release_of(pid, app.layout.releases) for pid in manager.processes()]
    foreign = sorted({name for names, _ in used for name in names} - {live})
    by = why = ""
    try:
        by = proof.standing(app, which, manager, app.layout.releases / live, state)
    except ReleaseError as error:  # it runs, whatever else is not known of it
        why = error.message
    return SeenUnit(state, tuple(foreign), any(closed for _, closed in used), by, why)


def beside(app: App, *, in_a_run: bool = False) -> list[dict[str, Any]]:
    """The instances that run beside those of the live release, once the run that started them is over.

    `in_a_run`: asked by the one that holds the lock.
    """
    ours = {each.name for each in units(app)}
    idle = [each for each in instances.every(app) if each.handover == instances.BLUE_GREEN and each.name not in ours]
    if not idle or (lock.is_held(app.layout) and not in_a_run):
        return []
    found = []
    for which in idle:
        try:
            state = manager_for(which).state()
        except ReleaseError:  # the other instance has told, of the same template
            continue
        if state.running:
            serves = instances.elsewhere(app) == instances.colour_of(which)
            found.append({"name": which.name, "summary": state.summary, "pid": state.main_pid, "serves": serves})
    return found
