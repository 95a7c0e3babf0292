"""Processes that a program of ours left behind."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def end_holders_below(descriptor: int, grace_seconds: float = 2.0) -> None:
    """End what programs of ours left behind and that still holds this open file (the lock): TERM, then KILL.

    Nothing else is touched: a service that somebody's own command started is our child too, and holds no lock.
    """
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:  # nobody is left, as nearly always
        return
    import psutil

    lock = os.fstat(descriptor)
    strays = [child for child in psutil.Process().children(recursive=True) if _holds(child.pid, lock)]
    for stray in strays:
        with suppress(psutil.Error):
            stray.terminate()
    _, left = psutil.wait_procs(strays, timeout=grace_seconds)
    for stray in left:
        with suppress(psutil.Error):
            stray.kill()
    psutil.wait_procs(left, timeout=grace_seconds)


def _holds(pid: int, wanted: os.stat_result) -> bool:
    """Has the process this very file open?"""
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
    for each in descriptors:
        with suppress(OSError):
            if os.path.samestat(each.stat(), wanted):
                return True
    return False
