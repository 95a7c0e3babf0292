"""What `check` looks at in the units: known, running, started at boot, of which release, and may we restart them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bb_release.actions import audit, audit_supervisor, instances, seen, site_environment, unit_rights, unit_scope
from bb_release.actions.audit_beside import beside
from bb_release.actions.instances import manager_for
from bb_release.actions.units import role
from bb_release.actions.written import Written
from bb_release.errors import ReleaseError
from bb_release.model import activation
from bb_release.model.app import App, Unit
from bb_release.model.fact import Fact, problem, warn
from bb_release.tools import filesystem, host, systemctl
from bb_release.tools.units import rights as as_written

BOOTED = Path("/run/systemd/system")  # sd_booted(3)
# measured: 102 to 614 failed at 200 a second, 237 where the application takes 3 s to import
COST = "requests fail while {} restarts: at each deploy, all that come from its stop until it listens again"
# each is, or implies, NoNewPrivileges= for a unit with User= (systemd.exec(5))
NO_NEW_RIGHTS = (
    "NoNewPrivileges", "PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs",
    "ProtectClock", "ProtectHostname", "MemoryDenyWriteExecute", "RestrictRealtime", "RestrictSUIDSGID", "DynamicUser",
    "LockPersonality", "RestrictAddressFamilies", "RestrictNamespaces", "SystemCallArchitectures", "SystemCallFilter",
    "SystemCallLog",
)  # fmt: skip
UNSET = ("", "no", "~")  # a list that forbids nothing is shown as ~
READ_JOURNAL = ("systemd-journal", "adm", "wheel")  # journalctl(1): these groups, and root, see all messages
# as the owner of units of `systemctl --user`, else as root
INSTALL = {False: "sudo bb-release units --install", True: "bb-release units --install"}
SUDOERS = f"sudo visudo -f {as_written.SUDOERS}   # add: "


def units(app: App) -> Iterator[Fact]:
    if not app.units:
        yield warn("no units: nothing is restarted, and no process is proven", "add units = to the configuration")
    for unit in instances.serving(app):
        try:
            yield from _state(app, unit)
        except ReleaseError as error:
            # a user's systemd that does not run has to be started first
            asked = not unit.user or systemctl.lingers(filesystem.name_of(app.root.stat().st_uid))
            ours = unit.kind == "systemd" and BOOTED.is_dir() and asked
            yield problem(f"{unit.name}: {error.message}", INSTALL[unit.user] if ours else error.remedy)


def _state(app: App, unit: Unit) -> Iterator[Fact]:
    live = _live(app)
    found = seen.unit(app, unit, live)
    state = found.state
    again = f"bb-release restart {instances.configured_name(app, unit)}"
    if found.foreign:
        yield warn(f"{unit.name} runs from {', '.join(found.foreign)}, not from {live}", again)
    elif found.unproven:
        yield warn(f"{unit.name}: {state.summary}, not proven: {found.unproven}", again)
    elif state.running:
        closed = ", whose processes cannot all be read" if found.unseen else ""
        yield Fact(f"{unit.name}: {state.summary}{closed}")
    elif live:
        yield warn(f"{unit.name} does not run: {state.summary}", again)
    else:
        yield Fact(f"{unit.name} is known, and starts with the first deploy")


def _live(app: App) -> str:
    """What is live, "" for nothing and for what cannot be read: that has its own line."""
    try:
        return activation.current_name(app.layout)
    except ReleaseError:
        return ""


def starts(app: App) -> Iterator[Fact]:
    """At boot, and as a release wants it: what a unit's own lines would do is found by `audit`."""
    for unit in instances.serving(app):
        if unit.kind == "supervisor":
            yield from _programs(app, unit)
        if unit.kind != "systemd":
            continue
        try:
            facts = systemctl.properties(unit.name, audit.PROPERTIES, user=unit.user)
            sockets = {name: systemctl.properties(name, audit.OF_SOCKET, user=unit.user)
                       for name in facts.get("TriggeredBy", "").split() if name.endswith(".socket")}  # fmt: skip
        except ReleaseError:  # its state has told so already
            continue
        scope = "systemctl --user" if unit.user else "sudo systemctl"
        # which of two instances starts at boot is found out at boot
        if facts.get("UnitFileState") == "disabled" and unit.handover != instances.BLUE_GREEN:
            yield warn(f"{unit.name} does not start at boot", f"{scope} enable {unit.name}")
        yield from audit.audit(app, unit, facts, sockets)
        if unit.handover == instances.BLUE_GREEN and not [*beside(Written(app, unit, facts))]:
            yield from _other(app, unit)


