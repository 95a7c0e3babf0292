"""The systemd units and the nginx site of an app, filled in for its configuration; printed or installed.

The templates are the only source: what `systemd/` holds is what they give for the example site, and a test sees to it.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bb_release import config_rules
from bb_release.actions import unit_rights, unit_scope, unit_templates
from bb_release.actions.instances import BLUE_GREEN
from bb_release.actions.unit_scope import SYSTEMD, Scope
from bb_release.errors import ConfigurationInvalid, ReleaseError
from bb_release.model import activation
from bb_release.model.app import App, Unit
from bb_release.tools import process

TMPFILES = Path("/etc/tmpfiles.d")
NGINX = (Path("/etc/nginx/sites-available"), Path("/etc/nginx/conf.d"))
LINK = "/usr/local/bin/bb-release"
AGENT_USER = "deploy"  # the agent's units are one file for all apps: an app of another owner gets a drop-in
OWNER = "owner.conf"
AGENT_UNITS = (
    ("agent.service", "bb-release@.service"), ("agent.timer", "bb-release@.timer"),
    ("recover.service", "bb-release-recover@.service"),
)  # fmt: skip
TASK_SECONDS = 600.0  # of the longest task and a margin, where the configuration says nothing
WEB_SERVERS = ("www-data", "nginx", "http")  # Debian, Fedora and Red Hat, Arch


@dataclass(frozen=True)
class People:
    """Who runs what on this host, and where the agent's program lies."""

    deploy_user: str
    site_user: str
    web_server: str
    program: str
    by_sudo: bool = True  # else by polkit


@dataclass(frozen=True)
class File:
    """One file to be: where, what it holds, and who writes it."""

    path: Path
    content: str
    mode: int = 0o644
    owner: str = "root"


def people(app: App, site_user: str, folder: Path = SYSTEMD) -> People:
    """The owner of the app root deploys (before there is one: `deploy`), and nginx has its distribution's user.

    The program is the one that the installed units start: what `scripts/install` has decided is decided.
    """
    known = {entry.pw_name for entry in pwd.getpwall()}
    web_server = next((name for name in WEB_SERVERS if name in known), WEB_SERVERS[0])
    # the link that survives an upgrade, where there is one
    usual = LINK if os.access(LINK, os.X_OK) else f"{sys.prefix}/bin/bb-release"
    program = _installed_program(folder) or usual
    by_sudo = bool(shutil.which("sudo", path=process.PATH)) or not unit_rights.POLKIT_FOLDER.is_dir()
    return People(owner_of(app) or AGENT_USER, site_user or web_server, web_server, program, by_sudo)


def _installed_program(folder: Path) -> str:
    """What bb-release@.service starts, "" when it is not installed, or what it starts is gone."""
    try:
        text = (folder / "bb-release@.service").read_text("utf-8", "replace")
    except OSError:
        return ""
    found = re.search(r"^ExecStart=(\S+)", text, re.MULTILINE)
    return found[1] if found and os.access(found[1], os.X_OK) else ""


def owner_of(app: App) -> str:
    """The user's name that the app root belongs to; "" when there is no root yet, or no name for its owner."""
    try:
        return pwd.getpwuid(app.root.stat().st_uid).pw_name
    except (OSError, KeyError):
        return ""


def role(app: App, unit: Unit) -> str:
    """What a unit is: `beat`, `celery` (a worker) or `web`. The configuration says it, or the words of its name."""
    return "celery" if unit.celery else config_rules.role(unit.name, app.name)


def render(app: App, who: People, *, systemd: bool = True, nginx: bool = True, folder: Path = SYSTEMD) -> list[File]:
    """The files of this app. Units of Supervisor and of commands are not ours to write.

    Those of `systemctl --user` go into the folder of the owner of the app root; where all are, the agent's too.
    Raises ConfigurationInvalid: nothing names the application, or a value cannot be written into a unit.
    """
    files: list[File] = []
    own = unit_scope.own(unit_scope.own_folder(who.deploy_user), who.deploy_user)
    if systemd:
        agents = own if unit_scope.are_own(app) else unit_scope.system(folder)
        for scope in (unit_scope.system(folder), own):
            files += _units_of(app, who, scope)
            if scope == agents:
                files += [_file(name, template, app, who, scope, {}) for template, name in AGENT_UNITS]
        if agents != own and who.deploy_user != AGENT_USER:
            files += _owners(app, who, folder)
        sockets = [file.path.name for file in files if file.path.suffix == ".socket" and file.path.parent == folder]
        files += _rights(app, who, sockets)
    if nginx:
        site = next((place for place in NGINX if place.is_dir()), NGINX[0])
        of_user = unit_scope.are_own(app)
        address = unit_scope.address_of(app, _web_unit(app), user=of_user)
        address = address.replace("%t", str(unit_scope.runtime_folder(who.deploy_user)))
        upstream = f"unix:{address}" if address.startswith("/") else address
        values = {"unit": _web_unit(app), "upstream": upstream, "server_name": _server_name(app)}
        files.append(File(site / f"{app.name}.conf", _fill("site.nginx", app, who, values)))
    return files


