"""The systemd units and the nginx site of an app, filled in for its configuration; printed or installed.

The templates are the only source: what `systemd/` holds is what they give for the example site, and a test sees to it.
"""

from __future__ import annotations

import difflib
import os
import pwd
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bb_release.actions import unit_rights, unit_templates
from bb_release.actions.instances import BLUE_GREEN
from bb_release.errors import AlreadyThere, ConfigurationInvalid, NotTheOwner, ReleaseError
from bb_release.model import activation, durable
from bb_release.model.app import App, Unit
from bb_release.tools import process, systemctl

SYSTEMD = Path("/etc/systemd/system")
TMPFILES = Path("/etc/tmpfiles.d")
NGINX = (Path("/etc/nginx/sites-available"), Path("/etc/nginx/conf.d"))
LINK = "/usr/local/bin/bb-release"
AGENT_USER = "deploy"  # the agent's units are one file for all apps: an app of another owner gets a drop-in
OWNER = "owner.conf"
AGENT_UNITS = (
    ("agent.service", "bb-release@.service"), ("agent.timer", "bb-release@.timer"),
    ("recover.service", "bb-release-recover@.service"),
)  # fmt: skip
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
    """One file to be: where, and what it holds."""

    path: Path
    content: str
    mode: int = 0o644


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


def role(unit: Unit) -> str:
    """What a unit is, by its name: `beat`, `celery` (a worker) or `web`."""
    if "beat" in unit.name:
        return "beat"
    return "celery" if "celery" in unit.name or "worker" in unit.name else "web"


def socket_of(app: App) -> str:
    """Where the site listens: the unix socket of the health address, or one named for the web unit."""
    link = next((unit.socket for unit in app.units if unit.handover == BLUE_GREEN and unit.socket), "")
    if link:
        return link
    if app.health and app.health.url.startswith("http+unix://"):
        return app.health.url.removeprefix("http+unix://").partition(":")[0]
    return f"/run/{_web_unit(app)}/web.sock"


def render(app: App, who: People, *, systemd: bool = True, nginx: bool = True, folder: Path = SYSTEMD) -> list[File]:
    """The files of this app. Units of Supervisor, of `systemctl --user` and of commands are not ours to write.

    Raises ConfigurationInvalid: nothing names the application, or a value cannot be written into a unit.
    """
    files = []
    if systemd:
        ours = [unit for unit in app.units if unit.kind == "systemd" and unit.runs_release and not unit.user]
        application = _application(app) if ours else ""
        for unit in ours:
            values = {"unit": _stem(unit), "application": application, "celery": application.partition(".")[0]}
            values |= {"workers": _workers(application), "socket": socket_of(app)}
            if unit.handover == BLUE_GREEN:
                values |= _of_slots(app)
                files.append(
                    File(folder / f"{_stem(unit)}@.service", _fill(f"{role(unit)}@.service", app, who, values))
                )
                continue
            files.append(File(folder / f"{_stem(unit)}.service", _fill(f"{role(unit)}.service", app, who, values)))
            if role(unit) == "web":
                files.append(File(folder / f"{_stem(unit)}.socket", _fill("web.socket", app, who, values)))
        if any(unit.handover == BLUE_GREEN for unit in ours):
            values = _of_slots(app)
            files.append(File(folder / values["boot"], _fill("boot.service", app, who, values)))
            files.append(File(TMPFILES / values["boot_folder"], _fill("boot.conf", app, who, values)))
        files += [File(folder / name, _fill(template, app, who, {})) for template, name in AGENT_UNITS]
        if who.deploy_user != AGENT_USER:
            files += _owners(app, who, folder)
        files += _rights(app, who, [file.path.name for file in files if file.path.suffix == ".socket"])
    if nginx:
        site = next((place for place in NGINX if place.is_dir()), NGINX[0])
        values = {"unit": _web_unit(app), "socket": socket_of(app), "server_name": _server_name(app)}
        files.append(File(site / f"{app.name}.conf", _fill("site.nginx", app, who, values)))
    return files


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


