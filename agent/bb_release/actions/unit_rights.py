"""The right of the deploy user to restart exactly the units of an app: as sudo wants it written, or polkit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bb_release.actions import instances
from bb_release.model.app import App
from bb_release.tools.units import rights

Grants = dict[str, Sequence[str]]
POLKIT_FOLDER = Path(rights.POLKIT).parent
REASONS = {
    rights.RESTART: "restarted by each deploy; reset-failed clears what a release left that could not start",
    rights.BESIDE: "started beside the other instance, and stopped once that one has taken over",
    rights.RELOAD: "only reads its configuration again",
    rights.SOCKET: "started again where it failed with its service; one that listens is never touched",
}


def grants(app: App, sockets: Sequence[str] = ()) -> Grants:
    """The verbs for each unit of the system and each of its sockets: what `deploy` needs, and no more."""
    ours = [unit for unit in instances.every(app) if unit.kind == "systemd" and not unit.user]
    verbs: Grants = {}
    for unit in ours:
        name = unit.name if "." in unit.name else f"{unit.name}.service"
        restart = rights.BESIDE if unit.handover == instances.BLUE_GREEN else rights.RESTART
        verbs[name] = restart if unit.runs_release else rights.RELOAD
    return verbs | dict.fromkeys(sockets, rights.SOCKET) if verbs else {}


def sudoers(app: App, user: str, allowed: Grants) -> tuple[Path, str]:
    """The file below /etc/sudoers.d, each line with its reason. sudo reads no file with a dot in its name."""
    lines = [
        f"# What bb-release may do as {user} for {app.name}, without a password. sudo compares word by word: the full",
        "# path, the full name of the unit, no other word, no wildcard. Change it by visudo -f alone.",
    ]
    for unit, verbs in allowed.items():
        lines += [f"# {unit}: {REASONS[tuple(verbs)]}", rights.sudoers(user, {unit: verbs})]
    return Path(f"{rights.SUDOERS}-{app.name}"), "\n".join(lines) + "\n"


def polkit(app: App, user: str, allowed: Grants) -> tuple[Path, str]:
    """The same as a rule of polkit, for a host without sudo, or an agent whose unit may gain no rights."""
    lines = [f"// What bb-release may do as {user} for {app.name}, by polkit (0.106 or newer)."]
    lines += [f"// {unit}: {REASONS[tuple(verbs)]}" for unit, verbs in allowed.items()]
    lines.append(
        "// try-restart, and reset-failed of what has not failed, are how the right is tried without doing anything"
    )
    name = rights.POLKIT.replace(".rules", f"-{app.name}.rules")
    return Path(name), "\n".join([*lines, rights.polkit_rule(user, allowed)]) + "\n"
