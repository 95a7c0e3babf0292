"""A unit that the site's own commands start, restart, reload and ask."""

from __future__ import annotations

import shutil

from bb_release.errors import ConfigurationInvalid, UnitsNotRestarted
from bb_release.tools import host, process
from bb_release.tools.units import UnitSettings, UnitState, Verb


class CommandUnit:
    """`status` exits 0 when the unit runs, and prints the id of its main process."""

    def __init__(self, settings: UnitSettings) -> None:
        self._settings = settings
        self._last_output: list[str] = []

    def state(self) -> UnitState:
        """Ask `status`. Raises UnitsNotRestarted when it cannot be run or takes too long."""
        completed = self._run("status", check=False)
        running = completed.returncode == 0
        pid = next((int(word) for word in completed.output.split() if _is_number(word)), 0) if running else 0
        started = host.started_at(pid) if pid else None
        return UnitState(
            running=running,
            main_pid=pid,
            summary="running" if running else f"not running (status: exit code {completed.returncode})",
            started=started,
            invocation=f"{pid}:{started}" if pid else "",
        )

    def check_can(self, verb: Verb) -> str:
        """Make sure that the command exists, and that `status` can be asked; it need not run yet."""
        argv = self._argv(verb)
        if shutil.which(argv[0], path=self._settings.env.get("PATH")) is None:
            raise UnitsNotRestarted(
                f"the {verb} command of the unit {self._settings.name} is not a program: {argv[0]}",
                remedy="correct its path in the configuration, or make the file executable",
            )
        state = self.state()
        if verb == "restart" and state.running and not state.main_pid:
            raise UnitsNotRestarted(
                f"the unit {self._settings.name} runs, but its status command names no process: nothing could prove "
                "which release it runs",
                remedy="let `status` print the id of the unit's main process",
            )
        return ""

    def stop_command(self) -> str:
        """Return what a person is told: the site's own commands have no `stop`."""
        return f"stop {self._settings.name} as the site does it"

    def start(self) -> None:
        """Run `start`, or `restart` where the site has no `start`."""
        self._run("start" if self._settings.commands.get("start") else "restart")

    def restart(self) -> None:
        """Run `restart`."""
        self._run("restart")

    def reload(self) -> None:
        """Run `reload`."""
        self._run("reload")

    def log_lines(self, count: int = 20) -> list[str]:
        """Return what the last command said: where the unit itself writes is not known here."""
        return self._last_output[-count:] if count > 0 else []

    def processes(self) -> list[int]:
        """Return the main process and its descendants; none where `status` names no process."""
        pid = self.state().main_pid
        return host.process_tree(pid) if pid else []

    def cut_off(self) -> float | None:
        """None: nobody tells."""
        return None

    def starts_through(self, folder: str) -> bool:
        """False: what a command does is not known here."""
        return False

    def _run(self, verb: str, *, check: bool = True) -> process.Completed:
        """Run one of the commands. Raises ConfigurationInvalid (there is none) or UnitsNotRestarted."""
        settings = self._settings
        argv = self._argv(verb)
        try:
            completed = process.run(argv, env=settings.env, timeout_seconds=settings.stop_seconds, check=check)
        except process.ProcessFailed as error:
            self._last_output = error.output.splitlines()
            raise UnitsNotRestarted(
                f"the {verb} command of the unit {settings.name} failed: {error}",
                remedy=f"run it by hand and see what it says: {' '.join(argv)}",
                details=error.output,
            ) from error
        self._last_output = completed.output.splitlines()
        return completed

    def _argv(self, verb: str) -> list[str]:
        """Return the words of a command. Raises ConfigurationInvalid when there is none."""
        argv = list(self._settings.commands.get(verb, ()))
        if not argv:
            raise ConfigurationInvalid(
                f"the unit {self._settings.name} has no {verb} command",
                remedy=f'add "{verb}" to this unit in the configuration',
            )
        return argv


def _is_number(word: str) -> bool:
    """Whether a word is all digits; str.isdigit alone would take digits that int() refuses."""
    return word.isascii() and word.isdigit()
