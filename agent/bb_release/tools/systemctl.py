"""What systemd and sudo say when they are asked, beyond the state of one unit (see `units/systemd.py`)."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from bb_release.errors import ConfigurationInvalid, UnitsNotRestarted
from bb_release.tools import process
from bb_release.tools.units.rights import SYSTEMCTL

ASK_SECONDS = 20.0
# systemd-logind's own place, which loginctl enable-linger writes: a user without a session cannot be asked for
LINGER = Path("/var/lib/systemd/linger")
# systemd's shell_maybe_quote: in double quotes, with C's escapes, what a shell would take for something else
_WORD = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?=\s|$)')
_ESCAPE = re.compile(rb"\\([0-3][0-7]{2}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def daemon_reload(*, user: bool = False) -> None:
    """Have systemd, or the user's own, read its unit files again. Raises UnitsNotRestarted."""
    scope = ["--user"] if user else []
    try:
        process.run([SYSTEMCTL, *scope, "daemon-reload"], timeout_seconds=120.0)
    except process.ProcessFailed as error:
        raise UnitsNotRestarted(
            f"the files are written, but systemd did not read them: {error}",
            details=error.output,
            remedy=f"systemctl {'--user ' if user else ''}daemon-reload, once systemd runs",
        ) from error


def properties(unit: str, names: Sequence[str], *, user: bool = False) -> dict[str, str]:
    """What `systemctl show` says of a unit; of what it says several times (EnvironmentFiles, Listen), a line each.

    Raises UnitsNotRestarted when systemd does not answer.
    """
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
    found: dict[str, str] = {}
    for name, _, value in (line.partition("=") for line in said.splitlines()):
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def assignments(text: str) -> dict[str, str]:
    """Read Environment= as `systemctl show` writes it; a later one wins.

    What cannot be read is left out: systemds before 246 say [unprintable] instead of a value with a space.
    """
    found = {}
    for quoted, plain in _WORD.findall(text):
        name, equals, value = (quoted or plain).partition("=")
        if equals:
            found[name] = _unescaped(value) if quoted else value
    return found


def _unescaped(value: str) -> str:
    def char(escape: re.Match[bytes]) -> bytes:
        word = escape[1]
        if len(word) == 3:
            return bytes([int(word[1:], 16) if word[:1] == b"x" else int(word, 8)])
        return _LETTERS.get(word, word)

    return _ESCAPE.sub(char, value.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


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


def check_sudoers(text: str) -> None:
    """Have visudo read what is to become a file of sudoers: one mistake in any of them ends sudo on this host.

    Raises ConfigurationInvalid.
    """
    try:
        process.run(["visudo", "-cf", "-"], timeout_seconds=ASK_SECONDS, stdin=text.encode())
    except process.ProcessFailed as error:
        raise ConfigurationInvalid(
            f"visudo does not take the lines for sudo: it {error.reason}",
            details=error.output,
            remedy="nothing was written to /etc/sudoers.d; is sudo whole on this host (visudo -c)?",
        ) from error


def lingers(user: str) -> bool:
    """Whether the user's own systemd runs without a session of that user."""
    return (LINGER / user).exists()
