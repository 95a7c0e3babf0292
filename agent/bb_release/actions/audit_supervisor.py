"""What would go wrong with a program of Supervisor, by what supervisord says of it and what its process shows.

As `audit` for units of systemd, and with its looks. Of `stopasgroup` and `environment` supervisord tells nothing: of
the second the process itself does, while it runs and is not another user's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import PurePath
from typing import Any, ClassVar

from bb_release.actions import audit
from bb_release.actions.written import Findings, Written, has_pool, is_below
from bb_release.model.app import App, Unit
from bb_release.model.fact import warn
from bb_release.tools.units.properties import number

STARTED_SECONDS = 5  # Django is imported by then, or a site that cannot be has ended
_SCRIPT_OPTION = re.compile(r"-[a-z]*c")


class Program(Written):
    """One program, its facts under the names that systemd has for them."""

    START: ClassVar[str] = "command"
    FOLDER: ClassVar[str] = "directory"
    STOP: ClassVar[str] = "stopwaitsecs"

    @cached_property
    def words(self) -> list[str]:
        """The command as words; of a shell's, those of its script; empty where it cannot be read as such."""
        try:
            words = shlex.split(self.facts["ExecStart"])
            place = next((i for i, word in enumerate(words) if _SCRIPT_OPTION.fullmatch(word)), len(words))
            if not words or PurePath(words[0]).name not in ("sh", "bash", "dash") or place + 1 >= len(words):
                return words
            script = shlex.shlex(words[place + 1], posix=True, punctuation_chars=True)
            script.whitespace_split = True
            return list(script)
        except ValueError:  # a quote that is not closed
            return []

    @property
    def schedule(self) -> str:
        return f"--schedule {self.app.layout.shared}/celerybeat-schedule"

    def change(self, line: str, unit: str = "") -> str:
        address = self.unit.socket if "://" in self.unit.socket else f"unix://{self.unit.socket}"
        return f"supervisorctl -s {address} update   # once its section in Supervisor's configuration has: {line}"


def audit_programs(
    app: App, unit: Unit, programs: Sequence[Mapping[str, Any]], wanted: set[str], found: Sequence[set[str]]
) -> Findings:
    """Every finding, once for all programs of a group; none about one that does not run the release. Raises nothing.

    `programs` are what getAllConfigInfo says of each, `wanted` the names in manage.py's environment, `found` those in
    each program's.
    """
    said: set[str] = set()
    for program, names in zip(programs, found, strict=True) if unit.runs_release else ():
        it = Program(app, unit, {
            "ExecStart": program["command"], "TimeoutStopUSec": f"{program['stopwaitsecs']}s",
            # how supervisord says that there is none
            "WorkingDirectory": "" if program["directory"] == "none" else program["directory"],
            "killasgroup": str(program["killasgroup"]), "startsecs": str(program.get("startsecs", STARTED_SECONDS)),
        })  # fmt: skip
        if not it.words:
            continue
        for fact in chain(*(look(it) for look in LOOKS), _environment(it, wanted, names)):
            if fact.text not in said:
                yield fact
            said.add(fact.text)


def _folder(it: Written) -> Findings:
    """A script may go there itself."""
    went = [it.words[i + 1] for i, word in enumerate(it.words[:-1]) if word == "cd"]
    if not any(is_below(path, it.base) for path in went):
        yield from audit.folder(it)


def _kill(it: Written) -> Findings:
    """Supervisor kills the main process alone, unless it is told to kill the group."""
    if it.facts["killasgroup"] == "False" and has_pool(it):
        yield it.wrong(" has killasgroup=false: where it has to be killed, its pool is left to itself, in the old"
                       " release", "killasgroup=true")  # fmt: skip


def _started(it: Written) -> Findings:
    """Of a group in turn, the next program is stopped as soon as supervisord takes the one before for started."""
    if it.unit.handover == "socket" and number(it.facts["startsecs"]) < STARTED_SECONDS:
        yield it.wrong(f" has startsecs={it.facts['startsecs']}: a release that cannot be imported, and takes longer to"
                       " end, would take all its programs down", "startsecs=10")  # fmt: skip


def _environment(it: Written, wanted: set[str], found: set[str]) -> Findings:
    """What manage.py gets, the program has to get. One that sets its title may have overwritten its environment."""
    missing = sorted(wanted - found)
    if not missing or "SUPERVISOR_ENABLED" not in found:
        return
    names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    text = f" runs without {names}, which manage.py gets: they may use two databases"
    file = str(it.app.env_file or "")
    if file and file in it.facts["ExecStart"]:  # it was written there since the program was started
        yield warn(f"{it.unit.name}{text}", f"bb-release restart {it.unit.name}")
    else:
        read = f". {file}; " if file else ""
        yield it.wrong(text, f"command=/bin/sh -c 'set -a; {read}exec {it.base}/venv/bin/{it.server or '…'} …', or an"
                             " environment= with them")  # fmt: skip


LOOKS = (audit.start, audit.mixing, _folder, audit.stop, audit.beat, _kill, _started)
