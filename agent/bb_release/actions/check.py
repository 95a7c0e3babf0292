"""The doctor: can this host deploy this app? Looks and changes nothing; whatever is broken is a line, not an end."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bb_release import config, envfile
from bb_release.actions import check_folders, check_site, check_units, masking, moved, notify, signed, site_environment
from bb_release.actions.owner import as_owner
from bb_release.actions.wanted import access_of
from bb_release.actions.written import is_below
from bb_release.errors import ConfigurationInvalid, ReleaseError
from bb_release.model.app import App
from bb_release.model.fact import Fact, Level, problem, warn
from bb_release.tools import filesystem, git_access, mirror, process

REPOSITORY_SECONDS = 30.0
RECOVER = "bb-release recover"
Probe = Callable[[App], Iterator[Fact]]


def check(name: str | None, file: Path | None) -> dict[str, list[Fact]]:
    """Every fact by its group, in the order in which a person would mend them. Raises nothing."""
    apps: list[App] = []

    def configuration() -> Iterator[Fact]:
        path = config.find(name, file)
        apps.append(config.load(path))
        yield Fact(f"{path} is valid")

    facts = {"configuration": list(_kept(configuration()))}
    if not apps:
        return facts | {"programs": list(_kept(git_there()))}
    app = apps[0]
    for group, probes in GROUPS.items():
        found = facts.setdefault(group, [])
        for probe in probes:
            if probe not in NEED_ROOT or app.root.is_dir():
                found += _kept(probe(app))
    mask = masking.mask_of(app)  # what is wrong may be told in the words of the site, a unit or a program
    return {
        group: [fact if fact.level is Level.OK else replace(fact, text=mask(fact.text)) for fact in found]
        for group, found in facts.items()
        if found
    }


def to_do(facts: dict[str, list[Fact]]) -> list[str]:
    """What a person has to do, each once: `recover` before all, since it may do the rest; then what stops a deploy."""
    ordered = [fact for level in (Level.PROBLEM, Level.WARN) for group in facts.values()
               for fact in group if fact.level is level and fact.do]  # fmt: skip
    first = [fact.do for fact in ordered if fact.do == RECOVER]
    return list(dict.fromkeys([*first, *(fact.do for fact in ordered)]))


def _kept(facts: Iterator[Fact]) -> Iterator[Fact]:
    """The facts, and what goes wrong while they are looked for as one more."""
    try:
        yield from facts
    except ReleaseError as error:
        details = "".join(f"\n{line}" for line in error.details.splitlines()[:12])
        yield problem(error.message + details, error.remedy)
    except PermissionError as error:
        yield warn(f"{error.filename or 'something'} cannot be seen by {filesystem.name_of(os.geteuid())}")
    except OSError as error:
        yield problem(f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "))
    except Exception as error:  # noqa: BLE001 - one broken look must not hide the others
        yield problem(f"this look failed, a bug in bb-release: {type(error).__name__}: {error}")


def who_looks(app: App) -> Iterator[Fact]:
    """Only the owner of the app root sees everything, as the one who deploys."""
    me = filesystem.name_of(os.geteuid())
    owner = filesystem.name_of(app.root.stat().st_uid) if app.root.exists() else me
    if owner == me:
        yield Fact(f"looked as {me}, who deploys")
    else:
        yield warn(f"looked as {me}, but {owner} deploys: keys, rights and the repository may be others",
                   as_owner(owner))  # fmt: skip


def environment_files(app: App) -> Iterator[Fact]:
    for key, path in (("env_file", app.env_file), ("build_env_file", app.build_env_file)):
        if path is not None:
            yield from _kept(_environment_file(app, key, path))
    yield from _kept(_leads_elsewhere(app))
    if app.environment_unit:
        names = site_environment.read(app)
        where = ", ".join(str(path) for path in site_environment.files(app))
        yield Fact(f"environment of {app.environment_unit}: {len(names)} names" + (f", with {where}" if where else ""))
    elif app.env_file is None:
        yield Fact("no env_file: the site has only what [environment] says")


def _leads_elsewhere(app: App) -> Iterator[Fact]:
    """manage.py gets it while a release is built, when `current` still leads to the one before."""
    try:
        values = {**site_environment.read(app), **app.inline_environment}
    except ReleaseError:  # told where the file is looked at, or the unit
        return
    if any(is_below(path, str(app.layout.current)) for path in values.get("PYTHONPATH", "").split(":")):
        yield warn(f"PYTHONPATH of the site's environment leads through {app.layout.current}: a release would be built"
                   " with the code of the one before", "take PYTHONPATH out")  # fmt: skip


def _environment_file(app: App, key: str, path: Path) -> Iterator[Fact]:
    try:
        names = envfile.read(path)
    except ConfigurationInvalid:
        if os.access(path, os.R_OK) or not path.exists():
            raise
        me, owner = filesystem.name_of(os.geteuid()), filesystem.name_of(path.stat().st_uid)
        told = problem if _deploys(app) else warn
        yield told(f"{key} {path} belongs to {owner}, and {me} cannot read it", f"sudo chown {me} {_quoted(path)}")
        return
    empty = [name for name, value in names.items() if not value]
    yield Fact(f"{key} {path}: {len(names)} names" + (f", empty: {', '.join(empty)}" if empty else ""))


def _deploys(app: App) -> bool:
    return app.root.is_dir() and app.root.stat().st_uid == os.geteuid()


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def keys(app: App) -> Iterator[Fact]:
    for key, path in (("deploy_key", app.deploy_key), ("git_credentials", app.git_credentials)):
        if path is not None:
            git_access.check_secret(path)
            yield Fact(f"{key} {path} has mode 0600")
    if app.webhook_file is not None:
        yield _webhook(app.webhook_file)
    if app.known_hosts is not None and not app.known_hosts.is_file():
        yield problem(f"known_hosts {app.known_hosts} is not there", f"see: man ssh-keyscan; then: {app.known_hosts}")


def _webhook(path: Path) -> Fact:
    """A webhook that cannot be told stops no deploy: nobody hears of it, that is all."""
    try:
        told = envfile.read(path).get(notify.VARIABLE)
    except ConfigurationInvalid as error:
        return warn(f"webhook_file: {error.message}", error.remedy)
    if not told:
        return warn(
            f"webhook_file {path} has no {notify.VARIABLE}", f"add a line {notify.VARIABLE}=https://… to {path}"
        )
    return Fact(f"webhook_file {path} names an address")


def git_there(app: App | None = None) -> Iterator[Fact]:
    try:
        yield Fact(process.run(["git", "--version"], timeout_seconds=20.0, capture=True).output.strip())
    except process.ProcessFailed as error:
        yield problem(f"git: {error.reason}", "sudo apt-get install git")


def interpreter(app: App) -> Iterator[Fact]:
    """The Python of the site: as `deploy` will look for it."""
    wanted = app.python or getattr(sys, "_base_executable", sys.executable)
    if "/" in wanted:
        program = wanted
    else:
        minor = ".".join(wanted.split(".")[:2])
        places = (f"{folder}/python{minor}" for folder in process.PATH.split(":"))
        program = next((place for place in places if os.access(place, os.X_OK)), "")
    if not program or not os.access(program, os.X_OK):
        there = sorted({path.name for folder in process.PATH.split(":") for path in Path(folder).glob("python3.*")
                        if re.fullmatch(r"python3\.\d+", path.name)})  # fmt: skip
        yield problem(f"python {wanted} is not on this host; there is {', '.join(there) or 'none'}",
                      f"install it (sudo apt-get install python{wanted}), or name another as python")  # fmt: skip
        return
    said = process.run([program, "--version"], timeout_seconds=20.0).output.strip()
    yield Fact(f"{said} at {program}")


def installer(app: App) -> Iterator[Fact]:
    if app.installer == "pip":
        yield Fact("pip comes with each release's environment")
        return
    program = Path(sys.prefix) / "bin" / "uv"
    try:
        yield Fact(f"{process.run([program, '--version'], timeout_seconds=20.0).output.strip()}")
    except process.ProcessFailed as error:
        yield problem(f"uv: {error.reason}", f'{sys.prefix}/bin/pip install uv, or set installer = "pip"')


def repository(app: App) -> Iterator[Fact]:
    limit = min(app.timeouts.fetch or REPOSITORY_SECONDS, REPOSITORY_SECONDS)
    found = mirror.remote_revision(app.repository, app.branch, access_of(app), timeout_seconds=limit)
    if found is None:
        yield problem(
            f"{app.repository} has no branch {app.branch}", "push it, or correct branch = in the configuration"
        )
    else:
        yield Fact(f"{app.repository}: {app.branch} is at {found[:7]}")


def moved_link(app: App) -> Iterator[Fact]:
    wrong = moved.seen(app)
    if wrong:
        yield problem(*wrong)


GROUPS: dict[str, tuple[Probe, ...]] = {
    "configuration": (who_looks,),
    "folders": check_folders.PROBES,
    "secrets": (environment_files, keys),
    "programs": (git_there, interpreter, installer),
    "repository": (repository, signed.probe),
    "units": (moved_link, *check_units.PROBES),
    "site": check_site.PROBES,
}
# these speak of the root's owner or file system: where there is no root yet, one line says so
NEED_ROOT = {*check_folders.NEED_ROOT, *check_units.NEED_ROOT}