def _units_of(app: App, who: People, scope: Scope) -> Iterator[File]:
    """The site's own units of one systemd, and what starts a blue-green one at boot."""
    ours = unit_scope.in_scope(app, scope)
    application = _application(app) if ours else ""
    address = unit_scope.address_of(app, _web_unit(app), user=scope.name == "user")
    celery = next((unit.celery for unit in ours if unit.celery), application.partition(".")[0])  # beat's, too
    for unit in ours:
        values = {"unit": _stem(unit), "application": application, "celery": unit.celery or celery}
        values |= {"workers": _workers(application), "stop": _stop_limit(unit)}
        if unit.handover == BLUE_GREEN:
            values |= _of_slots(app, ours, scope)
            yield _file(f"{_stem(unit)}@.service", f"{role(app, unit)}@.service", app, who, scope, values)
            continue
        yield _file(f"{_stem(unit)}.service", f"{role(app, unit)}.service", app, who, scope, values)
        if role(app, unit) == "web":
            values["socket"] = unit_scope.written(address, scope)
            yield _file(f"{_stem(unit)}.socket", "web.socket", app, who, scope, values)
    if any(unit.handover == BLUE_GREEN for unit in ours):
        values = _of_slots(app, ours, scope)
        yield _file(values["boot"], "boot.service", app, who, scope, values)
        if scope.name == "system":
            yield File(TMPFILES / values["boot_folder"], _fill("boot.conf", app, who, values))


def _file(name: str, template: str, app: App, who: People, scope: Scope, values: Mapping[str, str]) -> File:
    named = {"systemctl": scope.systemctl, "runtime": scope.runtime, "state": scope.state}
    return File(scope.folder / name, _fill(template, app, who, {**named, **values}, scope.name), owner=scope.owner)


def _owners(app: App, who: People, folder: Path) -> Iterator[File]:
    """Drop-ins of this app's instances alone (systemd.unit(5)): they run as the owner of its root."""
    for _, name in AGENT_UNITS:
        if name.endswith(".service"):
            place = folder / f"{name.replace('@', f'@{app.name}')}.d" / OWNER
            yield File(place, f"# the owner of {app.root}\n[Service]\nUser={who.deploy_user}\n")


def _rights(app: App, who: People, sockets: list[str]) -> Iterator[File]:
    """What the deploy user may do to the units, unless it is root."""
    allowed = unit_rights.grants(app, sockets)
    if allowed and who.deploy_user != "root":
        if who.by_sudo:
            yield File(
                *unit_rights.sudoers(app, unit_templates.plain("deploy_user", who.deploy_user), allowed), mode=0o440
            )
        else:
            yield File(*unit_rights.polkit(app, unit_templates.plain("deploy_user", who.deploy_user), allowed))


def _stem(unit: Unit) -> str:
    return unit.name.removesuffix(".service").removesuffix("@")


def _of_slots(app: App, ours: list[Unit], scope: Scope) -> dict[str, str]:
    """What the units of a blue-green handover name besides: slots, sockets, and what starts them at boot."""
    pair = [unit for unit in ours if unit.handover == BLUE_GREEN]
    link = next((Path(unit_scope.written(unit.socket, scope)) for unit in pair if unit.socket), None)
    return {
        "slot_project": app.project_in(app.layout.slots / "%i"),
        "boot": f"{app.name}-boot.service", "boot_folder": f"{app.name}.conf",
        "folder": str(link.parent if link else Path(scope.runtime) / app.name),
        "link": f"ln -sfn $$colour.sock {link};" if link else "",
        "instances": " ".join(f"{_stem(unit)}@$$colour.service" for unit in pair),
    }  # fmt: skip


def _web_unit(app: App) -> str:
    return next((_stem(unit) for unit in app.units if role(app, unit) == "web" and unit.runs_release), app.name)


def _application(app: App) -> str:
    """The WSGI or ASGI application: as configured, else as the live release said of itself."""
    if app.application:
        return app.application
    try:
        live = activation.current(app.layout)
    except (ReleaseError, OSError):
        live = None
    said = str(live.manifest.facts.get("application", "")) if live else ""
    if not said:
        raise ConfigurationInvalid(
            "the units need the name of the application, and nothing is live that could tell it",
            remedy=f'add to the configuration: application = "{app.name.replace("-", "_")}.wsgi:application"',
        )
    # Django's own settings write it with a dot, gunicorn with a colon
    return said if ":" in said else ":".join(said.rpartition(".")[::2])


def _workers(application: str) -> str:
    if "asgi" in application.partition(":")[0]:
        return "--worker-class uvicorn_worker.UvicornWorker --workers 2"
    return "--worker-class gthread --workers 2 --threads 4"


def _stop_limit(unit: Unit) -> str:
    """How long a worker may finish its tasks: `stop_seconds` where it was set."""
    return f"{TASK_SECONDS if unit.stop_seconds == Unit.stop_seconds else unit.stop_seconds:.15g}"


def _server_name(app: App) -> str:
    host = dict(app.health.headers).get("Host", "") if app.health else ""
    return host or app.inline_environment.get("DJANGO_ALLOWED_HOSTS", "").partition(",")[0] or "_"


def _fill(template: str, app: App, who: People, values: Mapping[str, str], scope: str = "system") -> str:
    names = {"deploy_user": who.deploy_user, "site_user": who.site_user, "web_server": who.web_server}
    names |= {"program": who.program, "agent_user": AGENT_USER}
    return unit_templates.fill(template, app, {**names, **values}, scope)
