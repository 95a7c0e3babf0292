"""Which users run the site: as the units say, else as their processes show."""

from __future__ import annotations

from pathlib import Path

from bb_release.actions import instances
from bb_release.actions.instances import manager_for
from bb_release.errors import ReleaseError
from bb_release.model.app import App
from bb_release.tools import filesystem, systemctl


def site_users(app: App) -> set[str]:
    """The users' names; none when nothing is known. Raises nothing: what is broken is told by the units' own lines."""
    users = set()
    for unit in instances.serving(app):
        if not unit.runs_release:
            continue
        try:
            if unit.kind == "systemd" and not unit.user:
                said = systemctl.properties(unit.name, ["LoadState", "User"])
                if said.get("LoadState") == "loaded":
                    users.add(said.get("User") or "root")
                continue
            pid = manager_for(unit).state().main_pid
            if pid:
                users.add(filesystem.name_of(Path(f"/proc/{pid}").stat().st_uid))
        except (ReleaseError, OSError):
            continue
    return {user for user in users if _is_there(user)}


def _is_there(user: str) -> bool:
    try:
        filesystem.groups_of(user)
    except KeyError:
        return False
    return True
