"""Who runs a command, and whether they may."""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
import shlex
import sys
from pathlib import Path

from bb_release.errors import NotTheOwner, PreflightFailed
from bb_release.model import durable
from bb_release.model.app import App
from bb_release.tools import filesystem


def who_runs() -> str:
    """The person behind the command: login user, or who used sudo, from where, and with which key if sshd tells it."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    user = os.environ.get("SUDO_USER", user)
    client = os.environ.get("SSH_CLIENT", "").split(" ")[0]
    return " ".join([user, *([f"from {client}"] if client else []), *ssh_keys()])


def ssh_keys() -> list[str]:
    """The fingerprints of the keys of this login, from the file of sshd's ExposeAuthInfo (sshd_config(5))."""
    try:
        lines = Path(os.environ["SSH_USER_AUTH"]).read_text("ascii", "replace").splitlines()[:10]
    except (KeyError, OSError):
        return []
    fingerprints = []
    for line in lines:  # publickey ssh-ed25519 AAAAC3Nza…
        method, *words = line.split()
        if method == "publickey" and len(words) == 2:
            try:
                digest = hashlib.sha256(base64.b64decode(words[1], validate=True)).digest()
            except ValueError:
                continue
            fingerprints.append("key SHA256:" + base64.b64encode(digest).decode().rstrip("="))
    return fingerprints


def as_owner(owner: str) -> str:
    """What was typed, as the owner of the app root would type it."""
    return shlex.join(["sudo", "-u", owner, Path(sys.argv[0]).name, *sys.argv[1:]])


def require_owner(app: App) -> None:
    """Only the owner of the app root runs changing commands, root included. Raises NotTheOwner."""
    if not durable.is_folder(app.root):
        try:
            app.root.mkdir(mode=0o755)
            app.root.chmod(0o755)
        except OSError as error:
            raise PreflightFailed(
                f"the app root {app.root} is not there and could not be made: {error.strerror}",
                remedy=f"as root: install -d -o <deploy user> -m 755 {app.root}; then: bb-release check",
            ) from error
    owner = app.root.stat().st_uid
    if owner != os.geteuid():
        name = filesystem.name_of(owner)
        raise NotTheOwner(f"{app.root} belongs to {name}, who is the one to run this", remedy=as_owner(name))
    if app.root.stat().st_mode & 0o022:
        raise PreflightFailed(f"the app root {app.root} is writable by others", remedy=f"chmod go-w {app.root}")
    for above in filesystem.open_parents(app.root):
        raise PreflightFailed(
            f"{above} is writable by everyone, who could put another folder in the place of {app.root}",
            remedy=f"sudo chmod o-w {above}",
        )
    for above, others in filesystem.parents_of_others(app.root, owner):
        raise PreflightFailed(
            f"{others} can put another folder in the place of {app.root}, by way of {above}",
            remedy=f"root = below folders that only root and you can write; see: ls -ld {above}",
        )
