"""A systemd unit, of the system (through sudo where we are not root) or of the user."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from bb_release.errors import UnitsNotRestarted
from bb_release.tools import host, process
from bb_release.tools.units import UnitSettings, UnitState

SYSTEMCTL = "/usr/bin/systemctl"  # the full path: a sudoers line names it so
ASK_SECONDS = 20.0
PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "Result", "MainPID", "ControlGroup", "NRestarts",
    "InvocationID", "TriggeredBy",
)  # fmt: skip
# unified, hybrid, and the old hierarchy: the first that has the unit's folder is the one systemd uses
CGROUP_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
SUDO_REFUSALS = ("sudo:", "Sorry, user", "is not allowed to execute", "not in the sudoers file")


class SystemdUnit:
    """Talks to systemd through systemctl. Questions need no rights; changes go through `sudo -n`."""

    def __init__(self, settings: UnitSettings) -> None:
        self._settings = settings
        # sudoers compares words: with the suffix always there, one line covers both spellings
        self._name = settings.name if "." in settings.name else f"{settings.name}.service"

    def state(self) -> UnitState:
        """Ask systemd. Raises UnitsNotRestarted when it does not answer or does not know the unit."""
        facts = self._show(self._name)
        if facts.get("LoadState") in ("not-found", "bad-setting", "error", "masked"):
            scope = " --user" if self._settings.user else ""
            raise UnitsNotRestarted(
                f"systemd cannot use the unit {self._name}: {facts['LoadState']}",
                remedy=f"install or correct the unit file, then run systemctl{scope} daemon-reload",
            )
        active, sub = facts.get("ActiveState", "unknown"), facts.get("SubState", "unknown")
        result = facts.get("Result", "")
        pid = _number(facts.get("MainPID", ""))
        return UnitState(
            running=active in ("active", "reloading"),
            main_pid=pid,
            summary=f"{active} ({sub})" + ("" if result in ("", "success") else f", {result}"),
            started=host.started_at(pid) if pid else None,
            restarts=_number(facts.get("NRestarts", "")),
            invocation=facts.get("InvocationID", ""),
        )

    def start(self) -> None:
        """Start the unit; after a failure, its failed state is cleared first."""
        self._clear_failures()
        self._change("start", self._name)

    def restart(self) -> None:
        """Restart the unit; after a failure, its failed state is cleared first."""
        self._clear_failures()
        self._change("restart", self._name)

    def reload(self) -> None:
        """Have the unit read its configuration again."""
        self._change("reload", self._name)

    def log_lines(self, count: int = 20) -> list[str]:
        """Return the last lines of the unit's journal; none where we may not read it."""
        scope = ["--user"] if self._settings.user else []
        argv = ["journalctl", *scope, "-u", self._name, "-n", str(count), "--no-pager", "-o", "short-iso"]
        try:
            completed = process.run(
                argv, env=self._settings.env, timeout_seconds=ASK_SECONDS, capture=True, check=False
            )
        except process.ProcessFailed:
            return []
        return [line for line in completed.output.splitlines() if not line.startswith("-- ")]

    def processes(self) -> list[int]:
        """Return all processes in the unit's control group and in those below it."""
        group = self._show(self._name).get("ControlGroup", "")
        if group in ("", "/"):  # "/": the whole host, which no unit of a site is
            return []
        pids: set[int] = set()
        for root in CGROUP_ROOTS:
            folder = Path(root + group)
            if folder.is_dir():
                for folder_name, _, files in os.walk(folder):
                    if "cgroup.procs" in files:
                        pids.update(_members(Path(folder_name) / "cgroup.procs"))
                break
        return sorted(pids)

    def _show(self, name: str) -> dict[str, str]:
        scope = ["--user"] if self._settings.user else []
        argv = [SYSTEMCTL, *scope, "show", name, f"--property={','.join(PROPERTIES)}"]
        try:
            completed = process.run(argv, env=self._settings.env, timeout_seconds=ASK_SECONDS, capture=True)
        except process.ProcessFailed as error:
            raise UnitsNotRestarted(
                f"systemd could not be asked for the unit {name}: {error}",
                remedy="let the user linger: loginctl enable-linger USER"
                if self._settings.user
                else 'is this a host with systemd? Else give the unit the kind "supervisor" or "command"',
                details=error.output,
            ) from error
        pairs = (line.partition("=") for line in completed.output.splitlines())
        return {key: value for key, _, value in pairs}

    def _clear_failures(self) -> None:
        """Clear what a failed release left: at the start limit, systemd refuses every further start.

        A socket of the unit that failed with it is started again; nothing else would ever listen.
        """
        facts = self._show(self._name)
        sockets = [name for name in facts.get("TriggeredBy", "").split() if name.endswith(".socket")]
        failed_sockets = [name for name in sockets if self._show(name).get("ActiveState") == "failed"]
        failed = [self._name] if facts.get("ActiveState") == "failed" else []
        for name in (*failed, *failed_sockets):
            try:
                self._change("reset-failed", name)
            except UnitsNotRestarted:
                continue  # not allowed to: the start that follows may work, else it says what is missing
        for name in failed_sockets:
            self._change("start", name)

    def _change(self, verb: str, name: str) -> None:
        """Run one verb. Raises UnitsNotRestarted: sudo refused, the unit failed, or it took too long."""
        argv = [SYSTEMCTL, verb, name]
        if self._settings.user:
            argv = [SYSTEMCTL, "--user", verb, name]
        elif os.geteuid() != 0:
            argv = ["sudo", "-n", *argv]
        limit = self._settings.stop_seconds
        try:
            process.run(argv, env=self._settings.env, timeout_seconds=limit)
        except PermissionError as error:  # past the limit, and sudo's systemctl is not ours to end
            raise UnitsNotRestarted(
                f"systemctl {verb} {name} did not end within {limit:g} s",
                remedy="raise stop_seconds of this unit above its TimeoutStopSec and TimeoutStartSec",
                details="\n".join(self.log_lines()),
            ) from error
        except process.ProcessFailed as error:
            refused = argv[0] == "sudo" and (
                "not be started" in error.reason or any(text in error.output for text in SUDO_REFUSALS)
            )
            if refused:
                raise UnitsNotRestarted(
                    f"sudo refused: systemctl {verb} {name}",
                    remedy=f"add this line by visudo -f /etc/sudoers.d/bb-release: {_sudoers(name, verb)}",
                    details=error.output,
                ) from error
            scope = " --user" if self._settings.user else ""
            raise UnitsNotRestarted(
                f"systemctl {verb} {name} failed: it {error.reason}",
                remedy=f"see systemctl{scope} status {name} and journalctl{scope} -u {name}",
                details="\n".join([error.output, *self.log_lines()]).strip(),
            ) from error


def _sudoers(name: str, verb: str) -> str:
    """Return the sudoers line that allows what we do to one unit, and nothing else."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # sudoers writes a user without a name as #uid
        user = f"#{os.geteuid()}"
    verbs = ["start", "restart", "reset-failed"]
    if verb not in verbs:
        verbs.append(verb)
    return f"{user} ALL=(root) NOPASSWD: " + ", ".join(f"{SYSTEMCTL} {word} {name}" for word in verbs)


def _members(path: Path) -> list[int]:
    """Read a list of process ids; a group that ended meanwhile has none."""
    try:
        return [int(word) for word in path.read_text(encoding="ascii").split()]
    except OSError:
        return []


def _number(text: str) -> int:
    """Read a number of systemd's; "[not set]" and nothing are 0."""
    return int(text) if text.isascii() and text.isdigit() else 0
