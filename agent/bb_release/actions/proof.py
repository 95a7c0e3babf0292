"""The proof that a unit runs from a release: what its manager says, and what the kernel shows of each process."""

from __future__ import annotations

import time
from pathlib import Path

from bb_release.actions.instances import configured_name, started_through
from bb_release.errors import NotHealthy
from bb_release.model import release as releases
from bb_release.model.app import App, Unit
from bb_release.model.release import Release
from bb_release.tools import host
from bb_release.tools.units import UnitManager, UnitState

TICK_SECONDS = 0.02  # the kernel tells starts in hundredths of a second
PATIENCE_SECONDS = 3.0  # a process that has only just been forked still shows its parent's program
PROCESSES = "its processes"
COMMAND_LINE = "its start and its command line"
START = "its start through the link"


def require_new(unit: Unit, manager: UnitManager, now: UnitState, left: tuple[int, float | None, str] | None) -> None:
    """A restart that restarted nothing is no restart: the old code would serve on."""
    if left is None:
        return
    pid, started, invocation = left
    if (pid, started) == (now.main_pid, now.started) or (invocation and invocation == now.invocation):
        raise NotHealthy(
            f"{unit.name} was told to restart, and its main process is still the one from before ({now.main_pid})",
            details="\n".join(manager.log_lines()),
            remedy=f"see that restarting {unit.name} ends the old process and starts a new one",
        )


def prove(app: App, unit: Unit, manager: UnitManager, release: Release, main_pid: int, ordered_at: float | None) -> str:
    """Return what proves that each process of the unit runs from the release, in words. Raises NotHealthy.

    `ordered_at` is when the unit was told to start, on the boot clock; None when it was not told to. A process of
    another user shows its command line and its start, no more: then these count, or systemd's word that it starts
    a program of the environment through `current` (or a slot), which the kernel followed at that start.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return _prove(app, unit, manager, release.folder, main_pid, ordered_at)
        except NotHealthy:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def standing(app: App, unit: Unit, manager: UnitManager, release: Path, state: UnitState) -> str:
    """What proves at this moment that a running unit runs from the release, in words.

    Of another user's processes the manager's word that it starts them through the link counts only for the run that
    was last proven, and for one that was started since the link was last moved: a rename stamps it (inode(7),
    st_ctime). Raises NotHealthy, and StateUnreadable where the manifest cannot be read.
    """
    by = _prove(app, unit, manager, release, state.main_pid, None)
    if by != START or was_proven(releases.read(release), unit.name, state):
        return by
    main = state.main_pid or min(manager.processes(), default=0)
    if not started_since(started_through(app, unit), main, state, release):
        raise NotHealthy(
            f"{unit.name} was not seen to be started since {release.name} is live",
            remedy=f"bb-release restart {configured_name(app, unit)}",
        )
    return by


def was_proven(release: Release, name: str, state: UnitState) -> bool:
    """Is this the run of a unit that was last proven to run from the release? None was noted by older agents."""
    return bool(state.run) and release.manifest.proven.get(name) == state.run


def started_since(link: Path, main_pid: int, state: UnitState, release: Path) -> bool:
    """Compared on the boot clock; where /proc hides the process, its manager's word is taken."""
    booted_at = time.time() - host.boot_clock()
    facts = host.evidence(main_pid, release)
    started = facts.started if facts else None
    if started is None and state.started is not None:
        started = state.started - booted_at
    try:
        return started is not None and started >= link.lstat().st_ctime - booted_at - TICK_SECONDS
    except OSError:  # a slot that is no more
        return False


def _prove(app: App, unit: Unit, manager: UnitManager, folder: Path, main_pid: int, ordered_at: float | None) -> str:
    name = folder.name
    seen = {pid: host.evidence(pid, folder) for pid in manager.processes()}
    running = {pid: facts for pid, facts in seen.items() if facts is not None}
    if not running or (main_pid and main_pid not in running):
        raise NotHealthy(
            f"{unit.name} shows no process that could prove which release it runs",
            remedy="let `status` print the id of the unit's main process"
            if unit.kind == "command" else f"see that {unit.name} keeps its main process",
        )  # fmt: skip
    programs = started_through(app, unit) / "venv/bin"  # another path there may be anything, such as a log file
    through = f"start {unit.name} through {programs}/…, without --chdir or python -m"
    for pid, facts in running.items():
        foreign = facts.uses - {name}
        if foreign:
            raise NotHealthy(
                f"process {pid} of {unit.name} runs from release {min(foreign)}, not from {name}",
                remedy=through,
            )
        if ordered_at is not None and facts.started is not None and facts.started < ordered_at - TICK_SECONDS:
            raise NotHealthy(
                f"process {pid} of {unit.name} was started before {unit.name} was told to start",
                remedy=f"see that stopping {unit.name} ends all of its processes (KillMode=mixed)",
            )
    main = running[main_pid or min(running)]
    if main.closed:
        if name in main.names:
            return COMMAND_LINE
        if manager.starts_through(str(programs)):
            return START
        raise NotHealthy(
            f"nothing proves which release {unit.name} runs: its processes belong to another user", remedy=through
        )
    # children of the site's own (a browser, a converter) may have any folder; what was forked has its parent's
    if not main.inside or name not in main.names:
        raise NotHealthy(
            f"the main process of {unit.name} ({main_pid or min(running)}) "
            + ("names no release" if main.inside else f"does not have its working folder in release {name}"),
            remedy=f"set its folder to {app.layout.current}/app, let it read {app.layout.current}/release.env, and "
            + through,
        )
    return PROCESSES


def stragglers(app: App, release: Release) -> list[str]:
    """Every process of this host that still uses another release of the app, in words; prune keeps these releases."""
    used, _ = host.releases_in_use(app.layout.releases)
    return [
        f"process {pid} ({host.program_of(pid)}) still uses release {name}, which is kept for it"
        for name, pids in sorted(used.items()) if name != release.name for pid in pids
    ]  # fmt: skip
