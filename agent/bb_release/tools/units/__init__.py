"""What runs the site: systemd, Supervisor or commands of its own, behind one small interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol

from bb_release.errors import ConfigurationInvalid

Verb = Literal["restart", "reload"]
NO_COMMANDS: Mapping[str, Sequence[str]] = {}


@dataclass(frozen=True)
class UnitState:
    """What a unit is doing at this moment. Two states with another `invocation` are two runs of the unit."""

    running: bool
    main_pid: int  # 0: unknown
    summary: str  # for people, such as "active (running)"
    started: float | None  # when the main process was created, in seconds since the epoch
    restarts: int = 0  # how often the manager brought it back by itself
    invocation: str = ""

    @property
    def run(self) -> str:
        """What names this run of the unit for as long as it lasts; "" where its manager does not tell."""
        return f"{self.invocation} {self.main_pid}" if self.invocation else ""


@dataclass(frozen=True)
class UnitSettings:
    """What a manager needs to know of its unit. `env` is the whole environment of the programs it runs."""

    name: str
    socket: str
    commands: Mapping[str, Sequence[str]]
    user: bool
    stop_seconds: float  # how long a start, restart or reload may take
    handover: str  # "socket": it has to have one; "blue-green": it is stopped after the other has taken over
    env: Mapping[str, str]


class UnitManager(Protocol):
    """One unit. Every method raises UnitsNotRestarted when the manager cannot be asked or refuses."""

    def state(self) -> UnitState:
        """What the unit is doing now."""

    def check_can(self, verb: Verb) -> str:
        """Make sure that the unit is known and that we may restart (or reload) it, without doing so.

        Returns what a person is warned of all the same; "" for nothing.
        """

    def stop_command(self) -> str:
        """Return the command by which a person stops the unit for good."""

    def start(self) -> None:
        """Start the unit where it does not run, and wait until its manager says that it runs."""

    def restart(self) -> None:
        """Stop the unit where it runs, then start it, and wait until its manager says that it runs."""

    def reload(self) -> None:
        """Have the unit read its configuration again; its processes stay."""

    def log_lines(self, count: int = 20) -> list[str]:
        """Return the last lines that the unit wrote, oldest first; none where they cannot be read."""

    def processes(self) -> list[int]:
        """Return the ids of all processes of the unit: the main one and all that descend from it."""

    def cut_off(self) -> float | None:
        """After how many seconds the last stop was ended by force; None when it was not, or where nobody knows."""

    def starts_through(self, folder: str) -> bool:
        """Whether the manager's own words say that it starts the unit by a path below the folder."""


_CLASSES = {
    "systemd": ("bb_release.tools.units.systemd", "SystemdUnit"),
    "supervisor": ("bb_release.tools.units.supervisor", "SupervisorUnit"),
    "command": ("bb_release.tools.units.command", "CommandUnit"),
}


def manager_of(
    *,
    kind: str,
    name: str,
    socket: str = "",
    commands: Mapping[str, Sequence[str]] = NO_COMMANDS,
    user: bool = False,
    stop_seconds: float = 90.0,
    handover: str = "",
    env: Mapping[str, str],
) -> UnitManager:
    """Return the manager of a unit. `env` is the whole environment of the programs that it runs.

    `commands` maps "start", "restart", "reload" and "status" to lists of arguments (kind "command").
    Raises ConfigurationInvalid for a kind that does not exist, and for a name that a program would take
    for an option.
    """
    if kind not in _CLASSES:
        raise ConfigurationInvalid(
            f'the unit {name} has the unknown kind "{kind}"',
            remedy=f"use one of: {', '.join(sorted(_CLASSES))}",
        )
    if not name or name.startswith("-") or not name.isprintable() or " " in name:
        raise ConfigurationInvalid(
            f'"{name}" is no name of a unit',
            remedy="give the name as its manager knows it, such as app.service",
        )
    module, class_name = _CLASSES[kind]
    settings = UnitSettings(name, socket, commands, user, stop_seconds, handover, env)
    manager: UnitManager = getattr(import_module(module), class_name)(settings)
    return manager
