"""A step: a name, a summary, a scope, a plain function. No class per step, no undo per step."""

from __future__ import annotations

import enum
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bb_release.errors import BugFound, Explained, ReleaseError, shortened
from bb_release.model.app import App
from bb_release.model.durable import storage_failed
from bb_release.model.layout import Layout
from bb_release.model.release import Release


class Scope(enum.Enum):
    """What a step can change; so also what a failure in it may have changed."""

    RELEASE = "only the new release's folder"
    DATABASE = "the database, forward only"
    SITE = "the live site"


class Reporter(Protocol):
    """Where a run tells what it does."""

    @property
    def mask(self) -> Callable[[str], str]: ...  # a text without secrets, for what is kept of it
    def step_started(self, step: Step) -> None: ...
    def step_finished(self, step: Step, seconds: float) -> None: ...
    def step_failed(self, step: Step) -> None: ...
    def step_skipped(self, step: Step) -> None: ...
    def line(self, text: str) -> None: ...
    def say(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...


@dataclass
class Deployment:
    """One run, in memory. What a step needs is here, or can be read from the release's folder."""

    app: App
    release: Release
    previous: Release | None  # what a failed switch goes back to: what is live, where that is good
    reporter: Reporter
    lock: int  # the lock's descriptor, for programs that write
    site_environment: dict[str, str] = field(repr=False)
    build_environment: dict[str, str] = field(repr=False)
    switch_back: bool = True
    archive: Path | None = None  # the tree comes from this file, and not from the repository
    newest: bool = False  # packages as new as the requirements allow, though these did not change
    makes_bad: str = ""
    is_first: bool = False  # no release of this app was ever live and well
    failed_step: Step | None = None
    # by unit: its main process, that one's start and the invocation before the restart; when it was told to start,
    # on the boot clock; what proves that it runs from the release, and of which run of it
    left: dict[str, tuple[int, float | None, str]] = field(default_factory=dict)
    ordered: dict[str, float] = field(default_factory=dict)
    proof: dict[str, str] = field(default_factory=dict)
    proven: dict[str, str] = field(default_factory=dict)
    scope: Scope = Scope.RELEASE
    went_back: bool = False  # the switch was undone, and that is told
    unfinished: ReleaseError | None = None  # what went wrong when the release was live and recorded, told at the end

    @property
    def layout(self) -> Layout:
        return self.app.layout


@dataclass(frozen=True)
class Step:
    """One named act of a deployment."""

    name: str
    summary: str
    scope: Scope
    run: Callable[[Deployment], None]


def bug(error: Exception) -> BugFound:
    """What nobody expected, told like what was expected: the site is in some state, and a person wants to know it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return BugFound(
        f"this is a bug in bb-release: {type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}",
        remedy="see bb-release status for the site; please report the bug with the log",
        details=shortened(str(error), 500),
    )


def as_failure(error: Exception) -> ReleaseError:
    """An error as it is told: the operating system's refusal in our words, what nobody expected as a bug."""
    if isinstance(error, ReleaseError):
        return error
    return storage_failed(error) if isinstance(error, OSError) else bug(error)


def do_each(acts: Iterable[Callable[[], None]]) -> None:
    """Do each, though another one fails. Raises the first failure as a ReleaseError that tells of the others too."""
    failed: list[ReleaseError] = []
    for act in acts:
        try:
            act()
        except (ReleaseError, OSError) as error:
            failed.append(as_failure(error))
    for other in failed[1:]:
        failed[0].tell_also(other)
    if failed:
        raise failed[0]


def run_steps(steps: Iterable[Step], deployment: Deployment) -> None:
    """Run each step in order and record each that finished; a finished RELEASE step is not done again."""
    for step in steps:
        if step.scope is Scope.RELEASE and step.name in deployment.release.manifest.steps:
            deployment.reporter.step_skipped(step)
            continue
        deployment.reporter.step_started(step)
        began = time.monotonic()
        try:
            step.run(deployment)
            seconds = round(time.monotonic() - began, 3)
            if step.scope is Scope.RELEASE:
                finished = {**deployment.release.manifest.steps, step.name: seconds}
                deployment.release = deployment.release.noted(steps=finished)
        except Exception as error:
            deployment.failed_step = step
            deployment.reporter.step_failed(step)
            if isinstance(error, Explained):
                raise
            raise as_failure(error) from error
        deployment.reporter.step_finished(step, seconds)
