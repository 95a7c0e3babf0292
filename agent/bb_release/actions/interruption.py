"""What a signal does in each part of a run.

A hang-up never ends a run. Before the database is touched INT and TERM end it cleanly; during `migrate` the
first one is told what is being waited for and the second interrupts; after it the switch is finished first.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from bb_release.errors import Interrupted

_policy = "abort"
_count = 0
_say: Callable[[str], None] = print


def _handle(number: int, frame: FrameType | None) -> None:
    global _count  # noqa: PLW0603 - signal handlers have no other place
    _count += 1
    if _policy == "abort" or (_policy == "migrate" and _count > 1):
        raise Interrupted(
            f"interrupted by {signal.Signals(number).name}",
            remedy="run the command again when you are ready",
        )
    if _policy == "migrate":
        _say(
            "waiting for migrate to end, then the deploy goes on; once more interrupts migrate: its open transaction is"
            " rolled back, and nothing is switched"
        )
    else:
        _say("the switch is being finished first; the run ends after it")


@contextmanager
def handled(say: Callable[[str], None]) -> Iterator[None]:
    """Take over the signals of a run, and give them back."""
    global _say, _count, _policy
    _say, _count, _policy = say, 0, "abort"
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
    """`abort` or `migrate` while the block runs, `defer` in a part of a recovery."""
    global _policy, _count  # noqa: PLW0603
    before, _policy, _count = _policy, name, 0
    try:
        yield
    finally:
        _policy = before


def defer_from_now_on() -> None:
    """The rest of the run is ended first: what is live, what was told of it and the history must agree."""
    global _policy  # noqa: PLW0603
    _policy = "defer"
