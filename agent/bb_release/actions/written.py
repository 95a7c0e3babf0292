"""One unit of an app as its manager has read it, in words that `audit` can ask about."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import ClassVar

from bb_release.actions import instances
from bb_release.model.app import App, Unit
from bb_release.model.fact import Fact, warn
from bb_release.tools.systemctl import assignments

SERVERS = ("gunicorn", "uvicorn", "celery", "daphne", "hypercorn")
PYTHON = re.compile(r"python[\d.]*")
_WORD_OF = re.compile(r"-|\w+=")  # an option of what starts it, or a variable that env sets
_EMBEDDED = re.compile(r"--beat|-[A-Z]*B[A-Z]*")  # short flags may stand together: -BE
_BEFORE = ("sh", "bash", "dash", "env", "exec", "nice", "ionice", "setpriv")  # what only starts what follows it
Findings = Iterator[Fact]


@dataclass(frozen=True)
class Written:
    """One unit of an app as systemd has read it; what its manager calls three of its lines."""

    START: ClassVar[str] = "ExecStart"
    FOLDER: ClassVar[str] = "WorkingDirectory"
    STOP: ClassVar[str] = "TimeoutStopSec"
    app: App
    unit: Unit
    facts: Mapping[str, str]

    @cached_property
    def words(self) -> list[str]:
        """ExecStart= as words; systemd tells them without quotes."""
        found = re.search(r"argv\[\]=(.*?) ; (?:ignore_errors|flags)=", self.facts.get("ExecStart", ""), re.DOTALL)
        return found[1].split() if found else []

    @cached_property
    def server(self) -> str:
        """What serves: "gunicorn", "celery" and so on, wherever it stands in the line; "" for another program."""
        return next((name for word in self.words if (name := PurePath(word).name) in SERVERS), "")

    @cached_property
    def options(self) -> list[str]:
        """The words after the server's own."""
        names = [PurePath(word).name for word in self.words]
        return self.words[names.index(self.server) + 1 :] if self.server else []

    @cached_property
    def more_options(self) -> list[str]:
        """What gunicorn has by a variable: of an option that the line has too, nothing counts."""
        more = self.environment.get("GUNICORN_CMD_ARGS", "") if self.server == "gunicorn" else ""
        try:
            return shlex.split(more)
        except ValueError:  # quotes that are not closed: gunicorn does not start with it
            return more.split()

    @cached_property
    def environment(self) -> dict[str, str]:
        return assignments(self.facts.get("Environment", ""))

    @property
    def base(self) -> str:
        return str(instances.started_through(self.app, self.unit))

    @property
    def project(self) -> str:
        return self.app.project_in(self.base)

    def option(self, *names: str) -> str:
        """The value of an option, in any of the ways to write it; "" where it is not there."""
        return next(self.values(*names), "")

    def values(self, *names: str) -> Iterator[str]:
        """Every value of an option that may be given more than once: `--name value`, `--name=value`, `-nvalue`."""
        for options in (self.options, self.more_options):
            found = False
            for word, following in zip(options, [*options[1:], ""], strict=False):
                name, equals, value = word.partition("=")
                if name in names:
                    yield value if equals else following
                elif word[:2] in names and word[2:]:
                    yield word[2:]
                else:
                    continue
                found = True
            if found:
                return

    def configured(self, name: str) -> str:
        """A plain number in the file that gunicorn reads by itself; "" where there is none, or it cannot be read."""
        file = self.option("-c", "--config").removeprefix("file:") or "gunicorn.conf.py"
        with suppress(OSError, ValueError):
            found = re.findall(rf"(?m)^{name}\s*=\s*([\d.]+)\s*(?:#.*)?$", Path(self.project, file).read_text())
            return str(found[-1]) if found else ""
        return ""

    @property
    def schedule(self) -> str:
        """The line that keeps beat's schedule where no release is."""
        name, state = self.unit.name.partition(".")[0].partition("@")[0], "%S" if self.unit.user else "/var/lib"
        return f"StateDirectory={name} and --schedule {state}/{name}/schedule"

    @property
    def starts_through_link(self) -> bool:
        """Whether what runs lies below the link: the server's script and the Python that runs it, else the first word.

        Another word there says nothing: a configuration, release.env and a pidfile may be named through it too.
        """
        names = [PurePath(word).name for word in self.words]
        server = names.index(self.server) if self.server else 0
        programs = [word for word, name in zip(self.words[:server], names, strict=False) if PYTHON.fullmatch(name)]
        programs = [word for word in (*programs, self.words[server] if self.server else "") if word.startswith("/")]
        if programs:
            return all(is_below(word, self.base) for word in programs)
        run = {place + 1 for place, name in enumerate(names) if name == "exec"}
        run |= {next((place for place, name in enumerate(names) if not (name in _BEFORE or _WORD_OF.match(name))), -1)}
        return any(
            is_below(word, f"{self.base}/venv/bin") or (place in run and is_below(word, self.base))
            for place, word in enumerate(self.words)
        )

    @property
    def beat(self) -> str:
        """How Celery's beat is in it: "beat" for itself, "-B" for one inside a worker; "" where there is none."""
        if self.server != "celery":
            return ""
        if "worker" in self.options:
            return "-B" if any(_EMBEDDED.fullmatch(word) for word in self.options) else ""
        return "beat" if "beat" in self.options else ""

    @property
    def systemctl(self) -> str:
        """What a person types before a verb."""
        return "systemctl --user" if self.unit.user else "sudo systemctl"

    def change(self, line: str, unit: str = "") -> str:
        """What to type, and what to write there; of the unit, or of its socket. Both instances are one file."""
        name = unit or instances.configured_name(self.app, self.unit)
        return f"{self.systemctl} edit --full {shlex.quote(name)}   # {line}"

    def wrong(self, text: str, line: str) -> Fact:
        return warn(f"{self.unit.name}{text}", self.change(line))


def is_worker(it: Written) -> bool:
    return it.server == "celery" and "worker" in it.options


def has_pool(it: Written) -> bool:
    """Whether it is a worker whose tasks run in processes of their own."""
    forks = it.option("-P", "--pool") in ("", "prefork", "processes")
    return is_worker(it) and forks and "multi" not in it.options


def is_below(path: str, top: str) -> bool:
    return bool(path) and PurePath(path).is_relative_to(top)
