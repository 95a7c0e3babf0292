"""What systemd and sudo say when they are asked, beyond the state of one unit (see `units/systemd.py`)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bb_release.errors import UnitsNotRestarted
from bb_release.tools import process
from bb_release.tools.units.rights import SYSTEMCTL

ASK_SECONDS = 20.0
# systemd-logind's own place, which loginctl enable-linger writes: a user without a session cannot be asked for
LINGER = Path("/var/lib/systemd/linger")


def daemon_reload() -> None:
    """Have systemd read its unit files again. Raises UnitsNotRestarted."""
    try:
        process.run([SYSTEMCTL, "daemon-reload"], timeout_seconds=120.0)
    except process.ProcessFailed as error:
        raise UnitsNotRestarted(
            f"the files are written, but systemd did not read them: {error}",
            details=error.output,
            remedy="systemctl daemon-reload, once systemd runs",
        ) from error


def properties(unit: str, names: Sequence[str], *, user: bool = False) -> dict[str, str]:
    """What `systemctl show` says of a unit. Raises UnitsNotRestarted when systemd does not answer."""
    scope = ["--user"] if user else []
    argv = [SYSTEMCTL, *scope, "show", unit, f"--property={','.join(names)}"]
    try:
        said = process.run(argv, timeout_seconds=ASK_SECONDS, capture=True).output
    except process.ProcessFailed as error:
        raise UnitsNotRestarted(
            f"systemd could not be asked for {unit}: {error}",
            details=error.output,
            remedy="is this a host with systemd?",
        ) from error
    pairs = (line.partition("=") for line in said.splitlines())
    return {name: value for name, _, value in pairs}


def sudo_allows(verb: str, unit: str, *, user: str) -> bool | None:
    """Whether `user` may run this by `sudo -n`; None when sudo is not there. Nothing is run.

    Only root may ask for another user. sudo(8), --list: exit code 1 for a command that is not allowed. A user
    who may run everything with a password, and something else without, is taken for allowed.
    """
    other = ["-U", user] if os.geteuid() == 0 else []
    try:
        done = process.run(
            ["sudo", "-n", *other, "-l", SYSTEMCTL, verb, unit], timeout_seconds=ASK_SECONDS, check=False
        )
    except process.ProcessFailed:
        return None
    # newer sudos answer 0 and say it in words when root asks for another user
    return done.returncode == 0 and "not allowed" not in done.output


def lingers(user: str) -> bool:
    """Whether the user's own systemd runs without a session of that user."""
    return (LINGER / user).exists()
