"""What a signal does in each part of a run.

A hang-up never ends a run. Before the database is touched INT and TERM end it cleanly; during `migrate` the
first one is told what is being waited for and the second interrupts; after it the switch is finished first, and so is
a recovery. A run that is being ended is interrupted no further: its programs have to go, too. When it is over, its
exit code stands, whatever comes while its log is closed and its terminal waited for.

A signal is raised wherever Python is, so in a library's own code as well, whose `except Exception` may swallow it:
what was raised is kept, and raised again before the next step.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from bb_release.errors import Interrupted
from bb_release.model.step import Deployment, Step

WAITING = {
    "migrate": "waiting for migrate to end, then the deploy goes on; once more interrupts migrate: its open transaction"
    " is rolled back, and nothing is switched",
    "recover": "what an earlier run left is put in order first; the run ends after it",
    "begin": "the release is noted as begun first; the run ends after it",
    "defer": "the switch is being finished first; the run ends after it",
    "end": "the run is being ended; its programs get ten seconds to end by themselves",
}

_policy = "abort"
_signals: list[str] = []  # their names, since this policy began
_say: Callable[[str], None] = print
_let_go: Callable[[], None] = print


def _handle(number: int, frame: FrameType | None) -> None:
    global _policy  # noqa: PLW0603 - signal handlers have no other place
    if _policy == "over":
        _let_go()
        return
    _signals.append(signal.Signals(number).name)
    if _policy == "abort" or (_policy == "migrate" and len(_signals) > 1):
        _policy = "end"
        raise _interrupted()
    _say(WAITING[_policy])


def _interrupted() -> Interrupted:
    return Interrupted(f"interrupted by {_signals[-1]}", remedy="run the command again when you are ready")


@contextmanager
def handled(say: Callable[[str], None], let_go: Callable[[], None]) -> Iterator[None]:
    """Take over the signals of a run: for good, as the process has nothing else to do.

    `let_go` is what a signal does when the run is over: nobody waits for the terminal any longer.
    """
    global _say, _let_go, _policy  # noqa: PLW0603
    _say, _let_go, _policy = say, let_go, "abort"
    _signals.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _handle)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        _policy = "over"
        signal.signal(signal.SIGHUP, hangup)


@contextmanager
def policy(name: str) -> Iterator[None]:
    """`migrate` or `recover`, while the block runs."""
    global _policy  # noqa: PLW0603
    _signals.clear()
    before, _policy = _policy, name
    try:
        yield
    finally:
        _policy = before if _policy == name else _policy


def asked_to_end() -> Interrupted | None:
    """What a signal asked for that was told to wait for the end of a recovery; to be raised by who has ended it."""
    return _interrupted() if _signals else None


def hold_back() -> None:
    """A signal waits from now on until `let_come`: whoever ends the run must know of what it has begun."""
    global _policy  # noqa: PLW0603
    heed()
    _signals.clear()
    _policy = "begin"


def let_come() -> None:
    """Raise what has waited; from now on a signal ends the run again. Raises Interrupted."""
    global _policy  # noqa: PLW0603
    _policy = "end" if _signals else "abort"
    heed()


def heed() -> None:
    """Raise again what ended the run, where a library has swallowed it. Raises Interrupted."""
    if _policy == "end":
        raise _interrupted()


def heeded(steps: Iterable[Step]) -> Iterator[Step]:
    """The steps, each of which ends as interrupted when a signal came in it, whatever a library made of that."""
    for step in steps:
        heed()
        yield replace(step, run=_heeding(step.run))


def _heeding(run: Callable[[Deployment], None]) -> Callable[[Deployment], None]:
    def run_and_heed(deployment: Deployment) -> None:
        try:
            run(deployment)
        finally:
            heed()

    return run_and_heed


def defer_from_now_on() -> None:
    """The rest of the run is ended first: what is live, what was told of it and the history must agree."""
    global _policy  # noqa: PLW0603
    _policy = _policy if _policy == "end" else "defer"
