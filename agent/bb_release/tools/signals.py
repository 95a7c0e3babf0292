"""The signals that interrupt a run, kept away for a moment."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that would interrupt the run wait until the block is done; a thread that it starts never takes one.

    The kernel may give one to any thread that does not block it (signal(7)), after a stop for one. The main thread,
    which acts on it, would not be woken, and would come upon it later, in another step.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
