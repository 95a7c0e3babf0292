"""Puts the files of `units` where they belong: each by whom it belongs to, none over another, nothing started."""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from bb_release.actions.owner import as_owner
from bb_release.actions.unit_scope import runtime_folder
from bb_release.actions.units import NGINX, OWNER, TMPFILES, File
from bb_release.errors import AlreadyThere, NotTheOwner, PreflightFailed
from bb_release.model import durable
from bb_release.model.app import App
from bb_release.tools import systemctl
from bb_release.tools.filesystem import name_of


def install(files: list[File]) -> list[Path]:
    """Write those of the user who runs this that are not there, all or none, and have systemd read them.

    Returns what was written. Raises NotTheOwner where all units are another's (root's, or those of the owner of the
    app root), PreflightFailed for a folder of the user's that cannot be written to, AlreadyThere with the difference
    when a file holds something else, ConfigurationInvalid when visudo does not take a file for sudo,
    UnitsNotRestarted when systemd does not answer (the files are there then).
    """
    mine = [file for file in files if is_mine(file)]
    units = [file for file in files if file.path.parent not in NGINX] or files
    if not any(is_mine(file) for file in units):
        owner = units[0].owner
        raise NotTheOwner(
            "unit files are root's" if owner == "root" else f"these units are {owner}'s own, and not root's to write",
            remedy="sudo bb-release units --install" if owner == "root" else as_owner(owner),
        )
    for folder in dict.fromkeys(file.path.parent for file in mine if file.owner != "root"):
        _make_own_folder(folder)
    differences = [line for file in mine for line in _difference(file)]
    if differences:
        raise AlreadyThere(
            "a file that is there already holds something else; nothing was written",
            details="\n".join(differences),
            remedy="keep it as it is (a drop-in below NAME.d changes a unit), or move it away and run this again",
        )
    for file in mine:
        if file.mode == 0o440 and file.path.parent.is_dir() and not file.path.exists():
            systemctl.check_sudoers(file.content)
    written = []
    for file in mine:
        if file.path.name == OWNER and file.path.parent.parent.is_dir():
            file.path.parent.mkdir(mode=0o755, exist_ok=True)
        if not file.path.exists() and file.path.parent.is_dir():
            durable.put(file.path, file.content.encode(), mode=file.mode)
            written.append(file.path)
    if any(path.suffix in (".service", ".socket", ".timer") or path.name == OWNER for path in written):
        own = mine[0].owner != "root"
        # a user's systemd that does not run yet reads them when it starts
        if not own or _answers(runtime_folder(mine[0].owner) / "systemd/private"):
            systemctl.daemon_reload(user=own)
    return written


def _answers(path: Path) -> bool:
    """Does anybody listen on this socket? It is there some moments before, and may be after."""
    with socket.socket(socket.AF_UNIX) as asked:
        try:
            asked.connect(str(path))
        except OSError:
            return False
    return True


def is_mine(file: File) -> bool:
    """Whether the user who runs this is the one who writes it."""
    return file.owner == ("root" if os.geteuid() == 0 else name_of(os.geteuid()))


def _make_own_folder(folder: Path) -> None:
    """As the XDG base directory specification has it: what is missing has mode 0700. Raises PreflightFailed."""
    try:
        for path in [*reversed(folder.parents), folder]:
            if not path.is_dir():
                path.mkdir(mode=0o700)
        closed = "" if os.access(folder, os.R_OK | os.W_OK | os.X_OK) else "it is closed to this user"
    except OSError as error:
        closed = str(error.strerror)
    if closed:
        raise PreflightFailed(
            f"units of {name_of(os.geteuid())} cannot be written to {folder}: {closed}",
            remedy="it has to be a folder of this user's, as those above it up to the home; or set XDG_CONFIG_HOME",
        )


def enable_commands(app: App, files: list[File]) -> list[str]:
    """What a person types once the files are there: nothing is started or enabled by itself."""
    commands: list[str] = []
    for owner in dict.fromkeys(file.owner for file in files):
        names = [file.path.name for file in files if file.owner == owner]
        systemctl_of = "systemctl"
        if owner != "root":
            commands += [] if systemctl.lingers(owner) else [f"sudo loginctl enable-linger {owner}   # once"]
            systemctl_of = "systemctl --user"
            if "XDG_RUNTIME_DIR" not in os.environ:  # without a session, as under `sudo -u`
                systemctl_of = f"XDG_RUNTIME_DIR={runtime_folder(owner)} {systemctl_of}"
        commands += _enable(app, names, systemctl_of)
    commands += [f"systemd-tmpfiles --create {file.path}" for file in files if file.path.parent == TMPFILES]
    for file in files:
        if file.path.parent == NGINX[0]:
            commands.append(f"ln -s {file.path} /etc/nginx/sites-enabled/")
        if file.path.parent in NGINX:
            commands.append("nginx -t && systemctl reload nginx")
    return commands


def _enable(app: App, names: list[str], systemctl_of: str) -> Iterator[str]:
    sockets = [name for name in names if name.endswith(".socket")]
    boot = f"{app.name}-boot.service"
    services = [name for name in names if name.endswith(".service") and "@" not in name]
    if boot in services and "--user" in systemctl_of:
        services.remove(boot)
        yield f"{systemctl_of} enable --now {boot}   # makes the folder of the sockets"
    for name in sockets:
        yield f"{systemctl_of} enable --now {name}"
    if services:  # not started: there is nothing to start before the first deploy, which does it
        yield f"{systemctl_of} enable {' '.join(services)}"
    if "bb-release@.service" in names:
        yield f"{systemctl_of} enable bb-release-recover@{app.name}.service"
        yield f"{systemctl_of} enable --now bb-release@{app.name}.timer   # only if a push is to be a deploy"


def _difference(file: File) -> Iterator[str]:
    try:
        there = file.path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return
    yield from difflib.unified_diff(
        there.splitlines(), file.content.splitlines(), str(file.path), "what it should be", lineterm=""
    )
