"""One run at a time: a lock of the kernel's, freed when its holders are gone. Nobody ever removes it by hand."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from bb_release.errors import LockHeld
from bb_release.model.durable import open_own, read_plain
from bb_release.model.layout import Layout

LOOK_SECONDS = 0.1
NAMELESS_SECONDS = 1.0  # how much longer where no living holder is named: it begins or ends right now


@contextmanager
def app_lock(layout: Layout, *, action: str, who: str, wait_seconds: float = 0.0) -> Iterator[int]:
    """Hold the app's lock; yields its descriptor, for the programs of this run that write.

    A killed agent's children that inherited the descriptor keep the lock until they have ended.
    Raises LockHeld, naming who has it; OSError and PreflightFailed for what is no lock of ours.
    """
    descriptor = open_own(layout.lock, os.O_RDWR)
    try:
        _take(descriptor, layout, wait_seconds)
        facts = {"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        text = json.dumps({**facts, "action": action, "who": who}).encode()
        with suppress(OSError):  # only information: a full disk must not keep a run from starting
            os.pwrite(descriptor, text, 0)  # and not emptied first: somebody may be reading who it is
            os.truncate(descriptor, len(text))
        yield descriptor
        with suppress(OSError):
            os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, layout: Layout, wait_seconds: float) -> None:
    # `is_held` holds it for the instant of its look: that must not refuse anybody
    deadline = time.monotonic() + max(wait_seconds, LOOK_SECONDS)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            facts = holder(layout)  # read once: it may be gone at the next look
            alive = _is_alive(facts)
            if time.monotonic() >= deadline + (0 if alive else NAMELESS_SECONDS):
                raise _held(layout, facts, alive=alive) from None
            time.sleep(0.02 if wait_seconds == 0 else 0.2)
        else:
            return


def is_held(layout: Layout) -> bool:
    """Is a run under way? Looks without waiting, and without taking it from anyone for longer than the look."""
    try:
        descriptor = os.open(layout.lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(layout: Layout) -> dict[str, Any]:
    """What the holder wrote of itself; only information, nothing is decided from it."""
    try:
        facts = json.loads(read_plain(layout.lock))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _is_alive(facts: dict[str, Any]) -> bool:
    pid = facts.get("pid")
    return isinstance(pid, int) and os.path.exists(f"/proc/{pid}")  # noqa: PTH110 - a look at the process table


def _held(layout: Layout, facts: dict[str, Any], *, alive: bool) -> LockHeld:
    pid = facts.get("pid")
    who = (
        f"{facts.get('action', 'a run')} by {facts.get('who', 'someone')}"
        f" since {facts.get('since', '?')} (process {pid})"
        if facts
        else "it has not written who it is"
    )
    if isinstance(pid, int) and not alive:
        return LockHeld(
            f"a program that a killed run left behind still writes; the run was: {who}",
            remedy=f"wait for it to end (fuser {layout.lock} names it); the lock frees itself",
        )
    return LockHeld(
        f"another run is under way: {who}",
        remedy="wait for it (bb-release log -f follows it), then run the command again; deploy can wait: --wait 600",
    )