def _other(app: App, unit: Unit) -> Iterator[Fact]:
    """What keeps the other instance from being started beside this one: its lines are the same, its colour is not."""
    other = instances.twin(unit)
    with suppress(ReleaseError):
        facts = systemctl.properties(other.name, audit.PROPERTIES, user=unit.user)
        yield from beside(Written(app, other, facts))


def _programs(app: App, unit: Unit) -> Iterator[Fact]:
    """What `audit` finds in a program of Supervisor, or in those of a group."""
    from bb_release.tools.units.supervisor import SupervisorUnit

    manager = manager_for(unit)
    try:
        programs = manager.configured() if isinstance(manager, SupervisorUnit) else []
        wanted = {*site_environment.read(app), *app.inline_environment}
    except ReleaseError:  # its state, or the environment's own line, has told so already
        return
    found = [host.environment_names(program["pid"]) if program["pid"] else set() for program in programs]
    yield from audit_supervisor.audit_programs(app, unit, programs, wanted, found)


def handovers(app: App) -> Iterator[Fact]:
    """What happens to the requests that come while a release hands over to the next."""
    for unit in app.units:
        if not unit.runs_release or role(app, unit) != "web":
            continue
        if unit.handover == instances.BLUE_GREEN and unit.socket and app.health is None:
            yield warn(f"{unit.name} is started beside itself, and serves before anybody has asked it anything: there"
                       " is no health address", "add health = to the configuration")  # fmt: skip
        elif unit.handover == instances.BLUE_GREEN:
            yield Fact(f"{unit.name} is started beside itself: no request waits or fails")
        elif unit.handover != "restart" and unit.kind == "systemd" and _sockets(unit.name, user=unit.user):
            yield _waiting(unit)
        elif unit.handover == "socket" and unit.kind == "supervisor":
            yield Fact(f"the programs of {unit.name} are restarted one after the other: no request fails")
        elif unit.kind == "systemd":
            yield warn(COST.format(unit.name),
                       'give it a socket unit (bb-release units shows one), or handover = "blue-green"')  # fmt: skip
        elif unit.kind == "supervisor":
            yield Fact(f"{COST.format(unit.name)}; none as an [fcgi-program:x] of two, named x:* with handover ="
                       ' "socket"')  # fmt: skip
        else:
            yield Fact(f"{COST.format(unit.name)}; systemd can keep them waiting")


def _waiting(unit: Unit) -> Fact:
    try:
        instances.systemd_unit(unit).require_listening()
        starts = systemctl.properties(unit.name, ["ExecStart"], user=unit.user).get("ExecStart", "")
    except ReleaseError as error:
        return warn(f"{error.message}: {COST.format(unit.name)}", error.remedy)
    if "uvicorn" in starts.lower():
        # as measured: uvicorn closes at its stop what it has accepted and not read yet
        return Fact(f"{unit.name} has a socket: requests wait in it while the service restarts, but uvicorn may lose"
                    ' one or two when it stops; none with handover = "blue-green"')  # fmt: skip
    return Fact(f"{unit.name} has a socket: requests wait in it while the service restarts")


def rights(app: App) -> Iterator[Fact]:
    """Whether the deploy user may restart each unit of the system, exactly and without a password."""
    ours = [unit for unit in app.units if unit.kind == "systemd" and not unit.user]
    owner = filesystem.name_of(app.root.stat().st_uid)
    if not ours or owner == "root":
        return
    well: list[str] = []
    for unit in ours:
        alone = replace(app, units=(unit,))
        wanted = unit_rights.grants(alone, _sockets(unit.name))
        if _polkit_allows(app, owner, instances.every(alone)):
            well += wanted
            continue
        for each, verbs in wanted.items():
            by_sudo = [systemctl.sudo_allows(verb, each, user=owner) for verb in verbs]
            if all(by_sudo):
                well.append(each)
            elif None in by_sudo:
                rule = as_written.polkit_rule(owner, {each: verbs})
                yield problem(f"{owner} may not change {each}: there is no sudo, and polkit does not allow it",
                              f"as root, in {as_written.POLKIT}:\n{rule}")  # fmt: skip
            else:
                yield problem(f"{owner} may not change {each} without a password",
                              SUDOERS + as_written.sudoers(owner, {each: verbs}))  # fmt: skip
    if well:
        yield Fact(f"{owner} may restart {', '.join(well)}")


def _polkit_allows(app: App, owner: str, units: Iterable[Unit]) -> bool:
    """Whether polkit alone lets the owner change these units and their sockets. Root can only read our own rule."""
    if filesystem.name_of(os.geteuid()) != owner:
        path, rule = unit_rights.polkit(app, owner, _grants(app))
        try:
            return path.read_text("utf-8") == rule
        except (OSError, UnicodeDecodeError):
            return False
    managers = ((unit, instances.systemd_unit(unit)) for unit in units)
    try:
        return all(manager.polkit_allows("restart" if unit.runs_release else "reload") for unit, manager in managers)
    except ReleaseError:
        return False


