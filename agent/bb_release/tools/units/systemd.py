"""A systemd unit, of the system (by polkit or sudo where we are not root) or of the user."""

from __future__ import annotations

import os
import time

from bb_release.errors import UnitsNotRestarted
from bb_release.tools import host, process, systemctl
from bb_release.tools.units import UnitSettings, UnitState, Verb, properties, rights
from bb_release.tools.units.properties import number, processes_in, seconds
from bb_release.tools.units.rights import SYSTEMCTL, Question, user_name

ASK_SECONDS = 20.0
PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "Result", "MainPID", "ControlGroup", "NRestarts",
    "InvocationID", "TriggeredBy", "CanStart", "CanStop", "CanReload", "ExecStart", "ExecMainStartTimestampMonotonic",
    "TimeoutStopUSec", "ActiveExitTimestampMonotonic", "InactiveEnterTimestampMonotonic",
)  # fmt: skip
REFUSED = "Failed to "  # how systemctl begins when systemd would not even try; "Job for …" when the unit failed
SUDO_REFUSED = ("sudo:", "Sorry, user", "is not allowed to execute", "not in the sudoers file")


class SystemdUnit:
    """Talks to systemd through systemctl. Questions need no rights.

    A change is first asked of systemd itself, which asks polkit; what it refuses goes through `sudo -n`. In this
    order because a refusal by polkit is silent and quick, while one by sudo may send a mail to root each time.
    """

    def __init__(self, settings: UnitSettings) -> None:
        self._settings = settings
        # sudoers compares words: with the suffix always there, one line covers both spellings
        self._name = settings.name if "." in settings.name else f"{settings.name}.service"

    def state(self) -> UnitState:
        """Ask systemd. Raises UnitsNotRestarted when it does not answer or does not know the unit."""
        facts = self._loaded()
        active, sub = facts.get("ActiveState", "unknown"), facts.get("SubState", "unknown")
        result = facts.get("Result", "")
        pid = number(facts.get("MainPID", ""))
        return UnitState(
            running=active in ("active", "reloading"),
            main_pid=pid,
            summary=f"{active} ({sub})" + ("" if result in ("", "success") else f", {result}"),
            # where /proc hides other users' processes, systemd still tells
            started=(host.started_at(pid) or _since_boot(facts["ExecMainStartTimestampMonotonic"])) if pid else None,
            restarts=number(facts.get("NRestarts", "")),
            invocation=facts.get("InvocationID", ""),
        )

    def is_down(self) -> bool:
        """Whether nothing of the unit runs, nor will by itself: between two tries, a crash loop is not down."""
        return self._show(self._name).get("ActiveState") in ("inactive", "failed")

    def start(self) -> None:
        """Start the unit; after a failure, its failed state is cleared first."""
        self._clear_failures()
        self._change("start", self._name)

    def restart(self) -> None:
        """Restart the unit; after a failure, its failed state is cleared first."""
        self._clear_failures()
        self._change("restart", self._name)

    def stop(self) -> None:
        """Stop the unit; it has its TimeoutStopSec= to finish what it does."""
        self._change("stop", self._name)

    def reload(self) -> None:
        """Have the unit read its configuration again."""
        self._change("reload", self._name)

    def log_lines(self, count: int = 20) -> list[str]:
        """Return the last lines of the unit's journal; none where we may not read it."""
        scope = ["--user"] if self._settings.user else []
        # quiet: without it, whoever may not read it gets a hint as lines
        argv = ["journalctl", "-q", *scope, "-u", self._name, "-n", str(count), "--no-pager", "-o", "short-iso"]
        try:
            completed = process.run(
                argv, env=self._settings.env, timeout_seconds=ASK_SECONDS, capture=True, check=False
            )
        except process.ProcessFailed:
            return []
        if completed.returncode != 0:
            return []
        return [line for line in completed.output.splitlines() if not line.startswith("-- ")]

    def processes(self) -> list[int]:
        """Return all processes in the unit's control group and in those below it."""
        return processes_in(self._show(self._name).get("ControlGroup", ""))

    def cut_off(self) -> float | None:
        """Compare how long the last stop took with TimeoutStopSec=, at which systemd kills what is left.

        The journal says it outright, but not every deploy user may read it. Both moments are systemd.exec's own.
        """
        facts = self._show(self._name)
        limit = seconds(facts.get("TimeoutStopUSec", ""))
        began = number(facts.get("ActiveExitTimestampMonotonic", ""))
        ended = number(facts.get("InactiveEnterTimestampMonotonic", ""))
        return limit if limit is not None and 0 < began and (ended - began) / 1e6 >= limit else None

    def starts_through(self, folder: str) -> bool:
        """Whether ExecStart= names a path below the folder: the kernel follows it anew at each start."""
        return f"{folder}/" in self._show(self._name).get("ExecStart", "")

    def check_can(self, verb: Verb) -> str:
        """Ask whether the unit can be restarted (or reloaded), and by us, without doing it (see `rights.questions`)."""
        if self._settings.user:
            self._require_linger()
        facts = self._loaded()
        active = facts.get("ActiveState")
        if verb == "reload" and active not in ("active", "reloading"):
            raise UnitsNotRestarted(
                f"{self._name} does not run ({active}), so it cannot be reloaded",
                remedy=f"start it: {self._by_hand('start')}",
            )
        for able in ("CanReload",) if verb == "reload" else ("CanStart", "CanStop"):
            if facts.get(able) == "no":
                raise UnitsNotRestarted(
                    f"systemd cannot {verb} the unit {self._name} ({able}=no)",
                    remedy="give it ExecReload=, or let it be restarted" if verb == "reload"
                    else f"take RefuseManual{able.removeprefix('Can')}= out of its unit file",
                )  # fmt: skip
        states = self._states(facts)
        idle = self._idle_socket(states) if verb == "restart" and self._settings.handover in ("", "socket") else None
        if verb == "restart" and self._settings.handover == "socket":
            if len(states) == 1:
                raise UnitsNotRestarted(
                    f"{self._name} has no socket unit in which requests could wait while it restarts",
                    remedy='bb-release units shows one; or handover = "restart"',
                )
            if idle:
                raise idle
        if not (self._settings.user or os.geteuid() == 0):
            self._require_right(verb, states)
        return f"{idle.message}: requests fail while it restarts; {idle.remedy}" if idle else ""

    def require_listening(self) -> None:
        """Requests wait in a socket unit only while systemd listens on it. Raises UnitsNotRestarted."""
        idle = self._idle_socket(self._states(self._loaded()))
        if idle:
            raise idle

    def _idle_socket(self, states: dict[str, str]) -> UnitsNotRestarted | None:
        """A service that runs without its socket listens by itself: then systemd would refuse to start that, too."""
        idle = [name for name, state in states.items() if name != self._name and state != "active"]
        if not idle or states[self._name] != "active":
            return None
        return UnitsNotRestarted(
            f"{self._name} runs, but nothing listens on its socket unit {idle[0]}",
            remedy=f"once: {self._by_hand('stop')}, then {self._by_hand('start', idle[0])}",
        )

    def polkit_allows(self, verb: Verb) -> bool:
        """Whether polkit alone lets us restart (or reload) the unit. Raises UnitsNotRestarted when it is not known."""
        asked = rights.questions(verb, self._name, self._settings.handover, self._states(self._loaded()))
        return all(self._by_polkit(question) is None for question in asked)

    def _by_polkit(self, question: Question) -> process.ProcessFailed | None:
        """How the first of the harmless verbs was refused; None when all were allowed."""
        asked = ([SYSTEMCTL, "--no-ask-password", word, question.unit] for word in question.harmless)
        return next((failure for argv in asked if (failure := self._try(argv, ASK_SECONDS))), None)

    def _require_right(self, verb: Verb, states: dict[str, str]) -> None:
        """Raises UnitsNotRestarted with both ways to get the right, unless polkit or sudo gives it already."""
        for question in rights.questions(verb, self._name, self._settings.handover, states):
            by_polkit = self._by_polkit(question)
            for word in question.wanted if by_polkit else ():
                by_sudo = self._try(["sudo", "-n", "-l", SYSTEMCTL, word, question.unit], ASK_SECONDS)
                if by_polkit and by_sudo:
                    raise self._not_allowed(word, question.unit, by_polkit, by_sudo)

    def stop_command(self) -> str:
        """Return the command by which a person stops the unit for good."""
        return self._by_hand("disable --now")

    def _by_hand(self, verb: str, name: str = "") -> str:
        return f"{'systemctl --user' if self._settings.user else 'sudo systemctl'} {verb} {name or self._name}"

    def _loaded(self) -> dict[str, str]:
        """Return the unit's properties. Raises UnitsNotRestarted when systemd cannot use it."""
        facts = self._show(self._name)
        load = facts.get("LoadState")
        if load == "masked":
            raise UnitsNotRestarted(f"the unit {self._name} is masked", remedy=f"unmask it: {self._by_hand('unmask')}")
        if load in ("not-found", "bad-setting", "error"):
            scope = "--user " if self._settings.user else ""
            raise UnitsNotRestarted(
                f"systemd cannot use the unit {self._name}: {load}",
                remedy=f"install or correct the unit file, then run systemctl {scope}daemon-reload",
            )
        return facts

    def _require_linger(self) -> None:
        """Units of a user end with the user's last session, unless the user lingers. Raises UnitsNotRestarted."""
        user = user_name()
        if not systemctl.lingers(user):
            raise UnitsNotRestarted(
                f"{user} does not linger, so {self._name} would end when {user} logs out",
                remedy=f"as root: loginctl enable-linger {user}",
            )

    def _show(self, name: str) -> dict[str, str]:
        scope = ["--user"] if self._settings.user else []
        argv = [SYSTEMCTL, *scope, "show", name, f"--property={','.join(PROPERTIES)}"]
        try:
            completed = process.run(argv, env=self._settings.env, timeout_seconds=ASK_SECONDS, capture=True)
        except process.ProcessFailed as error:
            raise UnitsNotRestarted(
                f"systemd could not be asked for the unit {name}: {error}",
                remedy=f"let the user linger; as root: loginctl enable-linger {user_name()}"
                if self._settings.user
                else 'is this a host with systemd? Else give the unit the kind "supervisor" or "command"',
                details=error.output,
            ) from error
        return properties.read(completed.output)

    def _clear_failures(self) -> None:
        """Clear what a failed release left: at the start limit, systemd refuses every further start.

        A socket of the unit that failed with it is started again, and one that never was; a socket that listens is
        never touched.
        """
        facts = self._show(self._name)
        states = self._states(facts)
        flaps = number(facts.get("NRestarts", ""))  # systemd's own starts count for the limit as well
        for name in (each for each, state in states.items() if state == "failed" or (flaps and each == self._name)):
            try:
                self._change("reset-failed", name)
            except UnitsNotRestarted:
                continue  # not allowed to: the start that follows may work, else it says what is missing
        if states.pop(self._name) == "active" or self._settings.handover == "restart":
            return
        for name in (name for name, state in states.items() if state in ("failed", "inactive")):
            self._change("start", name)

    def _change(self, verb: str, name: str) -> None:
        """Run one verb. Raises UnitsNotRestarted: not allowed, the unit failed, or it took too long."""
        limit = self._settings.stop_seconds
        if verb in ("restart", "stop"):
            limit += seconds(self._show(name).get("TimeoutStopUSec", "")) or 0.0
        if self._settings.user or os.geteuid() == 0:
            scope = ["--user"] if self._settings.user else []
            failure = self._try([SYSTEMCTL, *scope, verb, name], limit)
        else:
            failure = by_polkit = self._try([SYSTEMCTL, "--no-ask-password", verb, name], limit)
            if by_polkit is not None and any(line.startswith(REFUSED) for line in by_polkit.output.splitlines()):
                failure = by_sudo = self._try(["sudo", "-n", SYSTEMCTL, verb, name], limit)
                if by_sudo is not None and _is_refused(by_sudo):
                    raise self._not_allowed(verb, name, by_polkit, by_sudo)
        if failure is None:
            return
        scope_word = "--user " if self._settings.user else ""
        raise UnitsNotRestarted(
            f"systemctl {verb} {name} failed: it {failure.reason}",
            remedy="raise stop_seconds of this unit above its TimeoutStartSec"
            if failure.returncode is None
            else f"see systemctl {scope_word}status {name} and journalctl {scope_word}-u {name}",
            details="\n".join([failure.output, *self.log_lines()]).strip(),
        ) from failure

    def _try(self, argv: list[str], seconds: float) -> process.ProcessFailed | None:
        """Run a program, and return how it failed; None when it did not."""
        try:
            process.run(argv, env=self._settings.env, timeout_seconds=seconds)
        except process.ProcessFailed as error:
            return error
        return None

    def _not_allowed(self, verb: str, name: str, *failures: process.ProcessFailed) -> UnitsNotRestarted:
        """The error that names both ways to allow it, for the unit and the sockets that start it."""
        ours = rights.BESIDE if self._settings.handover == "blue-green" else rights.RESTART
        grants: dict[str, tuple[str, ...]] = {self._name: rights.RELOAD if verb == "reload" else ours}
        if verb != "reload":
            grants.update(dict.fromkeys(self._sockets(self._show(self._name)), rights.SOCKET))
        return UnitsNotRestarted(
            f"{user_name()} may not {verb} {name}: neither polkit nor sudo allows it",
            remedy=rights.both_ways(user_name(), grants),
            details="\n".join(failure.output or str(failure) for failure in failures),
        )

    def _states(self, facts: dict[str, str]) -> dict[str, str]:
        """ActiveState= of the unit and of the sockets that start it."""
        sockets = {name: self._show(name).get("ActiveState", "") for name in self._sockets(facts)}
        return {self._name: facts.get("ActiveState", ""), **sockets}

    def _sockets(self, facts: dict[str, str]) -> list[str]:
        return [name for name in facts.get("TriggeredBy", "").split() if name.endswith(".socket")]


def _since_boot(microseconds: str) -> float:
    """A moment of systemd's clock (CLOCK_MONOTONIC) in seconds since the epoch."""
    return time.time() - time.monotonic() + number(microseconds) / 1e6


def _is_refused(failure: process.ProcessFailed) -> bool:
    """Whether sudo itself refused, or is not there; else what it ran has failed."""
    return "not be started" in failure.reason or any(text in failure.output for text in SUDO_REFUSED)
