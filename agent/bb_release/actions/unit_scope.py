"""Whose systemd runs the units: the system's, or that of the user who owns the app root (`systemctl --user`)."""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bb_release.actions.instances import BLUE_GREEN
from bb_release.errors import ConfigurationInvalid
from bb_release.model.app import App, Unit
from bb_release.tools.filesystem import name_of

SYSTEMD = Path("/etc/systemd/system")
LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Scope:
    """One systemd: who writes its unit files, where, and what its units call their folders (systemd.unit(5))."""

    name: str  # which lines of a template are for it
    folder: Path
    owner: str
    systemctl: str
    runtime: str
    state: str


def system(folder: Path = SYSTEMD) -> Scope:
    """The one that is started with the host."""
    return Scope("system", folder, "root", "systemctl", "/run", "/var/lib")


def own(folder: Path, owner: str) -> Scope:
    """The one of a user. %t and %S are the user's own runtime and state folders."""
    return Scope("user", folder, owner, "systemctl --user", "%t", "%S")


def own_folder(user: str) -> Path:
    """Where this user's systemd reads unit files (systemd.unit(5)); before there is one, where it will be."""
    chosen = os.environ.get("XDG_CONFIG_HOME", "")
    if chosen.startswith("/") and user == name_of(os.geteuid()):
        return Path(chosen) / "systemd/user"
    try:
        home = pwd.getpwnam(user).pw_dir
    except KeyError:
        home = f"/home/{user}"
    return Path(home) / ".config/systemd/user"


def runtime_folder(user: str) -> Path:
    """What %t is for this user (pam_systemd(8)). Whoever is not there yet has no number, and gets the usual one."""
    try:
        return Path(f"/run/user/{pwd.getpwnam(user).pw_uid}")
    except KeyError:
        return Path("/run/user/1000")


def are_own(app: App) -> bool:
    """Whether all units of systemd are the deploy user's own: then the agent's are too."""
    ours = [unit for unit in app.units if unit.kind == "systemd" and unit.runs_release]
    return bool(ours) and all(unit.user for unit in ours)


def in_scope(app: App, scope: Scope) -> list[Unit]:
    """The units that are written for it."""
    return [u for u in app.units if u.kind == "systemd" and u.runs_release and u.user == (scope.name == "user")]


def address_of(app: App, unit: str, *, user: bool) -> str:
    """Where the site listens: a unix socket's path, or for units of a user the address and port on loopback.

    The link of a blue-green unit, else what the health address says, else a socket named for the web unit.
    """
    link = next((unit.socket for unit in app.units if unit.handover == BLUE_GREEN and unit.socket), "")
    if link:
        return link
    url = app.health.url if app.health else ""
    if url.startswith("http+unix://"):
        return url.removeprefix("http+unix://").partition(":")[0]
    parts = urlsplit(url)
    # a port below 1024 is nginx's
    if user and parts.scheme == "http" and parts.hostname in LOOPBACK and (parts.port or 80) >= 1024:
        return f"127.0.0.1:{parts.port}"
    return f"%t/{unit}/web.sock" if user else f"/run/{unit}/web.sock"


def written(path: str, scope: Scope) -> str:
    """A path as a unit of this scope has it. Raises ConfigurationInvalid for one where a user can make no socket."""
    if scope.name == "system":
        return path
    path = re.sub(r"^/run/user/\d+/", "%t/", path)
    if re.match(r"(/var)?/run/", path):
        raise ConfigurationInvalid(
            f"units of a user can make no socket in {Path(path).parent}, which is root's",
            remedy="in health, or socket of the unit: a path below /run/user/UID or in shared/, or http://127.0.0.1:PORT/…",
        )
    return path