def install(files: list[File]) -> list[Path]:
    """Write those that are not there, all or none, and have systemd read them. Returns what was written.

    Raises NotTheOwner for anyone but root, AlreadyThere with the difference when a file holds something else,
    ConfigurationInvalid when visudo does not take a file for sudo,
    UnitsNotRestarted when systemd does not answer (the files are there then).
    """
    if os.geteuid() != 0:
        raise NotTheOwner("unit files are root's", remedy="sudo bb-release units --install")
    differences = [line for file in files for line in _difference(file)]
    if differences:
        raise AlreadyThere(
            "a file that is there already holds something else; nothing was written",
            details="\n".join(differences),
            remedy="keep it as it is (a drop-in below NAME.d changes a unit), or move it away and run this again",
        )
    for file in files:
        if file.mode == 0o440 and file.path.parent.is_dir() and not file.path.exists():
            systemctl.check_sudoers(file.content)
    written = []
    for file in files:
        if file.path.name == OWNER and file.path.parent.parent.is_dir():
            file.path.parent.mkdir(mode=0o755, exist_ok=True)
        if not file.path.exists() and file.path.parent.is_dir():
            durable.put(file.path, file.content.encode(), mode=file.mode)
            written.append(file.path)
    if any(path.suffix in (".service", ".socket", ".timer") or path.name == OWNER for path in written):
        systemctl.daemon_reload()
    return written


def enable_commands(app: App, files: list[File]) -> list[str]:
    """What a person types once the files are there: nothing is started or enabled by itself."""
    names = [file.path.name for file in files]
    sockets = [name for name in names if name.endswith(".socket")]
    services = [name for name in names if name.endswith(".service") and "@" not in name]
    commands = [f"systemctl enable --now {name}" for name in sockets]
    # not started: there is nothing to start before the first deploy, which does it
    commands += [f"systemctl enable {' '.join(services)}"] if services else []
    if "bb-release@.service" in names:
        commands.append(f"systemctl enable bb-release-recover@{app.name}.service")
        commands.append(f"systemctl enable --now bb-release@{app.name}.timer   # only if a push is to be a deploy")
    commands += [f"systemd-tmpfiles --create {file.path}" for file in files if file.path.parent == TMPFILES]
    for file in files:
        if file.path.parent == NGINX[0]:
            commands.append(f"ln -s {file.path} /etc/nginx/sites-enabled/")
        if file.path.parent in NGINX:
            commands.append("nginx -t && systemctl reload nginx")
    return commands


def _difference(file: File) -> Iterator[str]:
    try:
        there = file.path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return
    yield from difflib.unified_diff(
        there.splitlines(), file.content.splitlines(), str(file.path), "what it should be", lineterm=""
    )


def _stem(unit: Unit) -> str:
    return unit.name.removesuffix(".service").removesuffix("@")


def _of_slots(app: App) -> dict[str, str]:
    """What the units of a blue-green handover name besides: slots, sockets, and what starts them at boot."""
    pair = [unit for unit in app.units if unit.handover == BLUE_GREEN]
    link = next((Path(unit.socket) for unit in pair if unit.socket), None)
    return {
        "slot_project": app.project_in(app.layout.slots / "%i"),
        "boot": f"{app.name}-boot.service", "boot_folder": f"{app.name}.conf",
        "folder": str(link.parent if link else Path("/run") / app.name),
        "link": f"ln -sfn $$colour.sock {link};" if link else "",
        "instances": " ".join(f"{_stem(unit)}@$$colour.service" for unit in pair),
    }  # fmt: skip


def _web_unit(app: App) -> str:
    return next((_stem(unit) for unit in app.units if role(unit) == "web" and unit.runs_release), app.name)


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


def _server_name(app: App) -> str:
    host = dict(app.health.headers).get("Host", "") if app.health else ""
    return host or app.inline_environment.get("DJANGO_ALLOWED_HOSTS", "").partition(",")[0] or "_"


def _fill(template: str, app: App, who: People, values: Mapping[str, str]) -> str:
    names = {"deploy_user": who.deploy_user, "site_user": who.site_user, "web_server": who.web_server}
    return unit_templates.fill(template, app, {**names, "program": who.program, "agent_user": AGENT_USER, **values})
