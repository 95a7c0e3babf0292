"""The site's own environment: from a file, or from the unit that runs it, as systemd would give it to that unit."""

from __future__ import annotations

import glob
import os
import shlex
from pathlib import Path

from bb_release import envfile
from bb_release.actions import instances
from bb_release.errors import ConfigurationInvalid, ReleaseError
from bb_release.model.app import App, Unit
from bb_release.tools import filesystem, systemctl

PROPERTIES = ("LoadState", "Environment", "EnvironmentFiles", "PassEnvironment", "UnsetEnvironment")


def read(app: App) -> dict[str, str]:
    """What env_file says, or `environment = "unit:NAME"`. Raises ConfigurationInvalid."""
    if app.env_file:
        return envfile.read(app.env_file)
    return of_unit(app) if app.environment_unit else {}


def files(app: App) -> list[Path]:
    """The files that it comes from and that are there, without those of a release. Raises ConfigurationInvalid."""
    if app.env_file:
        return [app.env_file]
    known = _files(app, _shown(app)) if app.environment_unit else []
    return [path for path, _ in known if os.path.exists(path)]  # noqa: PTH110 - False for a closed folder, no error


def of_unit(app: App) -> dict[str, str]:
    """Environment=, then each EnvironmentFile= over it, without UnsetEnvironment= (systemd.exec(5)).

    Raises ConfigurationInvalid: systemd does not know the unit, it takes variables from systemd itself, or this user
    may not read one of its files.
    """
    facts, unit = _shown(app), app.environment_unit
    if facts.get("PassEnvironment"):
        raise ConfigurationInvalid(
            f"{unit} takes {facts['PassEnvironment']} from systemd's own environment (PassEnvironment=)",
            remedy=f"give {unit} an Environment= or EnvironmentFile= with it instead",
        )
    found = systemctl.assignments(facts.get("Environment", ""))
    for path, optional in _files(app, facts):
        if _is_there(unit, path, optional=optional):
            found |= envfile.read(path, private=False)
    for word in facts.get("UnsetEnvironment", "").split():
        name, equals, value = word.partition("=")
        if not equals or found.get(name) == value:
            found.pop(name, None)
    return found


def _shown(app: App) -> dict[str, str]:
    unit = _unit(app)
    try:
        facts = systemctl.properties(unit.name, PROPERTIES, user=unit.user)
    except ReleaseError as error:
        raise ConfigurationInvalid(
            f'environment = "unit:{app.environment_unit}" cannot be read: {error.message}',
            remedy=error.remedy, details=error.details,
        ) from error  # fmt: skip
    if facts.get("LoadState") != "loaded":
        scope = "--user " if unit.user else ""
        raise ConfigurationInvalid(
            f'environment = "unit:{app.environment_unit}" names a unit that systemd cannot use: '
            + facts.get("LoadState", "not known"),
            remedy=f"install or correct the unit file, then run systemctl {scope}daemon-reload",
        )
    if "[unprintable]" in facts.get("Environment", ""):
        raise ConfigurationInvalid(
            f"{unit.name} has an Environment= that this systemd does not tell",
            remedy="move what has spaces in it to an EnvironmentFile=",
        )
    return facts


def _unit(app: App) -> Unit:
    """The unit as its manager knows it: of a template the instance that serves."""
    stem = app.environment_unit.partition("@")[0]
    return next(
        (unit for unit in instances.serving(app) if unit.name.partition("@")[0] == stem), Unit(app.environment_unit)
    )


def _files(app: App, facts: dict[str, str]) -> list[tuple[Path, bool]]:
    """Each EnvironmentFile= in its order, and whether it may be missing; those of a release are told otherwise."""
    found = []
    for line in facts.get("EnvironmentFiles", "").splitlines():
        path, _, rest = line.rpartition(" (ignore_errors=")
        if not any(Path(path).is_relative_to(top) for top in (app.layout.current, app.layout.slots)):
            # a pattern is sorted by systemd too; one that matches nothing is kept, and missing
            found += [(Path(name), rest == "yes)") for name in sorted(glob.glob(path)) or [path]]  # noqa: PTH207
    return found


def _is_there(unit: str, path: Path, *, optional: bool) -> bool:
    """False for a file that need not be there. Raises ConfigurationInvalid for one that is missing, or closed to us."""
    try:
        path.stat()
        closed = not os.access(path, os.R_OK)
    except FileNotFoundError:
        if optional:
            return False
        raise ConfigurationInvalid(
            f"{unit} reads {path}, which is not there: it could not start",
            remedy=f"make it, or take EnvironmentFile={path} out of {unit}",
        ) from None
    except OSError:
        closed = True
    if closed:
        me, quoted = filesystem.name_of(os.geteuid()), shlex.quote(str(path))
        raise ConfigurationInvalid(
            f"{unit} reads {path}, which {me} may not read: manage.py would get another environment",
            remedy=f"sudo chgrp {filesystem.group_of(me)} {quoted} && sudo chmod 640 {quoted}   # its folder has to be"
            f" open to {me} too",
        )
    return True
