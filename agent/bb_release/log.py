"""Where a run tells what it does: lines for a person, JSON lines in the run's log file."""

from __future__ import annotations

import io
import json
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb_release.model.step import Step
from bb_release.tools.process import Mask, visible

if TYPE_CHECKING:
    from bb_release.progress import Progress
    from bb_release.terminal import Terminal

KEEP_DAYS = 90


class RunLog:
    """A Reporter. The file first, then the terminal, where there is one."""

    def __init__(self, path: Path, terminal: Terminal | None = None) -> None:
        self.path = path
        self.mask = Mask()
        self._secrets: list[str] = []
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        # a line is one write, without a buffer: what a full disk refused must not come again with the next line
        self._file = io.TextIOWrapper(os.fdopen(descriptor, "ab", buffering=0), encoding="utf-8", write_through=True)
        self._refused = False
        self._terminal = terminal
        self._progress: Progress | None = None
        if terminal is not None and terminal.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            from bb_release.progress import Progress  # rich is slow to import, and of no use to cron

            self._progress = Progress(terminal)

    def add_secrets(self, values: list[str]) -> None:
        """Values that must never be written anywhere from now on, besides those known before."""
        self._secrets += values
        self.mask = Mask(self._secrets)

    def event(self, name: str, **facts: Any) -> None:
        cleaned = {key: self.mask(value) if isinstance(value, str) else value for key, value in facts.items()}
        moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        line = json.dumps({**cleaned, "event": name, "timestamp": moment}, default=repr)
        try:
            self._file.write(f"{line}\n")
        except OSError as error:  # nothing is decided from the log: it must not stop a switch on a full disk
            if not self._refused:
                self._refused = True
                self._show(f"warning: the log of this run has gaps: {error.strerror}")

    def step_started(self, step: Step) -> None:
        self.event("step_started", step=step.name)
        if self._progress is not None:
            self._progress.show(step.name)

    def step_finished(self, step: Step, seconds: float) -> None:
        self._step_over()
        self.event("step_finished", step=step.name, seconds=seconds)
        self._show(f"  {step.name:<22}{seconds:6.1f} s")

    def step_skipped(self, step: Step) -> None:
        self.event("step_skipped", step=step.name)
        self._show(f"  {step.name:<22}  done before")

    def _step_over(self) -> None:
        if self._progress is not None:
            self._progress.clear()

    def line(self, text: str) -> None:
        """One line of a program's output: for the log, and the foot of the terminal."""
        self.event("output", line=text)
        if self._progress is not None:
            self._progress.line(self.mask(text))

    def say(self, text: str) -> None:
        self.event("said", text=text)
        self._show(self.mask(text))

    def warn(self, text: str) -> None:
        self.event("warned", text=text)
        self._show(f"warning: {self.mask(text)}")

    def step_failed(self, step: Step) -> None:
        self._step_over()
        self.event("step_failed", step=step.name)
        self._show(f"  {step.name:<22}  failed")

    def _show(self, text: str) -> None:
        if self._progress is not None:
            self._progress.above(visible(text))
        elif self._terminal is not None:
            self._terminal.write(f"{visible(text)}\n")

    def close(self) -> None:
        self._step_over()
        with suppress(OSError):
            self._file.close()


def remove_old(folder: Path, days: int = KEEP_DAYS) -> None:
    """Logs are kept 90 days, whatever happens to the releases."""
    limit = time.time() - days * 86400
    for path in folder.glob("*.log"):
        if path.stat().st_mtime < limit:
            path.unlink(missing_ok=True)