def _of_the_system(app: App) -> list[Unit]:
    return [unit for unit in instances.every(app) if unit.kind == "systemd" and not unit.user]


def _grants(app: App) -> unit_rights.Grants:
    """The right to change every unit of the system, and the sockets that start them."""
    return unit_rights.grants(app, sorted({name for unit in _of_the_system(app) for name in _sockets(unit.name)}))


def journal(app: App) -> Iterator[Fact]:
    """Whether an error can show a failed unit's own last lines."""
    owner = filesystem.name_of(app.root.stat().st_uid)
    if owner == "root" or not _of_the_system(app):
        return
    try:
        _, groups = filesystem.groups_of(owner)
    except KeyError:  # a number without a name
        groups = set()
    if {filesystem.group_name(group) for group in groups} & set(READ_JOURNAL):
        yield Fact(f"{owner} may read the journal: an error shows the last lines of the unit that failed")
    else:
        yield warn(f"{owner} may not read the journal: an error cannot show the last lines of the unit that failed",
                   f"sudo usermod -aG {READ_JOURNAL[0]} {owner}")  # fmt: skip


def _sockets(unit: str, *, user: bool = False) -> list[str]:
    """A socket that failed with its service has to be started again: that takes a right of its own."""
    try:
        said = systemctl.properties(unit, ["TriggeredBy"], user=user).get("TriggeredBy", "")
    except ReleaseError:
        return []
    return [name for name in said.split() if name.endswith(".socket")]


def linger(app: App) -> Iterator[Fact]:
    owner = filesystem.name_of(app.root.stat().st_uid)
    if any(unit.kind == "systemd" and unit.user for unit in app.units):
        if systemctl.lingers(owner):
            yield Fact(f"{owner} lingers: the user's units run without a session")
        else:
            yield problem(f"{owner} does not linger: the user's units end with the last session",
                          f"sudo loginctl enable-linger {owner}")  # fmt: skip


def boot(app: App) -> Iterator[Fact]:
    """What finishes a switch that a power cut left, and what deploys by itself."""
    if not BOOTED.is_dir():
        yield warn("no systemd runs here: after a power cut nobody finishes a switch",
                   "have `bb-release recover` run at boot, after the site's units")  # fmt: skip
        return
    recover, timer = f"bb-release-recover@{app.name}.service", f"bb-release@{app.name}.timer"
    own = unit_scope.are_own(app)
    scope = "systemctl --user" if own else "sudo systemctl"
    facts = systemctl.properties(recover, ["LoadState", "UnitFileState"], user=own)
    if facts.get("LoadState") != "loaded":
        yield warn(f"{recover} is not installed: after a power cut nobody finishes a switch",
                   INSTALL[own])  # fmt: skip
    elif facts.get("UnitFileState") != "enabled":
        yield warn(f"{recover} does not run at boot", f"{scope} enable {recover}")
    else:
        yield Fact(f"{recover} runs at boot")
    yield from _hardened(app)
    facts = systemctl.properties(timer, ["LoadState", "UnitFileState", "ActiveState"], user=own)
    if facts.get("UnitFileState") == "enabled" and facts.get("ActiveState") != "active":
        yield warn(f"{timer} is enabled, but does not run", f"{scope} start {timer}")
    elif facts.get("ActiveState") == "active":
        yield Fact(f"{timer} runs: a push is a deploy")


def _hardened(app: App) -> Iterator[Fact]:
    """Under a timer the agent may gain no rights by sudo where its own unit was hardened by a drop-in."""
    owner = filesystem.name_of(app.root.stat().st_uid) if app.root.is_dir() else "root"
    wanted = _grants(app)
    if owner == "root" or not wanted or _polkit_allows(app, owner, _of_the_system(app)):
        return
    for unit in (f"bb-release@{app.name}.service", f"bb-release-recover@{app.name}.service"):
        facts = systemctl.properties(unit, NO_NEW_RIGHTS)
        found = next((name for name, value in facts.items() if value not in UNSET), "")
        if found:
            path, rule = unit_rights.polkit(app, owner, wanted)
            yield warn(f"{unit} has {found}=, under which sudo cannot work: it has to be allowed by polkit",
                       f"as root, in {path}:\n{rule}")  # fmt: skip


PROBES = (units, starts, handovers, rights, journal, linger, boot)
NEED_ROOT = (rights, journal, linger)
