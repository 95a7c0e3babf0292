"""What a signal does in each part of a run.

A hang-up never ends a run. Before the database is touched INT and TERM end it cleanly; during `migrate` the
first one is told what is being waited for and the second interrupts; after it the switch is finished first, and so is
a recovery. A run that is being ended is interrupted no further: its programs have to go, too.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from bb_release.errors import Interrupted

WAITING = {
    "migrate": "waiting for migrate to end, then the deploy goes on; once more interrupts migrate: its open transaction"
    " is rolled back, and nothing is switched",
    "recover": "what an earlier run left is put in order first; the run ends after it",
    "defer": "the switch is being finished first; the run ends after it",
    "end": "the run is being ended; its programs get ten seconds to end by themselves",
}

_policy = "abort"
_signals: list[str] = []  # their names, since this policy began
_say: Callable[[str], None] = print


def _handle(number: int, frame: FrameType | None) -> None:
    global _policy  # noqa: PLW0603 - signal handlers have no other place
    _signals.append(signal.Signals(number).name)
    if _policy == "abort" or (_policy == "migrate" and len(_signals) > 1):
        _policy = "end"
        raise _interrupted()
    _say(WAITING[_policy])


def _interrupted() -> Interrupted:
    return Interrupted(f"interrupted by {_signals[-1]}", remedy="run the command again when you are ready")


@contextmanager
def handled(say: Callable[[str], None]) -> Iterator[None]:
    """Take over the signals of a run, and give them back."""
    global _say, _policy
    _say, _policy = say, "abort"
    _signals.clear()
    before = {number: signal.signal(number, _handle) for number in (signal.SIGINT, signal.SIGTERM)}
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
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


def defer_from_now_on() -> None:
    """The rest of the run is ended first: what is live, what was told of it and the history must agree."""
    global _policy  # noqa: PLW0603
    _policy = _policy if _policy == "end" else "defer"
